"""The page that needs no server: from a disk, in a real Chromium, it answers as torch does and asks nobody."""

import base64
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium, needs_chromium, watched
from matplotlib import colormaps
from PIL import Image
from served import DATA, SIZE
from torch import nn
from volume_files import axial_series, brain, enhanced, write_dicoms, write_nifti

import mriscope
from mriscope.data.content import read_content
from mriscope.data.sandbox import Sandbox
from mriscope.data.slices import CLASS_NAMES, SEVERITY
from mriscope.errors import MriscopeError
from mriscope.evaluation.deployed import DeployedModel, linear_evidence
from mriscope.evaluation.pooling import pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.explain import explain
from mriscope.explain.overlays import png_bytes
from mriscope.reports.model_page import page_part
from mriscope.workflows import _web_runtime
from mriscope.workflows.export import export_run

SAYS = "told => document.getElementById('status').textContent.startsWith(told)"
TELLS = "told => document.getElementById('map-told').textContent.startsWith(told)"
ASK = """async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const { answer, images } = await window.backend.predict(new File([bytes], name));
  return { slices: answer.slices, images: images.map((image) => Array.from(image)) };
}"""


@pytest.fixture(scope="module")
def model(tiny_run):
    return mriscope.load_model(tiny_run.path, "cpu")


@pytest.fixture(scope="module")
def folder(tiny_run, tmp_path_factory) -> Path:
    try:
        _web_runtime.web_runtime()
    except MriscopeError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("page")
    export_run(tiny_run.path, folder, form="html")
    return folder


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, folder):
    """One page for all questions, as it takes a second to load; it is checked at the end."""
    with watched(browser, (folder / "index.html").as_uri()) as one:
        yield one
        assert one.problems == []
        assert one.asked <= {"file://", "data://", "blob://"}


def asked(page, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray, list]:
    found = page.page.evaluate(ASK, [name, base64.b64encode(content).decode()])
    shares = np.array([[one["probabilities"][name] for name in CLASS_NAMES] for one in found["slices"]])
    return np.array(found["images"], np.uint8).reshape(-1, SIZE, SIZE), shares, found["slices"]


@needs_chromium
def test_256_slices_are_answered_as_by_torch(page, model):
    images = np.concatenate([mriscope.read("phantom:subjects=32,slices=8", size=SIZE).images])[:256]
    assert len(images) == 256
    expected = model.predict(images)
    files = [base64.b64encode(png_bytes(image)).decode() for image in images]
    found = page.page.evaluate(
        f"async (files) => {{ const ask = {ASK}; const all = [];"
        "for (const file of files) all.push((await ask(['a.png', file])).slices[0]); return all; }",
        files,
    )
    shares = np.array([list(one["probabilities"].values()) for one in found])
    np.testing.assert_allclose(shares, [list(one.probabilities.values()) for one in expected.slices], atol=1e-4)
    for one, other in zip(found, expected.slices, strict=True):
        assert one["distance"] == pytest.approx(other.distance, rel=1e-3)
        told = other.class_name, other.prediction_set, other.out_of_distribution
        assert (one["class"], one["prediction_set"], one["out_of_distribution"]) == told


OBLIQUE = np.array([[0.0, -1.6, 0.2, 9], [1.9, 0.1, 0.0, 5], [0.1, 0.0, 3.0, 0], [0, 0, 0, 1]])


