"""Where in a slice the evidence for a class lies; works on any PyTorch model, without the rest of mriscope.

`explain` computes maps of several methods at once, and is also what a call of this package does; the classes bind one
method to a model. `mriscope.explain.metrics` measures whether maps mean something.
"""

import sys

from mriscope.explain.cam import CAM as CAM
from mriscope.explain.cam import AblationCAM as AblationCAM
from mriscope.explain.cam import EigenCAM as EigenCAM
from mriscope.explain.cam import EigenGradCAM as EigenGradCAM
from mriscope.explain.cam import ElementwiseGradCAM as ElementwiseGradCAM
from mriscope.explain.cam import FinerCAM as FinerCAM
from mriscope.explain.cam import FullGrad as FullGrad
from mriscope.explain.cam import GradCAM as GradCAM
from mriscope.explain.cam import GradCAMPlusPlus as GradCAMPlusPlus
from mriscope.explain.cam import HiResCAM as HiResCAM
from mriscope.explain.cam import LayerCAM as LayerCAM
from mriscope.explain.cam import ScoreCAM as ScoreCAM
from mriscope.explain.cam import XGradCAM as XGradCAM
from mriscope.explain.layers import channels_last as channels_last
from mriscope.explain.layers import tokens as tokens
from mriscope.explain.maps import Explanation as Explanation
from mriscope.explain.maps import explain as explain
from mriscope.explain.methods import METHODS as METHODS
from mriscope.explain.overlays import grid as grid
from mriscope.explain.overlays import overlay as overlay
from mriscope.lazy import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
