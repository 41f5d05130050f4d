"""What the text of a source names: files, a data set of the Hugging Face hub, or the phantom."""

import stat
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from mriscope.data.read_options import AS_IT_IS, ReadOptions, split_options
from mriscope.errors import DataError
from mriscope.files import expand_home

if TYPE_CHECKING:
    from mriscope.data.rows import Reading
    from mriscope.recipe import Recipe

SourceKind = Literal["path", "hub", "phantom"]
KINDS = (
    "a folder of class folders of images or volumes, of parquet files, of images with a CSV file that names their "
    "labels, or in BIDS; a parquet or CSV file; hf:owner/name; or phantom"
)


@dataclass(frozen=True)
class DataSource:
    """A source of slices, as `parse_source` finds it in a text.

    Attributes:
        kind: path, hub or phantom.
        text: as mriscope.read takes it; a path may be relative to the current folder.
    """

    kind: SourceKind
    text: str

    @property
    def label(self) -> str:
        """Return the source for others to read: of a path its last part alone, as the folders above may name people."""
        if self.kind != "path":
            return self.text
        name = PurePath(self.text).name or self.text
        return name if _find_kind(name) == "path" else f"./{name}"

    @property
    def address(self) -> str:
        """Return the text that names the same source from any folder: of a path the absolute one."""
        try:
            return str(expand_home(self.text).resolve()) if self.kind == "path" else self.text
        except (OSError, ValueError, RuntimeError):  # no file can have this name, as reading will say
            return self.text

    def read(
        self,
        *,
        skip_bad: bool = False,
        size: int | None = None,
        manifest: str | None = None,
        options: ReadOptions = AS_IT_IS,
    ) -> "Reading":
        """Read the slices, see mriscope.data.readers.read_rows."""
        from mriscope.data.readers import read_rows  # which parses the texts that it is given

        return read_rows(self.text, skip_bad=skip_bad, size=size, manifest=manifest, options=options)


def parse_source(source: str | Path) -> DataSource:
    """Tell what a source is by its text alone; nothing is opened.

    Args:
        source: `phantom`, also with options as in `phantom:subjects=40`; `hf:owner/name`; any other text is a path, and
            a Path always is.

    Example:
        >>> parse_source("/home/jane/phantom_scans").label, parse_source("phantom:subjects=40").kind
        ('phantom_scans', 'phantom')
    """
    text = str(source)
    kind = _find_kind(text)
    if isinstance(source, Path) and kind != "path":
        return DataSource("path", f"./{text}")
    return DataSource(kind, text)


def find_path(source: str | Path) -> Path:
    """Return the file or folder that a source means, without its options.

    Raises:
        DataError: it is not there, or neither a file nor a folder.
    """
    name, _ = split_options(source)
    if not str(name):
        raise DataError(f"no source is named; expected {KINDS}")
    try:
        path = expand_home(name)
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error})"
        raise DataError(f"{name} {reason}; expected {KINDS}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe may never answer, and a device never end
        raise DataError(f"{name} is no ordinary file, but a named pipe or a device; expected {KINDS}")
    return path


def _find_kind(text: str) -> SourceKind:
    scheme, colon, _ = text.partition(":")
    return "phantom" if scheme == "phantom" else "hub" if scheme == "hf" and colon else "path"


def strip_folders(recipe: "Recipe") -> "Recipe":
    """Return a recipe whose paths keep their last part alone, for others to read."""

    def strip(path: str | None) -> str | None:
        return None if path is None else PurePath(path).name

    weights = recipe.model_options.get("weights")
    stripped = {"weights": strip(weights)} if isinstance(weights, str) else {}
    return recipe.model_copy(
        update={
            "data": parse_source(recipe.data).label,
            "manifest": strip(recipe.manifest),
            "split": recipe.split.model_copy(update={"file": strip(recipe.split.file)}),
            "model_options": {**recipe.model_options, **stripped},
        }
    )
