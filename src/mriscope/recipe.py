"""Recipe: everything that decides a result, read from one YAML file; frozen and strict."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mriscope.errors import RecipeError, suggest

Options = dict[str, Any]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Settings that refuse unknown keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSettings(Settings):
    """What a network is fed."""

    size: Annotated[int, Field(ge=16, le=1024)] = 128
    """Height and width of a slice in pixels."""
    scale: Literal["raw", "unit", "imagenet"] = "unit"
    """raw: 0 to 255; unit: 0 to 1; imagenet: unit, then less 0.449 and divided by 0.226 (the mean over RGB)."""


class SplitSettings(Settings):
    """Which slices train, choose and judge a model."""

    protocol: Literal["published", "by_slice", "by_subject"] = "by_subject"
    test: Share = 0.2
    """Share of slices or subjects in the test part; the published protocol brings its own."""
    validation: Share = 0.1
    """Share of the training part that is held out to choose the best epoch."""


class TrainingSettings(Settings):
    """How weights are found."""

    epochs: Count = 10
    batch_size: Count = 32
    objective: Literal["cross_entropy", "focal"] = "cross_entropy"
    focus: Annotated[float, Field(ge=0, le=10)] = 2.0
    """Gamma of the focal objective; 0 makes it cross entropy."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label's weight that is spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: losses weigh in inverse proportion to the class's share of the training part, 1 on average."""
    hard_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Hard example mining: step on this share of each batch alone, the slices with the highest loss."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """balanced: as many slices as the training part has, drawn with replacement, each class equally often."""
    weight_averaging: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is judged and kept in their place."""
    optimizer: str = "AdamW"
    """Name of a class of torch.optim."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    optimizer_options: Options = {}
    """Further arguments of the optimizer, such as weight_decay."""
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = "constant"
    schedule_options: Options = {}
    """Further arguments of the torch.optim.lr_scheduler class behind the schedule."""
    keep: Literal["best", "last"] = "best"
    """Which weights become the model: those of the epoch with the lowest validation loss, or the last."""
    patience: Count | None = None
    """Stop after this many epochs without a lower validation loss; none: never."""
    precision: Literal["float32", "bfloat16"] = "float32"


class Recipe(Settings):
    """Everything that decides a result."""

    model: str
    model_options: Options = {}
    data: str = "phantom"
    """A source that mriscope.data.read takes."""
    input: InputSettings = InputSettings()
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from its YAML file.

    Args:
        path: the file.
        changes: settings to put in the place of the file's, each `key=value` such as `training.epochs=3`.

    Raises:
        RecipeError: the file cannot be read, or settings are unknown or unfit; all of them are listed.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)  # noqa: S506 - it is a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(str(path), [f"cannot be read ({reason}); name a YAML recipe"]) from error
    except yaml.YAMLError as error:
        raise RecipeError(str(path), [f"is not valid YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(content, dict):
        raise RecipeError(
            str(path), [f"holds {_describe(content)} where settings such as `model: baseline_cnn` belong"]
        )
    return make_recipe(_changed(content, changes), str(path))


def make_recipe(settings: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from nested plain values; `where` begins the message of an error.

    Raises:
        RecipeError: settings are unknown or unfit; all of them are listed.
    """
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise RecipeError(where, [_problem(item) for item in error.errors()]) from error


def write_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, with every default spelled out."""
    return yaml.safe_dump(recipe.model_dump(), sort_keys=False)


def _changed(settings: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise RecipeError("--set", [f"{change!r} is no key=value pair, such as training.epochs=3"])
        *rooms, name = key.strip().split(".")
        place: Any = settings
        for room in rooms:
            place = place.setdefault(room, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise RecipeError("--set", [f"{key} lies under a setting that holds a single value"])
        try:
            place[name] = yaml.load(value, _Loader)  # noqa: S506 - it is a SafeLoader
        except yaml.YAMLError as error:
            raise RecipeError("--set", [f"the value of {key} is not valid YAML: {value!r}"]) from error
    return settings


def _problem(item: Any) -> str:
    """One sentence for one of pydantic's findings: where, what was found, what was expected."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key; {suggest(str(item['loc'][-1]), _known_keys(item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{key}: missing; every recipe needs it"
    expected = item["msg"].removeprefix("Input ")
    return f"{key}: {_describe(item['input'])} {expected[0].lower()}{expected[1:]}"


def _known_keys(rooms: Sequence[Any]) -> list[str]:
    settings: type[BaseModel] = Recipe
    for room in rooms:
        annotation = settings.model_fields[str(room)].annotation
        settings = cast(type[BaseModel], annotation)
    return list(settings.model_fields)


def _describe(value: object) -> str:
    return "nothing" if value is None else f"{value!r}"


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice (YAML keeps the last) and reads 1e-3 as a number (YAML 1.2)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
