"""What slices tell of their subjects, and of what the parts of a split share; works on plain arrays.

`mriscope.audit(slices)` or `mriscope.audit(source)` does what the command `mriscope audit` does.
"""

import sys

from mriscope.audit.similarity import nearest as nearest
from mriscope.audit.subjects import RecoveredSubjects as RecoveredSubjects
from mriscope.audit.subjects import recover_subjects as recover_subjects
from mriscope.lazy import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
