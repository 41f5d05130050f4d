import numpy as np
from result_files import environment, metrics

from mriscope.data.slices import SliceSet
from mriscope.evaluation.predictions import Predictions
from mriscope.reports.page import Picture, run_page
from mriscope.reports.text import describe_slices, metrics_text, slices_text, table

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
    accuracy = METRICS.metrics["accuracy"]
    row = next(line for line in lines if line.startswith("accuracy"))
    assert row.split() == ["accuracy", "0.750", f"{accuracy.low:.3f}", "–", f"{accuracy.high:.3f}"]


def test_the_page_shows_the_figures_and_lets_no_text_in_as_code():
    names = ("mriscope", "commit", "python", "device", "processor", "system", "source", "started")
    made = environment(**dict.fromkeys(names, "<script>alert(1)</script>"))
    page = run_page("A & B", METRICS, "model: <b>", made, [Picture("Title", "Caption", b"\x89PNG")])
    assert "<h1>A &amp; B</h1>" in page
    assert "<script>" not in page
    assert "model: &lt;b&gt;" in page
    assert "data:image/png;base64,iVBORw==" in page
    assert "these metrics say little about new subjects" in page
    assert "0.750 (" in page


def test_the_page_shows_no_folder_of_the_user():
    page = run_page("run", METRICS, "", environment(source="/home/Jane Doe/phantom_scans"), [])
    assert "Jane" not in page
    assert "<td>phantom_scans</td>" in page
