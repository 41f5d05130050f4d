"""Results as text for a terminal, as Markdown, and as web pages."""

from mriscope.reports.comparison import comparison_text as comparison_text
from mriscope.reports.text import describe_slices as describe_slices
from mriscope.reports.text import metrics_text as metrics_text
from mriscope.reports.text import slices_text as slices_text
