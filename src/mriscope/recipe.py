"""Recipe: all settings that determine a result, read from one YAML file; frozen and strict."""

import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mriscope.choices import Protocol, Scale
from mriscope.errors import RecipeError, check_type, suggest
from mriscope.files import read_file
from mriscope.recipe_yaml import DEEPEST, dump_yaml, load_yaml
from mriscope.recipes import find_recipe

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Number = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
Probability = Annotated[float, Field(ge=0, le=1)]
# Limits of a recipe: a YAML file of a few hundred bytes can stand for billions of values, or nest without end.
_MOST_BYTES, _MOST_VALUES, _LONGEST_TEXT, _LARGEST_NUMBER = 65_536, 10_000, 10_000, 2**63
_TOGETHER = "together"  # the type of an error about several settings


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse options that are no plain values, or not finite; no library that takes them looks for that."""
    for name, option in options.items():
        pending: list[Any] = [option]
        while pending:
            value = pending.pop()
            if isinstance(value, list | tuple | dict):
                pending += value.values() if isinstance(value, dict) else value
            elif isinstance(value, float) and not math.isfinite(value):
                raise PydanticCustomError(_TOGETHER, "{name} is not a finite number; give one", {"name": name})
            elif not isinstance(value, str | int | float | None):
                text = "{name} is {kind}; give a number, a text, true, false or a list"
                raise PydanticCustomError(_TOGETHER, text, {"name": name, "kind": type(value).__name__})
    return options


Options = Annotated[dict[str, Any], AfterValidator(_check_options)]


def _check_range(value: Any) -> Any:
    """Refuse what is no range before its ends are validated, with one sentence for all that can be wrong."""
    numbers = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(end, int | float) for end in value)
    if not numbers or value[0] > value[1]:
        raise PydanticCustomError("range", "Input should be two numbers, the lower one first, such as [0.8, 1]")
    return value


Area = Annotated[float, Field(gt=0, le=1)]
Factor = Annotated[float, Field(ge=0.1, le=10)]
AreaRange = Annotated[tuple[Area, Area], BeforeValidator(_check_range)]
FactorRange = Annotated[tuple[Factor, Factor], BeforeValidator(_check_range)]
SigmaRange = Annotated[tuple[Probability, Probability], BeforeValidator(_check_range)]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputSettings(Settings):
    """The input of a network."""

    size: Annotated[int, Field(ge=16, le=1024, strict=True)] = 128
    """Height and width of a slice in pixels, to which slices of any size are brought."""
    stretch: bool = False
    """Resize height and width each by itself; else the aspect is kept, on a black square."""
    scale: Scale = "unit"
    """raw: 0 to 255; unit: 0 to 1; imagenet: unit, then less 0.449 and divided by 0.226 (the mean over RGB)."""


class SplitSettings(Settings):
    """Division of the slices into training, validation and test part."""

    protocol: Protocol = "by_subject"
    test: Share = 0.2
    """Share of slices or subjects in the test part; the published protocol brings its own."""
    validation: Share = 0.1
    """Share of the training part that is held out to select the best epoch."""
    folds: Annotated[int, Field(ge=2, strict=True)] | None = None
    """Cross-validation: the test part is one of this many equal folds, whatever `test` says."""
    fold: Number | None = None
    """Which of them, from 0."""
    repeat: Number | None = None
    """Which of several divisions into folds, from 0; none: the first."""
    file: str | None = None
    """A split that `mriscope split` or a run wrote; it replaces protocol and shares."""

    @model_validator(mode="after")
    def _check_together(self) -> "SplitSettings":
        given = [name for name in ("folds", "fold", "repeat") if getattr(self, name) is not None]
        if self.file is not None and given:
            problem = f"file names a split already; leave out {' and '.join(given)}"
        elif self.folds is None and given:
            problem = f"{given[0]} is given without folds; add folds, such as 5"
        elif self.folds is not None and self.protocol == "published":
            problem = "the published split has no folds; use protocol by_subject or by_slice, or leave out folds"
        elif self.folds is not None and self.fold is None:
            problem = f"folds is {self.folds} and no fold is named; add fold, 0 to {self.folds - 1}, or use crossval"
        elif self.folds is not None and self.fold is not None and self.fold >= self.folds:
            problem = f"fold is {self.fold} of {self.folds}; they count from 0 to {self.folds - 1}"
        else:
            return self
        raise PydanticCustomError(_TOGETHER, "{problem}", {"problem": problem})


class Transform(Settings):
    """A random change of some slices of a batch, drawn independently."""

    probability: Probability = 0.5


class AffineSettings(Transform):
    """Rotation, scaling and shift about the centre of a slice."""

    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Degrees, either way."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the side, either way, along both axes."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """0.05 gives 0.95 to 1.05 times the size."""


class CropSettings(Transform):
    """A part of a slice, resized to the whole (random resized crop)."""

    area: AreaRange = (0.8, 1.0)
    """Share of the slice's area."""
    ratio: FactorRange = (0.75, 1.33)
    """Width over height; where the area leaves no room for one, the nearest that fits."""


