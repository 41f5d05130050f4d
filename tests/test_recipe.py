import os
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mriscope.errors import RecipeError
from mriscope.recipe import Recipe, make_recipe, read_recipe, write_recipe
from mriscope.recipe_yaml import dump_yaml, load_yaml

FAN_OUT = ", ".join(
    f"{name}: &{name} [*{above}, *{above}, *{above}, *{above}]" for above, name in pairwise("abcdefghijk")
)


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str):
        file = tmp_path / "recipe.yaml"
        file.write_text(text)
        return file

    return write


def test_a_recipe_is_read_with_its_defaults(recipe_file):
    recipe = read_recipe(recipe_file("model: baseline_cnn\ntraining: {epochs: 3, learning_rate: 1e-2}\n"))
    assert recipe == Recipe.model_validate({"model": "baseline_cnn", "training": {"epochs": 3, "learning_rate": 0.01}})
    assert recipe.training.batch_size == 32
    assert recipe.data == "phantom"


def test_what_is_written_is_read_back_the_same(recipe_file):
    recipe = make_recipe(
        {"model": "m", "training": {"optimizer_options": {"weight_decay": 1e-5, "betas": [0.9, 0.99]}}}
    )
    assert read_recipe(recipe_file(write_recipe(recipe))) == recipe


def test_changes_take_the_place_of_the_files_settings(recipe_file):
    file = recipe_file("model: m\ntraining: {epochs: 3}\n")
    recipe = read_recipe(file, ["training.epochs=7", "seed=2", "training.optimizer_options.weight_decay=1e-3"])
    assert (recipe.training.epochs, recipe.seed) == (7, 2)
    assert recipe.training.optimizer_options == {"weight_decay": 0.001}


def test_every_problem_is_listed_at_once_with_the_near_names(recipe_file):
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe_file("modle: m\ntraining: {lr: 1e-3, epochs: none, schedule: cosin}\nsplit: {test: 1.5}\n"))
    text = str(caught.value)
    assert "recipe.yaml: 6 settings do not fit" in text
    assert "modle: unknown key; did you mean model?" in text
    assert "model: missing" in text
    assert "training.lr: unknown key; did you mean learning_rate?" in text
    assert "training.epochs: 'none' should be a valid integer" in text
    assert "training.schedule: 'cosin' should be 'constant', 'cosine', 'one_cycle' or 'plateau'" in text
    assert "split.test: 1.5 should be less than 1" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: m\nmodel: n\n", "the key 'model' stands twice"),
        ("model: [", "is not valid YAML"),
        ("just words", "holds 'just words' where settings"),
        ("", "holds nothing where settings"),
        ("model: !!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("model: " + "[" * 5000, "is not valid YAML"),
        (f"model: m\nmodel_options: {{a: &a [x, x, x, x], {FAN_OUT}}}", "holds more than 10,000 values"),
        (f"model: m\nx: {{a: &a [x, x, x, x], {FAN_OUT}}}\ntraining: {{epochs: *k}}", "holds more than 10,000 values"),
        ("model: m\nmodel_options: &m {a: *m}", "is nested more than 20 deep"),
        ("model: m\nmodel_options: {dropout: .nan}", "model_options: dropout is not a finite number; give one"),
        (
            "model: m\ntraining: {schedule_options: {T_max: .nan}}",
            "training.schedule_options: T_max is not a finite number",
        ),
    ],
)
def test_files_that_are_no_recipe_say_why(recipe_file, text, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(recipe_file(text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        RecipeError, match=r"absent\.yaml: cannot be read \(there is no such file, and no recipe of that name\)"
    ):
        read_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "is no key=value pair"),
        ("model.name=x", "lies under a setting that holds a single value"),
        ("training.epochs=[", "is not valid YAML"),
        (r'model="\UFFFFFFFF"', "is not valid YAML"),
    ],
)
def test_unfit_changes_say_why(recipe_file, change, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(recipe_file("model: m"), [change])


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        make_recipe({"model": "m"}).seed = 3


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ({"fold": 1}, "split: fold is given without folds; add folds, such as 5"),
        ({"repeat": 1}, "split: repeat is given without folds; add folds, such as 5"),
        ({"folds": 5}, "split: folds is 5 and no fold is named; add fold, 0 to 4, or use crossval"),
        ({"folds": 5, "fold": 5}, "split: fold is 5 of 5; they count from 0 to 4"),
        ({"folds": 5, "fold": 0, "protocol": "published"}, "split: the published split has no folds; use protocol"),
        ({"file": "x", "folds": 5, "fold": 0}, "split: file names a split already; leave out folds and fold"),
        ({"folds": 1, "fold": 0}, "split.folds: 1 should be greater than or equal to 2"),
        ({"folds": 5, "fold": True}, "split.fold: True should be a valid integer"),
    ],
)
def test_folds_and_files_fit_together(split, problem):
    with pytest.raises(RecipeError) as found:
        make_recipe({"model": "m", "split": split})
    assert found.value.problems[0].startswith(problem)


