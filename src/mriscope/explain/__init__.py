"""Where in a slice the evidence for a class lies; works on any PyTorch model, without the rest of mriscope."""

from mriscope.explain.layers import channels_last as channels_last
from mriscope.explain.layers import tokens as tokens
from mriscope.explain.maps import CAM as CAM
from mriscope.explain.maps import METHODS as METHODS
from mriscope.explain.maps import AblationCAM as AblationCAM
from mriscope.explain.maps import EigenCAM as EigenCAM
from mriscope.explain.maps import EigenGradCAM as EigenGradCAM
from mriscope.explain.maps import ElementwiseGradCAM as ElementwiseGradCAM
from mriscope.explain.maps import Explanation as Explanation
from mriscope.explain.maps import FinerCAM as FinerCAM
from mriscope.explain.maps import FullGrad as FullGrad
from mriscope.explain.maps import GradCAM as GradCAM
from mriscope.explain.maps import GradCAMPlusPlus as GradCAMPlusPlus
from mriscope.explain.maps import HiResCAM as HiResCAM
from mriscope.explain.maps import LayerCAM as LayerCAM
from mriscope.explain.maps import ScoreCAM as ScoreCAM
from mriscope.explain.maps import XGradCAM as XGradCAM
from mriscope.explain.maps import explain as explain
from mriscope.explain.overlays import grid as grid
from mriscope.explain.overlays import overlay as overlay
