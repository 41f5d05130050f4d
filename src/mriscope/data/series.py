"""From the headers of DICOM files to the volumes that they make: one for each series, its images ordered in space."""

import fnmatch
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mriscope.data.dicom import Frame, Header
from mriscope.data.naming import natural
from mriscope.data.volumes import MAX_VOXELS, PLANES

_SAME_PLACE = 0.01  # mm; images nearer than this lie at one place
_SAME_DIRECTION = 0.01  # of a cosine, half a degree
_SHOWN = 8


@dataclass(frozen=True)
class Series:
    """The files of one series in one folder.

    Args:
        path: of one of its files, within the source.
        number: SeriesNumber, as text.
        description: SeriesDescription.
        patient: digest of the patient, "" where unknown.
        study: digest of the study, "" where unknown.
        when: date and time of the study.
        layers: the images along the stack, each as the files and frames that lie at its place.
        frames: where each layer lies.
        voxels: how many pixels all its images have.
        problem: why it cannot be read, or "".
    """

    path: str
    number: str
    description: str
    patient: str
    study: str
    when: str
    layers: tuple[tuple[tuple[str, int], ...], ...] = ()
    frames: tuple[Frame, ...] = ()
    voxels: int = 0
    problem: str = ""

    @property
    def name(self) -> str:
        """Return its folder and number, as its slices are called."""
        folder = self.path.rpartition("/")[0]
        return f"{folder}/series-{self.number}" if self.number else folder or self.path


def find_series(headers: Mapping[str, Header], pattern: str | None = None) -> list[Series]:
    """Find the series in each folder, and the order of their images; file names play no part in it.

    Where a folder holds several series of one study, one must be chosen; else the folder is one series with a problem
    that lists them. So is a series whose images differ in direction or size.

    Args:
        headers: of the files, by their paths within the source.
        pattern: a series number, or a pattern of the description such as *t1*, in any case.

    Returns:
        in natural order of folders, then by study and series number.
    """
    studies: dict[tuple[str, str, str], dict[str, dict[str, Header]]] = defaultdict(lambda: defaultdict(dict))
    for path, header in headers.items():
        studies[path.rpartition("/")[0], header.patient, header.study][header.series][path] = header
    found = [_choose(several, pattern) for several in studies.values()]
    return sorted(
        found, key=lambda one: ([*map(natural, one.path.split("/")[:-1])], one.when, natural(one.number), one.path)
    )


def _choose(several: Mapping[str, Mapping[str, Header]], pattern: str | None) -> Series:
    """Return the one series of a study in a folder that is wanted, or one that says why there is none."""
    wanted = [files for files in several.values() if pattern is None or _matches(next(iter(files.values())), pattern)]
    if len(wanted) == 1:
        return _order(wanted[0])
    candidates = sorted(several.values(), key=lambda files: natural(next(iter(files.values())).number))
    listed = "; ".join(map(_describe, candidates[:_SHOWN]))
    more = f"; and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    if pattern is None:
        problem = f"holds {len(several)} series ({listed}{more}); choose one by number or description with --series"
    else:
        problem = f"holds {len(wanted) or 'no'} series that match --series {pattern} ({listed}{more})"
    return replace(_about(candidates[0]), number="", problem=problem)


def _about(files: Mapping[str, Header]) -> Series:
    path, first = next(iter(files.items()))
    return Series(path, first.number, first.description, first.patient, first.study, first.when)


def _matches(header: Header, pattern: str) -> bool:
    return header.number == pattern or fnmatch.fnmatch(header.description.lower(), pattern.lower())


def _describe(files: Mapping[str, Header]) -> str:
    header = next(iter(files.values()))
    images = sum(len(each.frames) for each in files.values())
    return f"{header.number or 'no number'}: {header.description or 'no description'}, {images} images"


def _order(files: Mapping[str, Header]) -> Series:
    """Order the images of one series along the normal of their plane."""
    about = _about(files)
    names = sorted(files, key=natural)  # of equal doubles the same one is kept, however the folder is listed
    images = [(name, at, frame) for name in names for at, frame in enumerate(files[name].frames)]
    kinds = _kinds([(files[name], frame) for name, _, frame in images])
    if len(kinds) > 1:
        listed = "; ".join(f"{count} {kind}" for kind, count in kinds[:_SHOWN])
        return replace(about, problem=f"mixes images of {len(kinds)} kinds ({listed}); keep one kind in a folder")
    along, down = np.array(images[0][2].orientation).reshape(2, 3)
    heights = np.array([frame.position for _, _, frame in images]) @ np.cross(along, down)
    layers: list[list[tuple[str, int]]] = []
    frames: list[Frame] = []
    last = -np.inf
    for row in np.argsort(heights, kind="stable"):
        if heights[row] - last > _SAME_PLACE:
            layers.append([])
            frames.append(images[row][2])
        last = heights[row]
        layers[-1].append(images[row][:2])
    voxels = len(images) * files[names[0]].rows * files[names[0]].columns
    if voxels > MAX_VOXELS:
        return replace(about, problem=f"has {voxels:,} voxels; expected at most {MAX_VOXELS:,} in one series")
    return replace(about, layers=tuple(map(tuple, layers)), frames=tuple(frames), voxels=voxels)


def _kinds(images: Sequence[tuple[Header, Frame]]) -> list[tuple[str, int]]:
    """Count the images that can be of one volume: of equal size, direction and spacing; most common first."""
    found: list[tuple[Header, Frame]] = []
    counts: list[int] = []
    for header, frame in images:
        for kind, (other, example) in enumerate(found):
            same_size = (header.rows, header.columns) == (other.rows, other.columns)
            same_direction = np.abs(np.subtract(frame.orientation, example.orientation)).max() < _SAME_DIRECTION
            if same_size and same_direction and np.allclose(frame.spacing, example.spacing, rtol=0.01):
                counts[kind] += 1
                break
        else:
            found.append((header, frame))
            counts.append(1)
    order = np.argsort(counts, kind="stable")[::-1]
    return [(_kind(*found[kind]), counts[kind]) for kind in order]


def _kind(header: Header, frame: Frame) -> str:
    plane = PLANES[int(np.abs(np.cross(frame.orientation[:3], frame.orientation[3:])).argmax())]
    return f"{plane} of {header.rows}×{header.columns} pixels and {frame.spacing[0]:.3g}×{frame.spacing[1]:.3g} mm"
