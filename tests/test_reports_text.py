import re

import numpy as np
import pytest
from result_files import environment, metrics

from mriscope.data.slices import SliceSet
from mriscope.evaluation.calibration import calibration_summary
from mriscope.evaluation.intervals import FEW_NOTE
from mriscope.evaluation.predictions import Predictions
from mriscope.explain.overlays import png_bytes
from mriscope.reports.answer import NO_DIAGNOSIS, parts_text
from mriscope.reports.page import Picture, run_page
from mriscope.reports.text import CHANCE, UNRELIABLE, describe_slices, metrics_text, slices_text, table
from mriscope.results import BaselineScores, Estimate
from mriscope.results.inference import PartsPredicted

PNG = png_bytes(np.zeros((4, 4, 3), np.uint8))
METRICS = metrics(
    Predictions.of(
        labels=[0, 0, 1, 1],
        probabilities=np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]]),
        subjects=[0, 0, 1, 2],
        class_names=("sick", "well"),
    ),
    protocol="by_slice",
    leaky=True,
)


def test_columns_of_digits_stand_right_and_words_left():
    assert table(["name", "n"], [["a", "5"], ["bcdef", "1,234"]]) == "name       n\na          5\nbcdef  1,234"


def test_what_a_set_holds_is_counted():
    slices = SliceSet.of(
        np.zeros((5, 3, 4), np.uint8),
        [0, 0, 1, 1, 1],
        subjects=[1, 1, 2, 2, 3],
        parts=["train", "test", "train", "train", "test"],
        class_names=("sick", "well"),
    )
    summary = describe_slices(slices)
    assert summary.classes["well"] == {"slices": 3, "train": 2, "test": 1, "subjects": 2}
    assert summary.parts == {"test": 2, "train": 3}
    text = slices_text("here", summary)
    assert text.startswith("here: 5 slices of 3×4, 3 subjects\n")
    assert "well        3     1      2         2" in text


def test_figures_stand_under_their_protocol_with_their_intervals():
    text = metrics_text(METRICS)
    lines = text.splitlines()
    assert (
        lines[0]
        == "by slice split, test part: 4 slices, 3 subjects, LEAKY: test subjects also have slices in the training part"
    )
    counted = metrics_text(METRICS.model_copy(update={"shared_subjects": 2})).splitlines()[0]
    assert counted.endswith("LEAKY: 2 of 3 test subjects also have slices in the training part")
    row = next(line for line in lines if line.startswith("accuracy"))
    assert row.split() == ["accuracy", "75.0", "%", "50.0", "%", *UNRELIABLE.split()]  # of three subjects
    assert f"note: {FEW_NOTE}" in text
    many = metrics(
        Predictions.of(
            labels=np.arange(24) % 2,
            probabilities=np.where(np.eye(2)[[0, *np.arange(1, 24) % 2]] > 0, 0.9, 0.1),
            subjects=np.arange(24),
            class_names=("sick", "well"),
        ),
        protocol="by_subject",
        leaky=False,
    )
    row = next(line for line in metrics_text(many).splitlines() if line.startswith("accuracy"))
    assert row.split() == ["accuracy", "100.0", "%", "50.0", "%", "86.2", "to", "100.0", "Wilson"]  # 24 of 24


def test_the_page_shows_the_figures_and_lets_no_text_in_as_code():
    names = ("mriscope", "commit", "python", "device", "processor", "system", "source", "started")
    made = environment(**dict.fromkeys(names, "<script>alert(1)</script>"))
    page = run_page("A & B", METRICS, "model: <b>", made, [Picture("Title", "Caption", PNG)])
    assert "<h1>A &amp; B</h1>" in page
    assert "<script>" not in page
    assert "model: &lt;b&gt;" in page
    assert "data:image/png;base64,iVBORw" in page
    assert "these metrics say little about new subjects" in page
    assert ">75.0 %<" in page.replace("\n", "")  # accuracy, in per cent