def picture(kind: str, mode: str, shape: tuple[int, int]) -> bytes:
    rng, buffer = np.random.default_rng(4), io.BytesIO()
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = rng.integers(0, 256, (*shape, *channels), np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = np.where(pixels[..., 3] > 127, 255, 0)
    Image.fromarray(pixels, mode=mode).save(buffer, kind)
    return buffer.getvalue()


def volume(folder: Path, name: str, **tags) -> bytes:
    voxels = brain(5, (24, 30, 9))
    if name.startswith("scan"):
        affine = OBLIQUE if "oblique" in name else np.diag([-1.5, 1, 2, 1.0]) if "flipped" in name else None
        kind = np.float32 if "float" in name else np.int16
        return write_nifti(folder / name, (voxels / (7 if kind is np.float32 else 1)).astype(kind), affine).read_bytes()
    return write_dicoms(folder, [axial_series(voxels, **tags)[4]])[0].read_bytes()


@needs_chromium
@pytest.mark.parametrize(
    ("name", "tags"),
    [
        *((name, {}) for name in ("grey.png", "colour.png", "clear.png", "wide.png", "small.png", "grey.jpg", "a.bmp")),
        *(
            (name, {})
            for name in ("scan.nii", "scan.nii.gz", "scan-oblique.nii", "scan-flipped.nii.gz", "scan-float.nii")
        ),
        ("plain", {}),
        ("windowed", {"WindowCenter": 500, "WindowWidth": 400}),
        ("inverted", {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2, "RescaleIntercept": -100}),
        ("sagittal", {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "PixelSpacing": [1, 2]}),
    ],
)
def test_files_become_the_slices_that_the_package_reads(page, model, sandbox, tmp_path, name, tags):
    shapes = {"wide.png": (50, 90), "small.png": (20, 11)}
    modes = {"colour.png": "RGB", "clear.png": "RGBA"}
    kinds = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP"}
    kind = kinds.get(name.rpartition(".")[2])
    content = volume(tmp_path, name, **tags)
    if kind is not None:
        content = picture(kind, modes.get(name, "L"), shapes.get(name, (SIZE, SIZE)))
    expected = read_content(name, content, sandbox, size=SIZE)
    images, shares, slices = asked(page, name, content)
    assert [one["path"] for one in slices] == list(expected.paths)
    apart = np.abs(images.astype(int) - expected.images)
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 0.002  # float32 and float64 part where a grey level is a tie
    np.testing.assert_allclose(shares, model.compute(images)[0], atol=1e-4)
    page.choose(name, content)
    page.page.wait_for_function(SAYS, arg=name)
    assert page.page.is_visible("#together") == (len(slices) > 1)
    if len(slices) > 1:
        whole = Predictions.of([0] * len(shares), shares, subjects=[0] * len(shares))
        pooled = pool_by_subject(whole, model.description.inference.pooling).probabilities[0]
        told = page.page.locator("#together-probabilities tbody .number").all_inner_texts()
        order = [model.class_names.index(name) for name in SEVERITY]
        np.testing.assert_allclose([float(one) for one in told], pooled[order], atol=6e-4)
        assert page.page.inner_text("#together-title") == f"Volume {name}: {len(slices)} slices together"
    assert all(
        secret not in page.page.content() for secret in ("Doe^Jane", "MRN-4711")
    )  # the patient of the DICOM files


@needs_chromium
def test_maps_are_those_of_the_last_maps_of_the_network(page, model):
    image = mriscope.read(DATA, size=SIZE).images[5:6]
    pixels = mriscope.scaled(torch.from_numpy(image.copy()), model.description.scale)
    program = """async ([content, method, chosen]) => {
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      const found = await window.backend.explain(new File([bytes], "a.png"), 0, method, chosen);
      return [Array.from(found.heat), found.empty];
    }"""
    for method in ("hirescam", "gradcam"):
        for at, name in enumerate(model.class_names):
            one = explain(model.network, pixels, (method,), at, layer="features")[method]
            heat, empty = page.page.evaluate(program, [base64.b64encode(png_bytes(image[0])).decode(), method, name])
            assert (empty is None) == (one.reasons[0] is None)
            np.testing.assert_allclose(np.reshape(heat, (SIZE, SIZE)), one.maps[0].numpy(), atol=1e-3)


@needs_chromium
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"nothing", "notes.txt is no JPEG, PNG or BMP; expected a JPEG, PNG, BMP, NIfTI or DICOM file"),
        ("none.png", b"", "none.png is empty"),
        ("cut.png", picture("PNG", "L", (40, 40))[:300], "cut.png is damaged or cut short"),
        ("a.tif", picture("TIFF", "L", (9, 9)), "a.tif is a TIFF, which browsers do not read"),
        ("a.nii.gz", b"\x1f\x8b" + bytes(40), "a.nii.gz is a damaged gzip file"),
        ("a.nii", (348).to_bytes(4, "little") + bytes(400), "a.nii is no NIfTI file of one part"),
        ("a", bytes(128) + b"DICM" + bytes(20), "a has pixels in a form that this page does not read"),
    ],
)
def test_a_wrong_file_gets_a_readable_message(page, name, content, told):
    page.choose(name, content)
    assert page.complaint().startswith(told)


