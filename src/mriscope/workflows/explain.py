"""Explain a run: maps of its slices as pictures and a page."""

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mriscope.data.batches import scaled
from mriscope.data.images import Images, read_images
from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.data.splits import read_split
from mriscope.errors import RunError, UnknownNameError
from mriscope.evaluation.titles import class_title, split_title
from mriscope.explain.maps import explain
from mriscope.explain.methods import METHODS, check_method
from mriscope.explain.metrics.region_shares import tabulate_regions
from mriscope.explain.overlays import check_colours, colour_bar, grid, matrix, overlay, png_bytes
from mriscope.explain.postprocess import study_exponents
from mriscope.files import file_stem, read_file, write_bytes, write_text
from mriscope.models.registry import list_estimators
from mriscope.output_folder import OutputFolder
from mriscope.reports.explanation import explanation_page
from mriscope.reports.page import Picture, label_source
from mriscope.reports.regions import regions_csv
from mriscope.results import ExplainedRegions, RegionTable
from mriscope.run_directory import SPLIT, RunDirectory, open_run
from mriscope.training.devices import pick_device
from mriscope.version import __version__
from mriscope.workflows._explained import REGION_COLOURS, ExplainedSlices, show_slices
from mriscope.workflows._load import load
from mriscope.workflows._model import load_network

PAGE, GRID, REGIONS, REGIONS_CSV = "explain.html", "grid.png", "regions.json", "regions.csv"
LISTED = "pictures.json"  # where older versions named the pictures that an explanation wrote
ALL = "all"
_TILE, _ROW = 256, 1300  # pixels; the most that a slice and a row of slices are enlarged to


@dataclass(frozen=True)
class ExplainOptions:
    """How maps are computed and shown.

    Args:
        layer: dotted name; None takes the last convolution.
        class_name: the class to explain; None the predicted one.
        study_exponents: raise maps to the reference study's power for each class.
        colormap: of matplotlib.
        alpha: share of the colours, from 0 to 1.
        by_strength: multiply that share by the map, so that the anatomy stays visible where the map is weak.
        background: colour what lies outside the brain too; how much of a map does is said in either case.
        methods: names among METHODS.
        flip_smooth: mean of the maps of a slice and its mirror image, each times 0.9, 1 and 1.1.
        eigen_smooth: first principal component of the channels' shares in place of their sum.
    """

    layer: str | None = None
    class_name: str | None = None
    study_exponents: bool = False
    colormap: str = "inferno"
    alpha: float = 0.5
    by_strength: bool = False
    background: bool = False
    methods: tuple[str, ...] = ("gradcam",)
    flip_smooth: bool = False
    eigen_smooth: bool = False