def test_the_page_of_a_run_has_baselines_beside_the_model_and_classes_by_severity():
    classes = dict.fromkeys(("Moderate_Demented", "Non_Demented", "Mild_Demented"), METRICS.classes["sick"])
    baseline = BaselineScores(metrics={"accuracy": Estimate(0.25, np.nan, np.nan)})
    shown = METRICS.model_copy(update={"classes": classes, "baselines": {"majority_class": baseline}})
    page = run_page("run", shown, "", environment(source="phantom"), [Picture("A", "B", PNG, "What is seen")])
    places = [page.index(f'<th scope="row">{name} Demented') for name in ("Non", "Mild", "Moderate")]
    assert places == sorted(places)
    row = page[page.index('<th scope="row">majority class') :]
    assert "25.0 %" in row[: row.index("</tr>")]
    assert page.count("<th") == page.count('<th scope="')
    assert 'alt="What is seen"' in page
    assert page.index('class="verdict leaky"') < page.index("<h2>Metrics") < page.index("<h2>How it was made")


def test_chance_stands_beside_every_metric_on_the_page_and_in_print():
    page = run_page("run", METRICS, "", environment(source="phantom"), [])
    rows = re.findall("<tr>.*?</tr>", page, re.DOTALL)
    cells = {one[0]: one[1:] for one in (re.findall(r"<t[dh][^>]*>([^<]*)", row) for row in rows)}
    assert cells["by chance"][:4] == ["50.0 %", "50.0 %", "50.0 %", "0.500"]
    assert cells["Class"][4:] == ["These by chance", "AUROC (chance 0.500)"]
    assert cells["sick"][4] == "50.0 %"  # two of four slices
    assert f"{CHANCE}." in page
    row = next(line for line in metrics_text(METRICS).splitlines() if line.startswith("AUROC"))
    assert re.search(r"  0\.\d{3} +0\.500 ", row)


def test_the_page_shows_no_folder_of_the_user():
    page = run_page("run", METRICS, "", environment(source="/home/Jane Doe/phantom_scans"), [])
    assert "Jane" not in page
    assert "<td>phantom_scans</td>" in page


@pytest.mark.parametrize("known", [True, False])
def test_one_subject_of_each_class_has_no_interval_and_no_test_of_calibration(known: bool):
    labels = np.repeat([0, 1], 8)
    right = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    p, held = (
        Predictions.of(labels[:n], right[:n], subjects=labels[:n] if known else None, class_names=("sick", "well"))
        for n in (16, 8)
    )
    found = metrics(p, protocol="by_subject", leaky=False)
    text = metrics_text(found.model_copy(update={"calibration": calibration_summary(p, held, resamples=20)}))
    rows = text.split("\n\n")[1].splitlines()[1:]
    assert len(rows) == 15  # seven metrics, and four of calibration before and after a temperature
    assert all(row.endswith("not reliable here") for row in rows)
    unit = "1 subject" if known else "8 slices"
    assert f"note: the temperature is fitted on {unit} of the validation part only" in text


def test_classes_are_printed_from_the_least_to_the_most_severe():
    """Their numbers, by which confusion matrices are indexed, have another order."""
    tested = Predictions.of([0, 1, 2], np.eye(3), class_names=("AD", "CN", "MCI"))
    found = metrics(tested, resamples=10, protocol="by_subject")
    text = metrics_text(found)
    assert text.index("recall CN") < text.index("recall MCI") < text.index("recall AD")
    assert list(found.classes) == ["AD", "CN", "MCI"]
    slices = SliceSet.of(np.zeros((3, 3, 4), np.uint8), [0, 1, 2], class_names=("AD", "CN", "MCI"))
    rows = slices_text("here", describe_slices(slices)).splitlines()
    assert [row.split()[0] for row in rows[3:6]] == ["CN", "MCI", "AD"]


def test_a_prediction_in_parts_tells_what_was_answered_and_what_was_not():
    done = PartsPredicted(parts=3, kept=1, slices=1200, unusable=2, failures={"c.parquet": "is damaged"})
    assert parts_text(done).splitlines() == [
        "1,200 slices in 2 parts, 1 of which were finished before",
        "2 hold no slice; the column problem says why",
        "c.parquet failed: is damaged",
        NO_DIAGNOSIS,
    ]
