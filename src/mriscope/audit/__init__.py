"""What the slices themselves tell of whose brain they show; works on plain arrays, without the rest of mriscope."""

from mriscope.audit.similarity import nearest as nearest
from mriscope.audit.subjects import RecoveredSubjects as RecoveredSubjects
from mriscope.audit.subjects import recover_subjects as recover_subjects
