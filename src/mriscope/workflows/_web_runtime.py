"""ONNX Runtime for browsers: fetched once by npm, checked against its hash, and kept in the user's cache."""

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from mriscope.data.cache import cache_folder
from mriscope.errors import MriscopeError
from mriscope.files import write_bytes

PACKAGE = "onnxruntime-web@1.30.0"
FILE = "onnxruntime-web-1.30.0.tgz"
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
LOADER, GLUE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
_SECONDS = 300


def web_runtime() -> dict[str, bytes]:
    """Return the files of the package that a page needs: LOADER, GLUE and WASM.

    Raises:
        MriscopeError: the package is not in the cache and cannot be fetched, or is another than it should be.
    """
    archive = cache_folder().parent / "runtime" / FILE
    if not archive.is_file():
        write_bytes(archive, _fetch(archive))
    content = archive.read_bytes()
    if hashlib.sha512(content).hexdigest() != SHA512:
        raise MriscopeError(f"{archive} is not the package {PACKAGE} that was checked; remove it and export again")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as package:
        members = {name: package.extractfile(f"package/dist/{name}") for name in (LOADER, GLUE, WASM)}
        return {name: member.read() for name, member in members.items() if member is not None}


def _fetch(archive: Path) -> bytes:
    remedy = f"connect and export again, or get {FILE} from the npm registry and put it at {archive}"
    npm = shutil.which("npm")
    if npm is None:
        raise MriscopeError(f"the page needs {PACKAGE}, and npm, which fetches it, is not installed; {remedy}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MriscopeError(f"{PACKAGE} could not be fetched by npm ({type(error).__name__}); {remedy}") from error
        fetched = Path(folder) / FILE
        if done.returncode != 0 or not fetched.is_file():
            raise MriscopeError(f"{PACKAGE} could not be fetched by npm (exit code {done.returncode}); {remedy}")
        return fetched.read_bytes()