SIXTIES = ":".join(["59"] * 3000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: m\nx: " + "{a: " * 2000 + "1" + "}" * 2000, "nested more than 20 deep"),
        ("- " * 20_000, "nested more than 20 deep"),
        ("\n".join(f"k{number}: 1" for number in range(20_000)), "at most 65,536 are read"),
        ("model: m\n" + "\n".join(f"k{number}: 1" for number in range(6_000)), "6,000 settings do not fit"),
        ("model: m\nseed: " + "9" * 5000, "seed: '999.+ should be a valid integer"),
        (f"model: m\nseed: {SIXTIES}", "should be a valid integer"),
        (f"model: m\nseed: !!int {SIXTIES}", r"a tag \(!\) stands before a value"),
        ("model: m\ntraining: {batch_size: 1" + "0" * 30 + "}", r"training\.batch_size is .+ more than 64 bits"),
        ("model: m\ntraining: {epochs: 1000000000}", r"training\.epochs: 1000000000 should be less than or equal to"),
        ("model: m\ntraining: {learning_rate: .inf}", "inf should be a finite number"),
        ("model: " + "x" * 20_000, "model has 20,000 characters, at most 10,000 are taken"),
        ("model: m\na: &a {x: 1}\nb: {<<: *a}", "b: unknown key"),
        ("model: m\n[1, 2]: 3", "a key is no text"),
        ("model: m\nmodel_options: {1: 2}", "the key 1 is no short text"),
        ("model: m\nmodel_options: !!set {a}", "a tag"),
        ("model: m\nmodel_options: {a: [1, [.inf]]}", "a is not a finite number"),
        (r'model: "\UFFFFFFFF"', "stands for no character"),
    ],
)
def test_what_is_too_large_or_no_plain_value_is_refused_at_once(recipe_file, text, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(recipe_file(text))
    assert len(str(caught.value)) < 5000


def test_a_tag_on_the_command_line_and_a_pipe_are_refused(recipe_file, tmp_path):
    for value in ("!!python/object/apply:os.system [true]", "[" * 3000):
        with pytest.raises(RecipeError, match="is not valid YAML"):
            read_recipe(recipe_file("model: m\n"), [f"model_options.x={value}"])
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "~nobody-of-that-name/x", "a\0b", "x" * 5000):
        with pytest.raises(RecipeError, match="cannot be read"):
            read_recipe(path)


def test_settings_from_python_are_checked_too():
    deep: dict[str, object] = {}
    place = deep
    for _ in range(5000):
        place["a"] = place = {}
    for settings in (deep, {"model": "m", "seed": 10**5000}, {"model": "m", "model_options": {"a": object()}}):
        with pytest.raises(RecipeError):
            make_recipe(settings)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
@example({"\x85": ["\u2028a", "b\u2029", " \x85 "]})
def test_plain_values_survive_the_way_to_yaml_and_back(value):
    assert load_yaml(dump_yaml({"key": value})) == {"key": value}
