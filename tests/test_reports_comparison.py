"""The comparison's table, Markdown, page and text say what the ranking holds, and let no text in as code."""

import csv
import io
import math

import numpy as np
import pytest

from mriscope.explain.overlays import png_bytes
from mriscope.recipe import StudyRow
from mriscope.reports.comparison import (
    comparison_csv,
    comparison_markdown,
    comparison_page,
    comparison_text,
    tables,
    verdict_text,
)
from mriscope.reports.text import CHANCE
from mriscope.results import Comparison, Estimate, PairedTest, RunsEstimate, Standing

NAN = math.nan
PNG = png_bytes(np.zeros((4, 4, 3), np.uint8))


def standing(name: str, rank: int, accuracy: RunsEstimate, **changes: object) -> Standing:
    fields: dict = {
        "name": name,
        "rank": rank,
        "runs": 1,
        "metrics": {
            "accuracy": accuracy,
            "balanced_accuracy": RunsEstimate(0.5, NAN, NAN, 0.5, 0.5),
            "macro_f1": RunsEstimate(NAN, NAN, NAN, NAN, NAN),
            "quadratic_kappa": RunsEstimate(0.1234, -0.5, 0.6, 0.1234, 0.1234),
        },
        "recalls": {"Very_Mild": RunsEstimate(1.0, 1.0, 1.0, 1.0, 1.0)},
        "parameters": 61300,
        "macs": 1_500_000,
        "seconds": 90.0,
        "slices_per_second": 1234.4,
        "device": "CPU, 1 thread",
        "leaky": False,
    }
    return Standing(**{**fields, **changes})


@pytest.fixture
def comparison() -> Comparison:
    study = StudyRow(run="Net", rank=6, accuracy=97.19)
    tests = {"above": PairedTest(p=0.00001, adjusted=0.0051), "leader": PairedTest(p=0.5, adjusted=0.75)}
    first = standing("a|b", 1, RunsEstimate(0.9, 0.8, 0.95, 0.85, 0.95), runs=2, leaky=True, study=study)
    second = standing("<script>", 2, RunsEstimate(0.7, 0.6, 0.8, 0.7, 0.7), macs=None, leaky=None, **tests)
    return Comparison(
        standings=[first, second],
        evaluated="by subject split, test part: 40 slices, 8 subjects",
        unit="subject",
        test="exact sign-flip test over the 8 test subjects",
        notes=["A note."],
        failures={"broken": "no <b> | data"},
    )


def test_cells_hold_values_with_intervals_tests_and_costs(comparison: Comparison) -> None:
    ranking, recalls, cost = tables(comparison)
    assert ranking.columns[:6] == [
        *("Rank", "Recipe", "Accuracy, %", "Least to greatest seed, %", "Study, %", "Balanced accuracy, %")
    ]
    first, second = ranking.rows
    assert first[1] == ("a|b", "LEAKY, 2 seeds")
    assert first[2:5] == [("90.00", "80.00 to 95.00"), ("85.00 to 95.00", ""), ("97.19", "rank 6")]
    assert first[5:8] == [("50.00", "no interval"), ("undefined", ""), ("0.123", "-0.500 to 0.600")]
    assert first[8:] == [("–", ""), ("–", "")]
    assert second[3:5] == [("–", ""), ("–", "")]
    assert second[8:] == [("0.0051", "raw < 0.0001"), ("0.750", "raw 0.500")]
    assert recalls.columns == ["Recipe", "Very Mild"]
    assert recalls.rows[0][1] == ("100.00", "100.00 to 100.00")
    assert [cell.text for cell in cost.rows[0]] == ["a|b", "61,300", "1.5 M", "1.5 min", "1,234", "CPU, 1 thread"]
    assert cost.rows[1][2].text == "unknown"


def test_chance_stands_beside_the_metrics_where_classes_were_counted(comparison: Comparison) -> None:
    counted = comparison.model_copy(update={"class_counts": {"Very_Mild": 10, "Mild": 30}})
    _, without, recalls, _ = tables(counted)
    assert [cell.text for cell in without.rows[-1]] == [CHANCE, "62.50", "50.00", "50.00", "0.000"]
    assert recalls.rows[-1] == [("By chance", ""), ("25.00", "")]
    assert f"| {CHANCE} | 62.50 |" in comparison_markdown(counted)