@needs_chromium
def test_files_of_several_images_and_deep_ones_are_refused(page, tmp_path):
    (many,) = write_dicoms(tmp_path, [enhanced(axial_series(brain(3, (20, 20, 6))))])
    page.choose("many.dcm", many.read_bytes())
    assert page.complaint().startswith("many.dcm holds several images")
    Image.fromarray(np.full((9, 9), 900, np.uint16)).save(tmp_path / "deep.png")
    page.choose("deep.png", (tmp_path / "deep.png").read_bytes())
    assert page.complaint().startswith("deep.png has 16 bits")


@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_the_page_from_a_disk_shows_all_and_reads_well(browser, folder, model, scheme, width):
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with watched(browser, (folder / "index.html").as_uri(), **options) as shown:
        name = "<b onclick=alert(1)>phantom</b>.nii.gz"
        shown.drop(name, page_part("examples/phantom-volume.nii.gz"))
        shown.page.wait_for_selector("#answer:not([hidden])")
        assert name in shown.page.inner_text("#status")
        assert shown.page.is_visible("#through")
        widths = []
        for chosen in model.class_names:  # some class has evidence somewhere
            shown.page.select_option("#class", chosen)
            told = f"HiRes-CAM for {chosen.replace('_', ' ')};"
            shown.page.wait_for_function(TELLS, arg=told)
            widths.append(shown.page.evaluate("document.getElementById('map').naturalWidth"))
        assert max(widths) == SIZE
        assert shown.page.locator("#metrics tbody tr").count() >= 4
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.problems == []
        assert shown.asked <= {"file://", "data://", "blob://"}
        assert shown.serious_findings() == []  # last, as axe asks for the style sheet, which the policy forbids


def test_the_folder_is_described_and_replaced_by_the_next_export(folder, tiny_run):
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert {"index.html", "model.js", "runtime.js", "README.md", "model.json"} <= names
    policy = (folder / "index.html").read_text()
    assert "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'" in policy
    assert "http" not in policy.replace('http-equiv="Content-Security-Policy"', "")
    assert sum(path.stat().st_size for path in folder.iterdir() if path.name not in RUNTIME) <= 100_000


def test_the_page_has_the_colours_of_overlays(folder):
    text = (folder / "model.js").read_text().partition("window.MODEL = ")[2].rstrip().rstrip(";")
    colours = np.frombuffer(base64.b64decode(json.loads(text)["colours"]), np.uint8).reshape(256, 3)
    np.testing.assert_array_equal(colours, np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255))


RUNTIME = ("runtime.js", "model.js", "model.json", "README.md", "ort.wasm.min.js", ".mriscope.json")


class _Headed(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(1, 3, 3, stride=4), head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


def test_evidence_is_found_where_logits_are_linear_in_maps_and_nowhere_else():
    flat = nn.Linear(3 * 8 * 8, 4)
    evidence = linear_evidence(
        DeployedModel(_Headed(nn.Sequential(nn.Flatten(), flat)), "unit", 2.0, None).eval(), SIZE
    )
    assert evidence is not None
    torch.testing.assert_close(evidence, flat.weight.detach().reshape(4, 3, 8, 8))
    bent = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), flat)
    assert linear_evidence(DeployedModel(_Headed(bent), "unit", 2.0, None).eval(), SIZE) is None
    assert linear_evidence(DeployedModel(nn.Sequential(nn.Flatten(), flat), "unit", 2.0, None).eval(), SIZE) is None


@pytest.mark.parametrize(
    ("npm", "told"),
    [
        (None, "npm, which fetches it, is not installed; connect and export again, or get onnxruntime-web"),
        ("true", r"could not be fetched by npm \(exit code 0\)"),
        ("no such program", r"could not be fetched by npm \(FileNotFoundError\)"),
    ],
)
def test_without_a_network_the_remedy_is_told(tmp_path, monkeypatch, npm, told):
    monkeypatch.setenv("MRISCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(_web_runtime.shutil, "which", lambda _: npm)
    with pytest.raises(MriscopeError, match=told):
        _web_runtime.web_runtime()


def test_another_package_than_the_checked_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MRISCOPE_CACHE", str(tmp_path))
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / _web_runtime.FILE).write_bytes(b"another")
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(MriscopeError, match=r"is not the package onnxruntime-web@1\.30\.0 that was checked"):
        _web_runtime.web_runtime()
