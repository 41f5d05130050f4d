from itertools import pairwise

import pytest

from mriscope.errors import RecipeError
from mriscope.recipe import Recipe, make_recipe, read_recipe, write_recipe

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
        ("model: m\nmodel_options: &m {a: *m}", "holds more than 10,000 values"),
        ("model: m\nmodel_options: {dropout: .nan}", "model_options: dropout is not a number; give one"),
        ("model: m\ntraining: {schedule_options: {T_max: .nan}}", "training.schedule_options: T_max is not a number"),
    ],
)
def test_files_that_are_no_recipe_say_why(recipe_file, text, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(recipe_file(text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"absent\.yaml: cannot be read \(No such file or directory\)"):
        read_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "is no key=value pair"),
        ("model.name=x", "lies under a setting that holds a single value"),
        ("training.epochs=[", "is not valid YAML"),
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
