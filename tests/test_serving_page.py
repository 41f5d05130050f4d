"""The page in a real Chromium: every kind of file, mistakes, keyboard, screen reader, phone, and no other host."""

import io

import numpy as np
import pytest
from browser import chromium, needs_chromium, watched
from PIL import Image
from served import DATA, SIZE, serving
from volume_files import axial_series, brain, write_dicoms, write_nifti

import mriscope
from mriscope.data.slices import SEVERITY
from mriscope.evaluation.metrics import chance
from mriscope.reports.model_page import BROWSER_PARTS, page_files, page_part

SAYS = "told => document.getElementById('status').textContent.startsWith(told)"
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def client(tiny_run):
    with serving(tiny_run, mriscope.load_model(tiny_run.path, "cpu")) as (client, _):
        yield client


@pytest.fixture
def shown(browser, client):
    with watched(browser, client.url, viewport={"width": 1200, "height": 1000}) as page:
        yield page
        assert page.problems == []
        assert page.asked <= {f"http://127.0.0.1:{client.port}", "data://"}


def encoded(kind: str) -> bytes:
    pixels = page_part("examples/phantom-1.png")
    buffer = io.BytesIO()
    Image.open(io.BytesIO(pixels)).save(buffer, kind)
    return buffer.getvalue()


def shares(answer) -> list[str]:
    """Return the probabilities in the order that the page shows, from the least to the most severe class."""
    return [f"{answer['probabilities'][name]:.3f}" for name in SEVERITY]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    voxels = brain(1, (SIZE, SIZE, 9))
    return {
        "one.jpg": encoded("JPEG"),
        "one.png": encoded("PNG"),
        "scan.nii": write_nifti(folder / "scan.nii", voxels).read_bytes(),
        "scan.nii.gz": write_nifti(folder / "scan.nii.gz", voxels).read_bytes(),
        "IM0001": write_dicoms(folder, axial_series(voxels))[4].read_bytes(),
    }


@pytest.mark.parametrize("name", ["one.jpg", "one.png", "scan.nii", "scan.nii.gz", "IM0001"])
def test_a_file_that_is_dropped_is_answered_with_its_map(shown, client, files, name):
    shown.drop(name, files[name])
    shown.wait_for_map()
    page = shown.page
    answer = client.send("/api/v1/predict", (name, files[name])).json
    index = (len(answer["slices"]) - 1) // 2
    cells = page.locator("#probabilities tbody .number").all_inner_texts()
    assert cells == shares(answer["slices"][index])
    assert page.locator("#probabilities tbody th").all_inner_texts() == [name.replace("_", " ") for name in SEVERITY]
    members = page.locator("#probabilities tbody td:last-child").all_inner_texts()
    assert members.count("yes") == len(answer["slices"][index]["prediction_set"])
    flagged = answer["slices"][index]["out_of_distribution"]
    assert page.inner_text("#flag").startswith("Out of" if flagged else "Not out of")
    assert page.is_visible("#together") == (name.startswith("scan"))
    assert page.is_visible("#through") == (name.startswith("scan"))
    assert all(secret not in page.content() for secret in ("Doe^Jane", "MRN-4711"))  # the patient of the DICOM file
    for picture in ("#original", "#map"):
        assert page.evaluate(f"document.querySelector('{picture}').naturalWidth") == SIZE


def test_the_slider_goes_through_a_volume(shown, client, files):
    shown.drop("scan.nii.gz", files["scan.nii.gz"])
    shown.wait_for_map()
    shown.page.focus("#index")
    shown.page.keyboard.press("End")
    shown.page.wait_for_function(SAYS, arg="scan.nii.gz#z008")
    assert shown.page.inner_text("#index-told") == "9 of 9"
    answer = client.send("/api/v1/predict", ("scan.nii.gz", files["scan.nii.gz"])).json
    last, (whole,) = answer["slices"][8], answer["subjects"]
    assert shown.page.inner_text("#together-title") == "Volume scan.nii.gz: 9 slices together"
    pooled = shown.page.locator("#together-probabilities tbody .number").all_inner_texts()
    assert pooled == shares(whole)
    members = shown.page.locator("#together-probabilities tbody td:last-child").all_inner_texts()
    assert members.count("yes") == len(whole["prediction_set"])
    flag = shown.page.inner_text("#together-flag")
    assert flag.startswith("Out of" if whole["out_of_distribution"] else "Not out of")
    cells = shown.page.locator("#probabilities tbody .number").all_inner_texts()
    assert cells == shares(last)


def test_method_class_and_strength_change_the_map(shown, files):
    shown.drop("one.png", files["one.png"])
    shown.wait_for_map()
    page, sources = shown.page, []
    for method, name in (("gradcam", "Non_Demented"), ("gradcam", "Mild_Demented"), ("gradxinput", "Mild_Demented")):
        page.select_option("#method", method)
        page.select_option("#class", name)
        title = {"gradcam": "Grad-CAM", "gradxinput": "Gradient × input"}[method]
        told = f"{title} for {name.replace('_', ' ')};"
        page.wait_for_function("told => document.getElementById('map-told').textContent.startsWith(told)", arg=told)
        sources.append(page.get_attribute("#map", "src"))
    assert len(set(sources)) == 3
    page.fill("#strength", "20")
    assert page.evaluate("getComputedStyle(document.getElementById('map')).opacity") == "0.2"