def test_the_table_for_spreadsheets_keeps_full_precision_and_leaves_out_what_does_not_exist(
    comparison: Comparison,
) -> None:
    first, second = csv.DictReader(io.StringIO(comparison_csv(comparison)))
    assert (first["leaky"], second["leaky"]) == ("LEAKY", "subjects unknown")
    assert [first[f"accuracy{end}"] for end in ("", "_low", "_high", "_least", "_greatest")] == [
        *("0.9", "0.8", "0.95", "0.85", "0.95")
    ]
    assert (first["balanced_accuracy_low"], first["macro_f1"], second["macs"]) == ("", "", "")
    assert (first["study_accuracy"], first["p_above"], second["p_above"]) == ("0.9719", "", "1e-05")
    assert first["recall_Very_Mild"] == "1.0"


def test_markdown_and_page_hold_the_tables_and_let_no_text_in_as_code(comparison: Comparison) -> None:
    text = comparison_markdown(comparison)
    assert text.startswith("# Comparison of 2 recipes\n\nby subject split, test part: 40 slices, 8 subjects.\n")
    assert r"| 1 | a\|b (LEAKY, 2 seeds) | 90.00 (80.00 to 95.00) |" in text
    assert r"* broken: no &lt;b> \| data" in text
    assert "p under 0.05 by a paired test after Holm's correction" in text
    page = comparison_page(comparison, PNG)
    assert "<h1>Comparison of 2 recipes</h1>" in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "data:image/png;base64,iVBORw" in page
    assert "A note." in page
    assert "metrics say" in page  # of LEAKY rows


def test_what_is_printed_names_the_test_and_what_failed(comparison: Comparison) -> None:
    lines = comparison_text(comparison).splitlines()
    assert lines[0] == comparison.evaluated
    assert lines[2].split()[:2] == ["Rank", "Recipe"]
    assert lines[-3:] == [
        "p: exact sign-flip test over the 8 test subjects; Holm's correction",
        "note: A note.",
        "failed: broken: no <b> | data",
    ]


def test_a_metric_of_steps_that_no_row_has_is_no_column(comparison: Comparison) -> None:
    def without(one: Standing) -> Standing:
        kept = {name: value for name, value in one.metrics.items() if name != "quadratic_kappa"}
        return one.model_copy(update={"metrics": kept})

    first, second = comparison.standings
    some = comparison.model_copy(update={"standings": [first, without(second)]})
    assert tables(some)[0].rows[1][7] == ("–", "")
    none = comparison.model_copy(update={"standings": [without(first), without(second)]})
    assert not any("kappa" in column for column in tables(none)[0].columns)
    assert "kappa" not in comparison_page(none, PNG)


def test_the_verdict_names_the_leader_its_ties_and_a_baseline_that_it_is_not_above(comparison: Comparison) -> None:
    second = comparison.standings[1].model_copy(update={"rank": 1, "leaky": False})
    first = comparison.standings[0].model_copy(update={"leaky": False})
    clean = comparison.model_copy(update={"standings": [first, second]})
    tail = "No test subject has slices in the training part."
    assert verdict_text(clean) == f"Most accurate: a|b, 90.0 %; 1 more does not differ significantly from it. {tail}"
    known = {
        "majority_class": {"accuracy": Estimate(0.5, NAN, NAN)},
        "nearest_neighbour": {"accuracy": Estimate(0.95, NAN, NAN)},
    }
    beaten = clean.model_copy(update={"baselines": known})
    assert "It is not above a baseline: 1-nearest-neighbour, 95.0 %." in verdict_text(beaten)
    assert [[cell.text for cell in row[:2]] for row in tables(beaten)[1].rows] == [
        ["majority class", "50.00"],
        ["1-nearest-neighbour", "95.00"],
    ]
    assert 'class="verdict open"' in comparison_page(beaten, PNG)
    assert 'class="verdict good"' in comparison_page(clean, PNG)
    assert 'class="verdict leaky"' in comparison_page(comparison, PNG)


def test_the_column_of_the_study_is_there_for_its_recipes_alone(comparison: Comparison) -> None:
    own = [one.model_copy(update={"study": None}) for one in comparison.standings]
    alone = comparison.model_copy(update={"standings": own})
    assert "Study, %" in tables(comparison)[0].columns
    assert "Study, %" not in tables(alone)[0].columns
    assert {len(row) for row in tables(alone)[0].rows} == {len(tables(alone)[0].columns)}
    assert "Study" not in comparison_page(alone, PNG) + comparison_text(alone)


def test_every_head_of_a_table_says_of_what_it_is(comparison: Comparison) -> None:
    page = comparison_page(comparison, PNG)
    assert page.count("<th") == page.count('<th scope="')
    assert 'alt="Points with intervals: accuracy of each recipe. a|b 90.0 %; &lt;script&gt; 70.0 %."' in page
