"""Data sets of the Hugging Face hub, kept in its client's own cache."""

import re
from pathlib import Path

from mriscope.errors import DataError


def fetch(source: str) -> Path:
    """Bring a data set of the Hugging Face hub into the local hub cache, as far as it is not there yet.

    Args:
        source: hf:owner/name.

    Returns:
        the folder of its parquet files.

    Raises:
        DataError: the hub cannot be reached, or has no such data set, and the hub cache has none either.
    """
    from huggingface_hub import snapshot_download

    name = source.removeprefix("hf:").removeprefix("//")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise DataError(f"{source} names no data set of the hub; write hf:owner/name")

    def snapshot(local: bool) -> Path:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns="*.parquet", local_files_only=local))

    try:
        return snapshot(local=False)
    except Exception as error:  # the hub's client lets errors of two HTTP libraries through, one per major version
        try:
            return snapshot(local=True)
        except (OSError, ValueError):
            raise DataError(
                f"{source} could not be reached ({type(error).__name__}) and is not in the hub cache; connect and run "
                "`mriscope data fetch`, or pass a folder with --data"
            ) from error
