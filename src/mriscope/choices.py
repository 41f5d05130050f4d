"""The values of settings that take one of a few: recipes, functions and the command line name them from here.

They are Literals rather than enums, so that they stay plain texts in YAML, JSON and MLflow; pydantic, typer (in --help
and in the shell's completion) and the type checker all know them.
"""

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Scale = Literal["raw", "unit", "imagenet"]
FoldProtocol = Literal["by_subject", "by_slice"]
Protocol = Literal["published", "by_slice", "by_subject"]
EvaluatedPart = Literal["test", "validation"]
ExportFormat = Literal["onnx", "safetensors", "mlflow", "html"]
Plane = Literal["axial", "coronal", "sagittal"]
Level = Literal["slice", "subject"]
Task = Literal["four_classes", "three_classes", "non_vs_demented"]
PoolingMethod = Literal["mean_probability", "mean_logit", "majority"]
PoolingChoice = Literal[PoolingMethod, "chosen"]
Baseline = Literal["brain_fraction", "csf_fraction", "majority_class", "nearest_neighbour"]
Method = Literal[
    "gradcam",
    "gradcam++",
    "xgradcam",
    "hirescam",
    "layercam",
    "elementwise",
    "eigencam",
    "eigengradcam",
    "scorecam",
    "ablationcam",
    "finercam",
    "fullgrad",
    "gradxinput",
    "integrated_gradients",
    "smoothgrad",
    "guided_gradcam",
    "occlusion",
]
Orientation = Literal["header", "axes"]
SkullStripping = Literal["deepbet", "none"]
BiasCorrection = Literal["n4", "none"]
Registration = Literal["affine", "none"]
Intensity = Literal["minmax", "tissue", "percentiles"]
