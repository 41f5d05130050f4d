"""Results as text for a terminal, as Markdown, and as web pages."""