def parse_methods(text: str) -> tuple[str, ...]:
    """Return the methods that a text such as gradcam,layercam names; all of them where it is "all".

    Raises:
        UnknownNameError: there is no such method.
    """
    return tuple(METHODS) if text.strip() == ALL else check_methods([name.strip() for name in text.split(",")])


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each once, if all are those of methods.

    Raises:
        UnknownNameError: one is no method's.
    """
    return tuple(dict.fromkeys(check_method(name) for name in names))


def explain_run(
    folder: str | Path,
    out: str | Path,
    options: ExplainOptions = ExplainOptions(),
    *,
    images: Sequence[str | Path] | None = None,
    count: int = 8,
    seed: int = 0,
    source: str | None = None,
    device: str = "auto",
) -> list[Path]:
    """Explain a run's slices: a picture for each slice and method, grid.png with all, and explain.html.

    They take the place of those that an earlier call wrote to the folder; other files there are left alone.

    Args:
        folder: the run.
        out: folder for the pictures.
        options: how maps are computed and shown.
        images: JPEG or PNG files or folders of them; None takes slices of the run's test part, or for imported weights
            of the whole source, as evenly over the classes as they allow.
        count: how many test slices.
        seed: of their choice.
        source: where the run's data is now, if it was moved.
        device: auto, cpu or cuda.

    Returns:
        the pictures, the grid first.

    Raises:
        MriscopeError: no finished run, or an unknown method, layer, class, colour map or image.
    """
    directory = open_run(folder)
    output = checked_output(out)
    check_colours(options.colormap, options.alpha)
    model, class_names = open_network(directory, device)
    if options.class_name is not None and options.class_name not in class_names:
        raise UnknownNameError("class", options.class_name, class_names)
    if images is None:
        slices = sample_test_slices(directory, source, count, seed)
        given = Images(slices.images, tuple(slices.paths.tolist()))
        truths, subjects = [class_names[label] for label in slices.labels], describe_subjects(slices)
        units = slices.subjects
    else:
        given = read_images(images, directory.recipe.input.size, stretch=directory.recipe.input.stretch)
        truths, subjects, units = None, [""] * len(given), np.full(len(given), UNKNOWN)
    names = [(row, name) for row in range(len(given)) for name in options.methods]
    files = {one: f"{one[0]:03d}_{file_stem(given.paths[one[0]])}_{one[1]}.png" for one in names}
    output.check([*files.values(), REGIONS, REGIONS_CSV])
    found = explain(
        model,
        scaled(torch.from_numpy(np.array(given.images)), directory.recipe.input.scale),
        options.methods,
        None if options.class_name is None else class_names.index(options.class_name),
        layer=options.layer,
        exponents=study_exponents(class_names) if options.study_exponents else None,
        eigen_smooth=options.eigen_smooth,
        flip_smooth=options.flip_smooth,
    )
    shown = ExplainedSlices(given, truths, subjects, units, class_names, found)
    return _write(output, directory, shown, options, files, own=images is None)


def open_network(directory: RunDirectory, device: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network of a run, and the names of its classes.

    Raises:
        RunError: the run is an estimator's, or its weights are missing or damaged.
    """
    model, class_names = load_network(directory, pick_device(device))
    if directory.recipe.model in list_estimators():
        raise RunError(f"{directory.recipe.model} has no layers whose maps could be explained; name a network's run")
    return model, class_names


def describe_subjects(slices: SliceSet) -> list[str]:
    """Return the subject of each slice and its position along the scan, as far as they are known."""
    found = []
    for name, position in zip(slices.subject_names.tolist(), slices.positions.tolist(), strict=True):
        subject = f"subject {name}" if name else "subject unknown"
        found.append(subject if np.isnan(position) else f"{subject}, position {position:g}")
    return found


def describe_protocol(directory: RunDirectory) -> str:
    """Return how train and test slices were divided, and whether subjects are in both; short enough for a title."""
    if directory.imported:
        return "imported weights, what they were trained on is unknown"
    return split_title(directory.protocol, directory.leaky)


def _write(
    out: OutputFolder,
    directory: RunDirectory,
    shown: ExplainedSlices,
    options: ExplainOptions,
    files: Mapping[tuple[int, str], str],
    *,
    own: bool,
) -> list[Path]:
    """Write pictures and page in the place of those that an earlier explanation left there."""
    maps = {name: one.maps.cpu().numpy() for name, one in shown.found.items()}
    colours = {"colormap": options.colormap, "alpha": options.alpha, "by_strength": options.by_strength}
    masks = np.ones(shown.images.images.shape, bool) if options.background else shown.brains
    heading = f"{directory.recipe.model}, {describe_protocol(directory)}"
    with ThreadPoolExecutor(1) as beside:
        drawn = beside.submit(_grid, shown, maps, {**colours, "within": masks, "heading": heading})
        overlays = {
            one: png_bytes(overlay(shown.images.images[one[0]], maps[one[1]][one[0]], **colours, within=masks[one[0]]))
            for one in files
        }
        slices = show_slices(shown, maps, overlays)
        table = tabulate_regions(maps, METHODS, shown.regions, shown.units)
    pictures = {GRID: drawn.result(), **{file: overlays[one] for one, file in files.items()}}
    count = len(shown.images)
    which = f"{count} slice{'s' * (count != 1)}" + ("" if own else " of the user's own")
    which += " of the test part" if own and not directory.imported else ""
    explained = "the predicted class" if options.class_name is None else class_title(options.class_name)
    strength = ", and their share follows the map" if options.by_strength else ""
    caption = f"Evidence for {explained}, from 0 (left) to 1 (right){strength}; with the model's probability."
    page = explanation_page(
        f"Where {directory.name} finds evidence",
        f"{which}; {heading}.",
        Picture("Scale of colours", caption, png_bytes(colour_bar(options.colormap)), "The colours, from 0 to 1."),
        slices,
        _facts(directory, shown, options),
        shown.empty_maps,
        table,
        REGION_COLOURS,
        leaky=directory.leaky,
        coloured_background=options.background,
    )
    # Threads wait for the disk together, which takes one file as long as many.
    with out.writing([*pictures, PAGE, REGIONS, REGIONS_CSV]) as folder, ThreadPoolExecutor(8) as together:
        list(together.map(write_bytes, [folder / name for name in pictures], pictures.values()))
        write_text(folder / REGIONS_CSV, regions_csv(table))
        _explained_regions(directory, table, explained).write(folder / REGIONS)
        write_text(folder / PAGE, page)
    return [out.path / name for name in pictures]