class BrightnessContrastSettings(Transform):
    """Mean of the brain's pixels, and spread about it."""

    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Shift of the brain's pixels, either way; 1 is black to white."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0.2 gives 0.8 to 1.2 times the spread about the brain's mean."""


class GammaSettings(Transform):
    """Pixels, from 0 to 1, raised to a power."""

    range: FactorRange = (0.8, 1.2)


class NoiseSettings(Transform):
    """Independent noise of every pixel."""

    sigma: SigmaRange = (0.0, 0.05)
    """Standard deviation; 1 is black to white."""


class BiasFieldSettings(Transform):
    """A smooth gain over the slice, as receive coils cause it."""

    strength: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """At most; 0.3 gives gains between 0.7 and 1.3."""


class CoarseDropoutSettings(Transform):
    """Square holes."""

    holes: Annotated[int, Field(ge=1, le=1000)] = 8
    """At most; from 1 to this many are drawn."""
    size: Count = 8
    """Side in pixels."""


class AugmentationSettings(Settings):
    """Random changes of the training slices; none: never."""

    flip: Probability | None = None
    """Probability of a horizontal flip."""
    affine: AffineSettings | None = None
    crop: CropSettings | None = None
    bias_field: BiasFieldSettings | None = None
    brightness_contrast: BrightnessContrastSettings | None = None
    gamma: GammaSettings | None = None
    gaussian_noise: NoiseSettings | None = None
    """Within the brain only."""
    rician_noise: NoiseSettings | None = None
    """As in magnitude images: the background is raised too."""
    coarse_dropout: CoarseDropoutSettings | None = None


class TrainingSettings(Settings):
    """How a network is trained."""

    epochs: Count = 10
    batch_size: Count = 32
    """Slices of a step. Under torchrun all processes share them, batch norm included; only the batch norms of timm's
    networks are each process's own, so that there the number of processes changes the result."""
    objective: Literal["cross_entropy", "focal"] = "cross_entropy"
    focus: Annotated[float, Field(ge=0, le=10)] = 2.0
    """Gamma of the focal objective; 0 makes it cross entropy."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label's weight that is spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: losses are weighted in inverse proportion to the class's share of the training part, 1 on average."""
    hard_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Hard example mining: only this share of each batch, the slices with the highest loss, is trained on."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """balanced: as many slices as the training part has, drawn with replacement, each class equally often."""
    weight_averaging: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is validated and kept in their place."""
    optimizer: str = "AdamW"
    """Name of a class of torch.optim."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    optimizer_options: Options = {}
    """Further arguments of the optimizer, such as weight_decay."""
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = "constant"
    schedule_options: Options = {}
    """Further arguments of the schedule's class in torch.optim.lr_scheduler."""
    keep: Literal["best", "last"] = "best"
    """Which weights are kept: those of the epoch with the lowest validation loss, or the last."""
    patience: Count | None = None
    """Stop after this many epochs without a lower validation loss; none: never."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the steps; auto: bfloat16 where the device computes in it by instructions of its own, else float32."""
    augmentation: AugmentationSettings = AugmentationSettings()


class StudyRow(Settings):
    """What the reference study reports of the same settings; shown for comparison, without effect on the run."""

    run: str
    """The study's name of the run."""
    rank: Count
    accuracy: Annotated[float, Field(ge=0, le=100)]
    """In per cent."""


