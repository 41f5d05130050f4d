"""The names of the models, readable without torch."""

from mriscope.errors import UnknownNameError

MODEL_NAMES = (
    "baseline_cnn",
    "baseline_cnn_ce",
    "baseline_cnn_ce_conv_add",
    "baseline_cnn_ce_conv_added_drop_minus",
    "baseline_cnn_ce_drop01",
    "baseline_cnn_ce_dropped",
    "compact_cnn",
    "different_baseline",
    "efficientnet_b3",
    "gpt_cnn",
    "keras_like",
    "nearest_neighbour",
    "residual_cnn",
    "resnet50",
    "study_model",
    "tissue_families",
    "tissue_histograms",
)
"""What is registered when every module of this package is imported; a test compares the two."""
TIMM = "timm:"


def check_model_name(name: str) -> None:
    """Refuse a name that no model of this package has; what stands behind "timm:" is left to timm.

    Raises:
        UnknownNameError: the message names the near ones.

    Example:
        >>> check_model_name("compact_cnn")
    """
    if not name.startswith(TIMM) and name not in MODEL_NAMES:
        raise UnknownNameError("model", name, MODEL_NAMES)