def _explained_regions(directory: RunDirectory, table: RegionTable, explained: str) -> ExplainedRegions:
    return ExplainedRegions(
        run=directory.name,
        model=directory.recipe.model,
        protocol=directory.protocol,
        leaky=directory.leaky,
        explained=explained,
        regions=table,
    )


def _grid(shown: ExplainedSlices, maps: Mapping[str, np.ndarray], colours: Mapping[str, Any]) -> bytes:
    """Draw one method's maps each beside its plain slice, and those of several in a column each."""
    pixels, titles = shown.images.images, shown.titles
    if len(maps) == 1:
        return png_bytes(grid(pixels, next(iter(maps.values())), titles, 3, side_by_side=True, **colours))
    width = pixels.shape[2]
    scale = max(1, min(_TILE // width, _ROW // (width * (len(maps) + 1))))
    columns = {METHODS[name]: one for name, one in maps.items()}
    return png_bytes(matrix(pixels, columns, titles, scale=scale, **colours))


def _facts(directory: RunDirectory, shown: ExplainedSlices, options: ExplainOptions) -> list[tuple[str, str]]:
    layers = dict.fromkeys(name for one in shown.found.values() for name in one.layers)
    smoothing = ["flips and brightness"] * options.flip_smooth + ["first principal component"] * options.eigen_smooth
    environment = directory.environment
    return [
        ("Run", directory.name),
        ("Model", directory.recipe.model),
        ("Protocol", describe_protocol(directory)),
        ("Data", label_source(environment.source)),
        ("Methods", ", ".join(METHODS[name] for name in shown.found)),
        ("Layer", ", ".join(layers) or "the whole network"),
        ("Class explained", "the predicted one" if options.class_name is None else options.class_name),
        ("Smoothing", ", ".join(smoothing) or "none"),
        ("Study's exponents", "yes" if options.study_exponents else "no"),
        ("Colour map", options.colormap),
        ("mriscope", __version__),
    ]


def checked_output(out: str | Path) -> OutputFolder:
    """Return the folder of an explanation, its page and grid free to write.

    Raises:
        WriteError: they are there, and mriscope did not write them.
    """
    output = OutputFolder(Path(out), "explain", _earlier)
    output.check([PAGE, GRID])
    return output


def _earlier(out: Path) -> list[str]:
    """Return what an older version wrote there, by its list of pictures; other files are somebody else's."""
    try:
        listed = json.loads(read_file(out / LISTED))
    except (OSError, ValueError, RecursionError):
        return []
    pattern = re.compile(rf"{re.escape(GRID)}|[0-9]{{3,}}_[^/\\]*_({'|'.join(METHODS)})\.png")
    if not isinstance(listed, list) or not all(isinstance(one, str) and pattern.fullmatch(one) for one in listed):
        return []
    return [*listed, LISTED, PAGE] if GRID in listed else []


def sample_test_slices(directory: RunDirectory, source: str | None, count: int, seed: int) -> SliceSet:
    """Draw slices of the test part, the classes taking turns."""
    there = source or directory.environment.source
    if there is None:
        raise RunError(f"the weights in {directory.path} were imported without data; name --images or --data SOURCE")
    recipe = directory.recipe.model_copy(update={"manifest": None})  # it may be gone, and a picture needs no subject
    slices = load(there, recipe=recipe, skip_bad=directory.environment.skip_bad).slices
    part = np.arange(len(slices)) if directory.imported else read_split(directory.path / SPLIT, slices).test
    test = np.random.default_rng(seed).permutation(part)
    labels = slices.labels[test]
    turn = np.zeros(len(test), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return slices[test[np.lexsort((labels, turn))[:count]]]