def test_examples_are_answered_at_a_click(shown):
    for name in ("phantom 1", "phantom 2", "phantom volume"):
        shown.page.get_by_role("button", name=name).click()
        file = name.replace(" ", "-")
        shown.page.wait_for_function(
            "file => document.getElementById('status').textContent.startsWith(file + '.')", arg=file
        )
        shown.wait_for_map()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"nothing to see", "notes.txt is no JPEG, PNG, TIFF or BMP; expected"),
        ("cut.png", encoded("PNG")[:600], "cut.png is a PNG cut short"),
        ("cut.nii.gz", page_part("examples/phantom-volume.nii.gz")[:900], "cut.nii.gz is a damaged gzip file"),
        ("large.png", bytes(2**21), "the request has more than 2 MiB; send a smaller file"),
    ],
)
def test_a_wrong_file_gets_a_readable_message_and_the_page_goes_on(shown, files, name, content, told):
    shown.choose(name, content)
    assert shown.complaint().startswith(told)
    assert not shown.page.is_visible("#answer")
    shown.choose("one.png", files["one.png"])
    shown.wait_for_map()
    assert not shown.page.is_visible("#error")


def test_markup_in_a_file_name_is_text(shown, files):
    name = "<img src=x onerror=document.title='broken'><b>bold</b>.png"
    shown.drop(name, files["one.png"])
    shown.wait_for_map()
    assert name in shown.page.inner_text("#status")
    shown.drop(name, b"no picture")
    assert name in shown.complaint()
    assert shown.page.title() == "mriscope: ask a model"
    assert shown.page.locator("#status b, #error b").count() == 0


def test_the_keyboard_alone_is_enough(shown):
    page = shown.page

    def tab_to(wanted: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
                return
        raise AssertionError(f"Tab does not come to {wanted}")

    tab_to("#file")
    tab_to("#examples button:last-of-type")
    page.keyboard.press("Enter")
    shown.wait_for_map()
    assert page.evaluate("document.activeElement.id") == "answer-title"
    before = page.inner_text("#index-told")
    tab_to("#index")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => document.getElementById('index-told').textContent !== before", arg=before)
    tab_to("#method")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.getElementById('method').selectedIndex") == 1
    tab_to("#class")
    tab_to("#strength")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#strength") == "49"
    tab_to("summary")
    page.keyboard.press("Enter")
    assert "nothing here is a diagnosis" in page.inner_text("#card")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_reads_well_for_all(browser, client, files, scheme, width):
    with watched(browser, client.url, color_scheme=scheme, viewport={"width": width, "height": 900}) as shown:
        assert shown.serious_findings() == []
        shown.drop("scan.nii.gz", files["scan.nii.gz"])
        shown.wait_for_map()
        assert shown.serious_findings() == []
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.page.inner_text("header").count("Research tool, never a diagnosis") == 1
        shown.drop("notes.txt", b"nothing")
        shown.complaint()
        assert shown.serious_findings() == []


def test_figures_on_unseen_subjects_stand_on_the_page(shown, tiny_run):
    metrics = tiny_run.metrics().metrics
    rows = shown.page.locator("#metrics tbody tr").all_inner_texts()
    assert len(rows) == len(metrics)
    accuracy = metrics["accuracy"]
    assert f"{100 * accuracy.value:.1f}\N{NO-BREAK SPACE}%" in rows[0]
    by_chance = chance([one.n_slices for one in tiny_run.metrics().classes.values()])
    assert f"{100 * by_chance['accuracy']:.1f}\N{NO-BREAK SPACE}%" in rows[0].split("\t")[2]
    intervals = [row.rpartition("\t")[2] for row in rows]
    assert [one == "not reliable here" for one in intervals] == [one.reliable is False for one in metrics.values()]
    assert "not reliable here" in intervals  # of so few subjects
    assert "unseen in training" in shown.page.inner_text("#statement")


def test_a_model_without_maps_says_so(browser, tmp_path, files):
    settings = {"model": "nearest_neighbour", "data": DATA, "input": {"size": SIZE}}
    run = mriscope.train(mriscope.make_recipe(settings), tmp_path / "run", device="cpu", silent=True)
    model = mriscope.load_model(run.path, "cpu")
    with serving(run, model) as (client, _), watched(browser, client.url) as shown:
        shown.drop("one.png", files["one.png"])
        shown.page.wait_for_selector("#answer:not([hidden])")
        assert shown.page.inner_text("#map-told") == "This model gives no maps."
        assert shown.page.inner_text("#flag").startswith("Whether the image resembles those of training is not known")
        assert not shown.page.is_visible("#controls")
        assert shown.serious_findings() == []
        assert shown.problems == []


def test_a_token_is_asked_for(browser, tiny_run):
    model = mriscope.load_model(tiny_run.path, "cpu")
    with serving(tiny_run, model, token="sixteen letters!") as (client, _), watched(browser, client.url) as shown:
        assert "the token is missing or wrong" in shown.page.inner_text("#error")
        shown.page.fill("#token", "sixteen letters!")
        shown.page.keyboard.press("Enter")
        shown.page.wait_for_selector("#asking:not([hidden])")
        assert not shown.page.is_visible("#admission")
        assert shown.problems == []


def test_the_documentation_names_every_operation(browser, client):
    context = browser.new_context()
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.goto(f"{client.url}docs")
    page.wait_for_selector("#operations section:nth-of-type(6)")
    assert page.locator("h2").all_inner_texts() == [
        *("GET /api/v1/model", "POST /api/v1/predict", "POST /api/v1/explain"),
        *("GET /metrics", "GET /healthz", "GET /readyz"),
    ]
    assert problems == []
    context.close()


def test_the_page_is_small_and_holds_no_inline_script():
    parts = [*page_files().values(), *(page_part(name) for name in ("backend_server.js", *BROWSER_PARTS))]
    assert sum(map(len, parts)) <= 100_000
    source = page_files()["index.html"].decode()
    assert "style=" not in source
    assert source.count("<script") == source.count("<script src=")
    assert np.all([b"innerHTML" not in part and b"eval(" not in part for part in parts])
