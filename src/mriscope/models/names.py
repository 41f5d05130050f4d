"""The names and sizes of the models, readable without torch."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mriscope.errors import RecipeError, UnknownNameError, suggest


@dataclass(frozen=True)
class ModelSummary:
    """Size and cost of a network, known without training it.

    Attributes:
        name: as recipes write it.
        parameters: number of parameters, frozen ones included.
        macs: multiply-accumulate operations for one slice of 128×128.
        about: one sentence.
    """

    name: str
    parameters: int
    macs: int
    about: str


SUMMARIES = (
    ModelSummary(
        "baseline_cnn",
        8_408_132,
        88_605_184,
        "The study's BaselineCNN: conv3 32, conv3 64, FC 128; also its HEM and weighted-sampler runs.",
    ),
    ModelSummary(
        "baseline_cnn_ce",
        8_408_260,
        88_605_184,
        "BaselineCNN with batch norm after both stages and dropout 0.3, 0.4 and 0.5.",
    ),
    ModelSummary(
        "baseline_cnn_ce_conv_add",
        4_288_068,
        159_908_352,
        "BaselineCNN with a third stage of 128 channels and dropout 0.1 before the output.",
    ),
    ModelSummary(
        "baseline_cnn_ce_conv_added_drop_minus",
        4_288_068,
        159_908_352,
        "BaselineCNN with a third stage of 128 channels and no dropout.",
    ),
    ModelSummary(
        "baseline_cnn_ce_drop01",
        8_408_260,
        88_605_184,
        "BaselineCNN with batch norm after both stages and dropout 0.1 before the output.",
    ),
    ModelSummary(
        "baseline_cnn_ce_dropped",
        8_408_260,
        88_605_184,
        "BaselineCNN with batch norm after both stages and dropout 0.2 and 0.3.",
    ),
    ModelSummary(
        "compact_cnn",
        61_300,
        5_521_664,
        "Four strided convolutions with batch norm, global average pooling and dropout: 61 thousand weights.",
    ),
    ModelSummary(
        "different_baseline",
        2_110_724,
        61_079_808,
        "The study's DifferentOdBaseline: conv5 16, conv5 32, FC 64, no batch norm.",
    ),
    ModelSummary(
        "efficientnet_b3",
        11_484_508,
        312_943_936,
        "The study's EfficientNet-B3: from ImageNet weights, FC 512 before the output, nothing frozen.",
    ),
    ModelSummary("gpt_cnn", 4_276_004, 115_622_144, "The study's ModelOdGPT: conv5 stages 16, 32, 64, FC 256, FC 64."),
    ModelSummary(
        "keras_like",
        2_618_052,
        267_657_472,
        "The study's KerasLikeModel: conv3 stages 16, 64, 128, 256, 512, FC 128, FC 64.",
    ),
    ModelSummary(
        "resnet50",
        23_509_956,
        1_308_893_184,
        "The study's AdvancedCNN: ResNet-50 from ImageNet weights, frozen but for its last stage and the head.",
    ),
    ModelSummary(
        "strided_cnn",
        126_948,
        11_075_584,
        "Three strided convolutions whose head reads 8×8 places: the published split in seconds on a CPU.",
    ),
    ModelSummary(
        "study_model",
        27_575_060,
        4_612_456_960,
        "The study's StudyModel_1 (its run is StudyModel_Halved): paths of conv3 and conv5, joined by FC 128.",
    ),
    ModelSummary(
        "subject_cnn",
        1_732_776,
        12_681_216,
        "Three strided convolutions that learn whose brain it is, and give that subject's class.",
    ),
)
"""What registry.list_models computes from this package's networks; a test compares the two."""
ESTIMATORS = ("nearest_neighbour", "tissue_families", "tissue_histograms")
MODEL_NAMES = tuple(sorted([*(one.name for one in SUMMARIES), *ESTIMATORS]))
"""What is registered when every module of this package is imported; a test compares the two."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "compact_cnn": ("dropout",),
    "efficientnet_b3": ("weights", "frozen"),
    "resnet50": ("weights", "frozen"),
    "strided_cnn": ("width", "places", "dropout", "mirror"),
    "subject_cnn": ("subjects", "width", "places", "dropout", "mirror"),
}
"""What `model_options` may name; models that are left out have none. A test compares it with their functions."""
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


def check_option_names(model: str, given: Iterable[str], known: Collection[str] | None = None) -> None:
    """Refuse options that a model does not have.

    Args:
        model: its name; what stands behind "timm:" is left to timm.
        given: the names of the options.
        known: those that the model has; None takes OPTIONS.

    Raises:
        RecipeError: the message names the near ones.

    Example:
        >>> check_option_names("compact_cnn", ["dropout"])
    """
    if known is None and model.startswith(TIMM):
        return
    names = OPTIONS.get(model, ()) if known is None else known
    for option in given:
        if option not in names:
            hint = suggest(option, names) if names else "it has no options"
            raise RecipeError("model_options", [f"{model} has no option {option!r}; {hint}"])
