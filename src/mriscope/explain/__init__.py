"""Where in a slice the evidence for a class lies; works on any PyTorch model, without the rest of mriscope."""

from mriscope.explain.cams import GradCAM as GradCAM
from mriscope.explain.overlays import grid as grid
from mriscope.explain.overlays import overlay as overlay
