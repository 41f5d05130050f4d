"""Output folders: each carries a list of what mriscope wrote there, and nothing else in it is replaced or removed."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, ClassVar

from filelock import FileLock, Timeout
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mriscope.errors import MriscopeError, WriteError
from mriscope.results import Record, ResultFile

LIST, LOCK = ".mriscope.json", ".mriscope.lock"
_SECONDS_TO_WAIT = 60  # for another process that writes to the folder
_SHOWN = 3


def _check_name(name: str) -> str:
    """Refuse a name that could lie outside the folder: what the list names may be removed."""
    parts = name.replace("\\", "/").split("/")
    if {"", ".", ".."} & set(parts) or "\0" in name or PureWindowsPath(name).drive or PurePosixPath(name).is_absolute():
        raise PydanticCustomError("name", "Input should name a file within the folder")
    return name


class WrittenFile(Record):
    """A file that mriscope wrote."""

    command: str
    """Of mriscope, such as audit."""
    sha256: str | None = None
    """Of its content; None while it is being written, and where a command may change it later."""


class WrittenFiles(ResultFile):
    """What `.mriscope.json` holds: the files of the folder that mriscope wrote, by their paths within it."""

    REMEDY: ClassVar[str] = "name another folder with --out, or remove that file if nothing else there is yours"

    files: dict[Annotated[str, AfterValidator(_check_name)], WrittenFile] = Field(default_factory=dict)


@dataclass(frozen=True)
class OutputFolder:
    """A folder that a command writes to.

    Args:
        path: of the folder; it need not exist.
        command: of mriscope, such as audit; files of other commands are not replaced either.
        earlier: returns the files in a folder without a list that versions before the list wrote, see `written_with`.

    Example:
        >>> import tempfile
        >>> out = OutputFolder(Path(tempfile.mkdtemp()), "audit")
        >>> with out.writing(["audit.json"]) as folder:
        ...     _ = (folder / "audit.json").write_text("{}")
        >>> list(out.written())
        ['audit.json']
    """

    path: Path
    command: str
    earlier: Callable[[Path], Iterable[str]] = lambda _: ()

    def check(self, names: Iterable[str]) -> None:
        """Check that files can be written without touching what is somebody else's; call it before any long work.

        Args:
            names: paths of the files within the folder.

        Raises:
            WriteError: the path is a file, or one of the names is there and mriscope did not write it, another command
                did, or it was changed since.
            RunError: the list is damaged.
        """
        if "\0" in str(self.path):
            raise WriteError(f"{self.path} names no folder, as a NUL is in it; name a folder with --out")
        try:
            there = self.path.exists()
            if there and not self.path.is_dir():
                raise WriteError(f"{self.path} is a file; name a folder with --out")
            present = [name for name in names if there and _exists(self.path / name)]
            written = self.written() if present else {}
            reasons = {name: self._reason_to_keep(name, written.get(name)) for name in present}
        except OSError as error:
            raise WriteError(f"{self.path} cannot be used ({error.strerror}); name another with --out") from error
        kept = [f"{name} {reason}" for name, reason in reasons.items() if reason]
        if kept:
            more = f" and {len(kept) - _SHOWN} more" if len(kept) > _SHOWN else ""
            raise WriteError(
                f"{self.path} holds {', '.join(kept[:_SHOWN])}{more}, which would be replaced; "
                "move what you need elsewhere, or name another folder with --out"
            )

    def written(self) -> Mapping[str, WrittenFile]:
        """Return what mriscope wrote to the folder, by path within it.

        Raises:
            RunError: the list is damaged.
        """
        if _exists(self.path / LIST):
            return WrittenFiles.read(self.path / LIST).files
        return {name: WrittenFile(command=self.command) for name in self.earlier(self.path)}

    @contextmanager
    def writing(self, names: Iterable[str]) -> Iterator[Path]:
        """List files, let the block write them, and remove those that an earlier call of the command wrote besides.

        Args:
            names: paths of all files that the block writes, within the folder.

        Yields:
            The folder, which exists.

        Raises:
            WriteError: as `check`, or the system refuses to write there.
        """
        names = list(names)
        with self._alone(names) as before:
            try:
                yield self.path
            except BaseException:
                self._write_list(before, [name for name in names if _exists(self.path / name)])
                raise
            for name, one in before.items():
                if one.command == self.command and name not in names and self._reason_to_keep(name, one) is None:
                    (self.path / name).unlink(missing_ok=True)
            others = {name: one for name, one in before.items() if one.command != self.command}
            self._write_list(others, names, digests=True)

    def claim(self, names: Iterable[str]) -> None:
        """List files that the command writes in its own time and may change later; the folder is made.

        Raises:
            WriteError: as `check`, or the system refuses to write there.
        """
        with self._alone(list(names)):
            pass

    def _write_list(self, others: Mapping[str, WrittenFile], names: Iterable[str], *, digests: bool = False) -> None:
        own = {
            name: WrittenFile(command=self.command, sha256=_digest(self.path / name) if digests else None)
            for name in names
        }
        WrittenFiles(files={**others, **own}).write(self.path / LIST)

    def _reason_to_keep(self, name: str, written: WrittenFile | None) -> str | None:
        """Return why a file that is there is not to be touched; None where it may be replaced."""
        if written is None:
            return "that mriscope did not write"
        if written.command != self.command:
            return f"of `mriscope {written.command}`"
        if written.sha256 is not None and _digest(self.path / name) not in (None, written.sha256):
            return f"that was changed after `mriscope {self.command}` wrote it"
        return None

    @contextmanager
    def _alone(self, names: list[str]) -> Iterator[Mapping[str, WrittenFile]]:
        """Check and list the files, other processes kept out within the block; yield what was listed before."""
        self.check(names)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / LOCK, timeout=_SECONDS_TO_WAIT):
                before = self.written()
                if not _exists(self.path / LIST) or not all(_is_open(before.get(name)) for name in names):
                    self._write_list(before, names)
                yield before
        except Timeout as error:
            raise WriteError(
                f"another process is writing to {self.path}; wait for it, or name another folder with --out"
            ) from error
        except OSError as error:
            raise WriteError(
                f"{self.path} cannot be written to ({error.strerror}); name another folder with --out"
            ) from error


def written_with(proof: str, read: Callable[[Path], object], names: Iterable[str]) -> Callable[[Path], Iterable[str]]:
    """Return a function that tells what a version before the list wrote to a folder.

    Args:
        proof: the file whose content, not its name, shows that mriscope wrote it.
        read: reads that file; raises an error of mriscope where its content is not mriscope's.
        names: the files that were written with it.
    """

    def earlier(folder: Path) -> Iterable[str]:
        with suppress(MriscopeError):
            read(folder / proof)
            return names
        return ()

    return earlier


def _is_open(written: WrittenFile | None) -> bool:
    """Return whether a file is listed as one whose content may change."""
    return written is not None and written.sha256 is None


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a regular file; of anything else, which mriscope does not write, an empty text."""
    if not _exists(path):
        return None
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
