"""Scans: volumes of a source with what is known of each, read slice by slice through the sandbox."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from mriscope.data.naming import printable
from mriscope.data.rows import Row
from mriscope.data.sandbox import Answer, Request, Sandbox
from mriscope.data.volumes import PLANES, Cut
from mriscope.errors import DataError

_AXIS_OF: dict[str, str] = dict(zip(PLANES, "xyz", strict=True))
EMPTY = "slices that hold one value throughout were left out"
DOUBLED = "slices lie at the place of an equal one and were left out"

NOT_ORIENTED = (
    "volumes do not tell how they lie in space (sform_code and qform_code are 0); their axes were taken for left, "
    "anterior and superior, so look at their slices"
)


@dataclass(frozen=True)
class Scan:
    """One volume of a source, still unread.

    Args:
        path: its name within the source.
        request: what to ask the sandbox; see `parsing.answer`.
        label: index into the classes; None where the source has none.
        part: the published part, or "".
        subject: what its source calls the subject, or "".
        session: what its source calls the session, or "".
        covariates: further columns, "" where unknown.
        problem: why it cannot be read, where that is known already, or "".
        told: see Row.
    """

    path: str
    request: Request
    label: int | None = None
    part: str = ""
    subject: str = ""
    session: str = ""
    covariates: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    told: Mapping[str, int] = field(default_factory=dict)


def read_scans(scans: Iterable[Scan], cut: Cut, sandbox: Sandbox) -> Iterator[Row]:
    """Read volumes in order; each gives a row for every slice, named by its axis and index, or one row with a problem.

    The position of a row is in mm along the normal of its plane.
    """

    def request_of(scan: Scan) -> Request | DataError:
        return DataError(scan.problem) if scan.problem else {**scan.request, **asdict(cut)}

    rows = (row for scan, answer in sandbox.map(scans, request_of) for row in _rows(scan, answer, _AXIS_OF[cut.plane]))
    return (replace(row, number=number) for number, row in enumerate(rows))


def _rows(scan: Scan, answer: Answer | DataError, axis: str) -> Iterator[Row]:
    about = {name: getattr(scan, name) for name in ("part", "label", "subject", "session", "covariates")}
    if isinstance(answer, DataError):
        yield Row(0, printable(scan.path), problem=str(answer), **about)
        return
    assert answer.images is not None
    facts = answer.facts
    told = {**scan.told, EMPTY: facts["empty"], DOUBLED: facts.get("doubles", 0)}
    told[NOT_ORIENTED] = int(not facts.get("oriented", True))
    for image, position, index in zip(answer.images, facts["positions"], facts["indices"], strict=True):
        name = f"{printable(scan.path)}#{axis}{index:03d}"
        yield Row(0, name, pixels=image, position=position, told={key: n for key, n in told.items() if n}, **about)
        told = {}
