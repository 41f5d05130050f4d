"""The recipes that come with the package are found by name, wherever one is."""

import json
from pathlib import Path

import pytest

from mriscope import cli
from mriscope.errors import RecipeError
from mriscope.recipe import read_recipe
from mriscope.recipes import find_recipe, find_recipes, match_recipes

NAMES = [file.stem for file in match_recipes("*")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_recipe_is_found_by_its_name_its_group_and_its_path_in_the_sources():
    assert len(NAMES) == len(set(NAMES)) == 27
    for file in match_recipes("*"):
        group = file.parent.name
        ways = (file.stem, f"{group}/{file.stem}", f"recipes/{group}/{file.stem}.yaml")
        assert {find_recipe(way) for way in ways} == {file}
        assert file.read_text().count(f"mriscope train {file.stem} ") + file.read_text().count(
            f"mriscope crossval {file.stem} "
        )


def test_a_file_goes_before_a_name_and_it_is_said(caplog: pytest.LogCaptureFixture):
    Path("baseline_cnn").write_text("model: keras_like\n")
    assert read_recipe("baseline_cnn").model == "keras_like"
    assert [note.getMessage() for note in caplog.records] == [
        "baseline_cnn is a file here, which is taken; the recipe of that name is left"
    ]
    Path("study").mkdir()
    Path("study", "resnet50_a.yaml").write_text("model: keras_like\n")
    assert find_recipes("study/resnet50_*") == [Path("study/resnet50_a.yaml")]
    assert "the recipes of these names are left" in caplog.records[-1].getMessage()


def test_a_folder_of_that_name_is_no_recipe():
    Path("baseline_cnn").mkdir()
    assert read_recipe("baseline_cnn").model == "baseline_cnn"
    Path("other").mkdir()
    with pytest.raises(RecipeError, match="other: cannot be read"):
        read_recipe("other")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("baseline_cm", "did you mean baseline_cnn?"),
        ("baseline_cnn.yaml", "did you mean baseline_cnn or"),
        ("recipes/baseline_cnn.yaml", "did you mean baseline_cnn or"),
        ("recipes/honest/baseline_cnn.yaml", "did you mean baseline_cnn or"),
        ("xyzzy", "name a YAML file, or a recipe that `mriscope recipes` lists"),
        ("", "name a YAML recipe"),
    ],
)
def test_a_mistyped_name_is_answered_with_near_ones(name: str, hint: str):
    with pytest.raises(RecipeError) as caught:
        read_recipe(name)
    assert hint in str(caught.value)


def test_patterns_fit_names_groups_and_paths_of_the_sources():
    assert [file.stem for file in find_recipes("honest/t*")] == ["tissue_families", "tissue_histograms"]
    assert find_recipes("recipes/honest/t*.yaml") == find_recipes("honest/t*")
    assert len(find_recipes("study/*")) == 19
    with pytest.raises(RecipeError, match=r"no file and no recipe fits recipes/\*\.yaml"):
        find_recipes("recipes/*.yaml")


def test_the_list_is_a_table_or_json(capsys: pytest.CaptureFixture[str]):
    assert cli._run_app(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "group", "model", "split", "about"]
    assert [line.split()[0] for line in lines[1:]] == NAMES
    assert cli._run_app(["recipes", "published/best*", "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["name"], only["group"], only["protocol"]) == ("best_published", "published", "published")
    assert cli._run_app(["recipes", "nosuch*"]) == 2
    assert "no recipe fits nosuch*" in capsys.readouterr().err
