"""Uploads: multipart bodies within a limit, held in memory alone, whatever length they declare."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mriscope.serving.problems import ProblemError

MAX_FILES = 64
SECONDS = 60  # in which a body has to come
_DRAINED = 2**25  # bytes of too long a body that are passed over, so that its sender comes to read the answer
_DRAIN_SECONDS = 2
_NEVER = 2**50  # bytes


class _MemoryParser(MultiPartParser):
    """A parser whose files never go to a disk; the limit of the body is theirs too."""

    spool_max_size = _NEVER


@dataclass(frozen=True, eq=False)
class Upload:
    """One file that was sent.

    Args:
        name: as its sender calls it.
        content: the file, whole.
    """

    name: str
    content: bytes


@dataclass(frozen=True, eq=False)
class Form:
    """What a request sent.

    Args:
        files: at least one.
        fields: texts by name; of several of one name the last.
    """

    files: tuple[Upload, ...]
    fields: dict[str, str]


async def read_form(request: Request, limit: int) -> Form:
    """Read the files and fields of a request.

    Args:
        request: its body is multipart/form-data.
        limit: bytes of the body.

    Raises:
        ProblemError: 400 no multipart body, or none that can be parsed; 408 it came too slowly; 413 it is too long;
            415 a body of another kind; 422 it holds no file.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ProblemError(415, "the body is no multipart/form-data; send the file as its field `file`")
    await _check_declared(request, limit)
    try:
        async with asyncio.timeout(SECONDS):
            form = await _MemoryParser(
                request.headers, _within(request, limit), max_files=MAX_FILES, max_fields=16, max_part_size=4096
            ).parse()
    except MultiPartException as error:
        raise ProblemError(400, f"the body is no multipart/form-data that can be read ({error.message})") from error
    except TimeoutError as error:
        raise ProblemError(408, f"the body did not come within {SECONDS} s; send it again") from error
    except ClientDisconnect as error:
        raise ProblemError(400, "the body ended early") from error
    return await _collect(form)


async def _collect(form: FormData) -> Form:
    files: list[Upload] = []
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name == "file":
            files.append(Upload(value.filename or "", await value.read()))
    await form.close()
    if not files:
        raise ProblemError(422, "there is no file in the request; send one as the field `file`, with a file name")
    return Form(tuple(files), fields)


async def _check_declared(request: Request, limit: int) -> None:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        if "expect" not in request.headers:  # else its sender waits for the answer
            await _drain(request)
        raise _too_long(limit)


async def _within(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the parts of a body as they come, while they are within the limit."""
    count = 0
    stream = request.stream()
    async for part in stream:
        count += len(part)
        if count > limit:
            await _drain(request, stream)
            raise _too_long(limit)
        yield part


async def _drain(request: Request, stream: AsyncGenerator[bytes, None] | None = None) -> None:
    count = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for part in stream or request.stream():
                count += len(part)
                if count > _DRAINED:
                    break
    except (TimeoutError, ClientDisconnect):
        return


def _too_long(limit: int) -> ProblemError:
    detail = f"the request has more than {limit / 2**20:g} MiB; send a smaller file, or raise --max-upload"
    return ProblemError(413, detail, {"Connection": "close"})