class Recipe(Settings):
    """All settings that determine a result."""

    model: str
    model_options: Options = {}
    data: str = "phantom"
    """A source, as mriscope.read takes it."""
    manifest: str | None = None
    """A CSV file with the subjects of the source's slices; none: they come from the source or its pixels."""
    severity: tuple[str, ...] | None = None
    """The classes from the least to the most severe, for ordinal metrics; none: their names give the order."""
    input: InputSettings = InputSettings()
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    study: StudyRow | None = None


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe from its YAML file.

    Args:
        path: the file, or the name of a recipe of the package such as `baseline_cnn`; a file goes before a name.
        changes: settings that replace those of the file, each `key=value` such as `training.epochs=3`.

    Raises:
        RecipeError: there is no such file or recipe, or settings are unknown or unfit; all of them are listed.
        ArgumentTypeError: the path is no path.
    """
    check_type("the recipe", path, (str, Path), "the path of a YAML file, or a recipe's name")
    try:
        content = load_yaml(read_file(find_recipe(path), _MOST_BYTES).decode("utf-8-sig"))
    except RecipeError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(str(path), [f"cannot be read ({reason}); name a YAML recipe"]) from error
    except ValueError as error:
        raise RecipeError(str(path), [f"is not valid YAML: {error}"]) from error
    if not isinstance(content, dict):
        raise RecipeError(str(path), [f"holds {_show(content)} where settings such as `model: baseline_cnn` belong"])
    return make_recipe(_apply_changes(content, changes), str(path))


def make_recipe(settings: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Make a recipe from nested plain values; `where` begins the message of an error.

    Raises:
        RecipeError: settings are unknown or unfit; all of them are listed.
        ArgumentTypeError: the settings are no mapping.

    Example:
        >>> recipe = make_recipe({"model": "compact_cnn", "training": {"epochs": 3}})
        >>> recipe.training.epochs, recipe.split.protocol
        (3, 'by_subject')
    """
    check_type("settings", settings, Mapping, "a mapping such as {'model': 'compact_cnn'}")
    problem = _find_excess(settings)
    if problem:
        raise RecipeError(where, [problem])
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise RecipeError(where, [_describe_error(item) for item in error.errors(include_url=False)]) from error


def _find_excess(settings: object) -> str | None:
    """Return in a sentence what makes settings too large to be a recipe; None where nothing does."""
    pending: list[tuple[str, object, int]] = [("", settings, 0)]
    for _ in range(_MOST_VALUES):
        if not pending:
            return None
        key, value, depth = pending.pop()
        if isinstance(value, Mapping):
            if other := [name for name in value if not isinstance(name, str) or len(name) > _LONGEST_TEXT]:
                return f"the key {_show(other[0])} is no short text; put a number in quotes"
            pending += [(f"{key}.{name}"[-100:], one, depth + 1) for name, one in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(key, one, depth + 1) for one in value]
        elif isinstance(value, str) and len(value) > _LONGEST_TEXT:
            return f"{key.strip('.')} has {len(value):,} characters, at most {_LONGEST_TEXT:,} are taken"
        elif isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
            return f"{key.strip('.')} is {_show(value)}, a number of more than 64 bits; give a smaller one"
        if depth > DEEPEST:
            return f"is nested more than {DEEPEST} deep; a recipe has sections, options and lists"
    return f"holds more than {_MOST_VALUES:,} values; leave out what repeats others (YAML's *)"


def write_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML, with every default spelled out."""
    return dump_yaml(recipe.model_dump())


def flatten_settings(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested settings: one value for each dotted key, such as training.epochs."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten_settings(value, f"{above}{key}.") if nested else {f"{above}{key}": value}
    return flat


def _apply_changes(settings: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Put `key=value` changes into the nested settings, which are changed in place."""
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise RecipeError("--set", [f"{change!r} is no key=value pair, such as training.epochs=3"])
        *sections, name = key.strip().split(".")
        target: Any = settings
        for section in sections:
            if isinstance(target, dict) and target.get(section) is None:
                target[section] = {}
            target = target[section] if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise RecipeError("--set", [f"{key} lies under a setting that holds a single value"])
        try:
            target[name] = load_yaml(value)
        except ValueError as error:
            raise RecipeError("--set", [f"the value of {key} is not valid YAML: {_show(value)}"]) from error
    return settings


def _describe_error(item: Any) -> str:
    """Turn one of pydantic's errors into a sentence: where, what was found, what was expected."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{key[-100:]}: unknown key; {suggest(str(item['loc'][-1]), _known_keys(item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{key}: missing; every recipe needs it"
    if item["type"] == _TOGETHER:
        return f"{key}: {item['msg']}"
    expected = item["msg"].removeprefix("Input ")
    return f"{key}: {_show(item['input'])} {expected[0].lower()}{expected[1:]}"


def _known_keys(sections: Sequence[Any]) -> list[str]:
    """Return the keys of a section of recipes, which is named by the keys above it."""
    settings: type[BaseModel] = Recipe
    for section in sections:
        annotation = settings.model_fields[str(section)].annotation
        kinds = (annotation, *get_args(annotation))  # of an optional section, what it is when it is there
        settings = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(settings.model_fields)


def _show(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**40:  # Python refuses to write out thousands of digits
        return f"a number of {value.bit_length():,} bits"
    return "nothing" if value is None else reprlib.repr(value)
