"""What the caller handed over: a path, bytes, a file, a data URI, pixels."""

from __future__ import annotations

import io
import os
import stat
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from qwenvl_prep.data_uri import from_data_uri
from qwenvl_prep.errors import SourceError
from qwenvl_prep.headers import HeaderReader
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Source",
    "as_source",
    "is_stored",
    "is_url",
    "listed",
    "open_header",
    "read_bytes",
]

# PATH_MAX of Linux; nothing longer can be opened.
_LONGEST_PATH = 4096

# Handed on to the server as they are; never fetched here.
_URL_SCHEMES = frozenset({"http", "https", "oss"})


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """
    One input, recognised but not yet read; exactly one of the last three is set.

    Attributes
    ----------
    name : str
        What tables and messages call it.
    suffix : str
        File name ending in lower case with its dot, or empty; only ever compared
        with the content, never believed.
    label : str
        Media type claimed by a data URI, or empty.
    path : Path or None
        A file that is read when it is needed.
    data : bytes or None
        The whole file.
    pixels : object or None
        A Pillow image or a NumPy array.
    """

    name: str
    suffix: str = ""
    label: str = ""
    path: Path | None = None
    data: bytes | None = None
    pixels: Any = None

    def __repr__(self) -> str:
        return f"<Source {self.name}>"


def as_source(
    source: Any, *, name: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> Source:
    """
    Recognise an input without decoding it.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        A ``str`` is a path, a ``file://`` URL or a ``data:`` URI.  A file is read
        from its position to its end, and put back where it was if it can seek.
        An array is uint8 with shape ``(height, width)``, ``(height, width, 3)``
        RGB or ``(height, width, 4)`` RGBA.
    name : str, optional
        What tables and messages call it.
    limits : Limits
        How much is read at most.

    Raises
    ------
    SourceError
        If it is a URL to be fetched, an empty name or a broken data URI.
    TypeError
        If it is none of the above.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str):
        return _from_text(source, name, limits)
    if isinstance(source, os.PathLike):
        return _from_path(Path(os.fsdecode(source)), name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        limits.check_file_size(memoryview(source).nbytes, name or "bytes")
        return Source(name=name or "bytes", data=bytes(source))
    if _is_pixels(source):
        return Source(name=name or "pixels", pixels=source)
    if hasattr(source, "read"):
        return _from_file(source, name, limits)
    raise TypeError(
        f"Expected a path, bytes, a binary file, a data URI, a Pillow image or a "
        f"uint8 array but received {type(source).__name__}"
    )


def listed(images: Any) -> Iterator[Any]:
    """
    Iterate over many inputs, and refuse a single one in their place.

    Raises
    ------
    TypeError
        If it is one input: the letters of a path are no pictures.
    """
    is_single = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike))
    if is_single or _is_pixels(images) or hasattr(images, "read"):
        raise TypeError(
            f"Expected several images but received one {type(images).__name__}; put "
            f"it into a list"
        )
    return iter(images)


def is_stored(address: Any) -> bool:
    """
    Tell whether an address lies in the provider's own store.

    Examples
    --------
    >>> is_stored("oss://bucket/cat.jpg"), is_stored("https://example.org/cat.jpg")
    (True, False)
    """
    return is_url(address) and address[:6].lower() == "oss://"


def is_url(source: Any) -> bool:
    """
    Tell whether a value is an address that the server fetches by itself.

    Examples
    --------
    >>> is_url("https://example.org/cat.jpg"), is_url("cat.jpg")
    (True, False)
    """
    if not isinstance(source, str):
        return False
    scheme, colon, rest = source.partition("://")
    return bool(colon and rest) and scheme.lower() in _URL_SCHEMES


def read_bytes(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """
    Give the whole file; what is validated and what is sent are these same bytes.

    Raises
    ------
    SourceError
        If the file cannot be read.
    DecodeLimitError
        If it is larger than the limits allow.
    """
    if source.data is not None:
        return source.data
    with _open(source) as descriptor:
        size = os.fstat(descriptor).st_size
        limits.check_file_size(size, source.name)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(size + 1)
    if len(data) != size:
        raise SourceError(
            f"Expected {source.name} to stay as it is but it changed while it was "
            f"read; try again when it is complete"
        )
    return data


@contextmanager
def open_header(source: Source) -> Iterator[HeaderReader]:
    """Open a reader that fetches only the header bytes that are asked for."""
    if source.data is not None:
        yield HeaderReader.from_bytes(source.data)
        return
    with _open(source) as descriptor:
        yield HeaderReader.from_fd(descriptor, os.fstat(descriptor).st_size)


@contextmanager
def _open(source: Source) -> Iterator[int]:
    """Open a regular file; foreign errors of the file system are turned here."""
    path = source.path
    if path is None:
        raise SourceError(f"Expected bytes or a file but {source.name} has neither")
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise SourceError(
            f"Expected a file that can be read but received {source.name}: {reason}"
        ) from exc
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SourceError(
                f"Expected a file but {source.name} is a folder or a device"
            )
        try:
            yield descriptor
        except OSError as exc:
            raise SourceError(f"Reading {source.name} failed: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


def _from_text(text: str, name: str | None, limits: Limits) -> Source:
    if text[:5].lower() == "data:":
        limits.check_file_size(len(text) * 3 // 4, name or "data URI")
        data, label = from_data_uri(text)
        return Source(name=name or "data URI", label=label, data=data)
    if is_url(text):
        raise SourceError(
            f"Expected a local image but received the address {text}; it is not "
            f"fetched here: hand it to chat_request, and the server reads it"
        )
    if text[:7].lower() == "file://":
        return _from_path(_file_url_path(text), name)
    if not text:
        raise SourceError("Expected a path but received an empty string")
    if len(text) > _LONGEST_PATH:
        raise SourceError(
            f"Expected a path but received {len(text):,} characters that begin "
            f"{text[:32]!r}; if they are base64, decode them or put "
            f"data:image/...;base64, before them"
        )
    return _from_path(Path(text), name)


def _file_url_path(url: str) -> Path:
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise SourceError(f"Expected a file:// URL but received {url}: {exc}") from exc
    if parts.netloc not in {"", "localhost"}:
        raise SourceError(
            f"Expected a file of this machine but received {url}, which names the "
            f"host {parts.netloc}; write file:///path"
        )
    return Path(unquote(parts.path))


def _from_path(path: Path, name: str | None) -> Source:
    return Source(name=name or str(path), suffix=path.suffix.lower(), path=path)


def _from_file(file: Any, name: str | None, limits: Limits) -> Source:
    own_name = getattr(file, "name", None)
    if isinstance(file, io.TextIOBase):
        raise TypeError("Expected a file opened in binary mode ('rb')")
    try:
        position = file.tell() if file.seekable() else None
        data = _read_all(file, limits.max_file_bytes + 1)
        if position is not None:
            file.seek(position)
    except (TypeError, MemoryError):
        raise
    # A file object is the caller's own code and may raise anything: EOFError of a
    # cut gzip, errors of a network's library.
    except Exception as exc:
        raise SourceError(f"Reading the file object failed: {exc}") from exc
    suffix = ""
    if isinstance(own_name, str):
        suffix = PurePath(own_name).suffix.lower()
        name = name or own_name
    limits.check_file_size(len(data), name or "file")
    return Source(name=name or "file", suffix=suffix, data=data)


def _read_all(file: Any, limit: int) -> bytes:
    # A raw file gives what is there at the moment; only b"" is the end.
    pieces = []
    size = 0
    while size < limit:
        piece = file.read(limit - size)
        if isinstance(piece, str):
            raise TypeError("Expected a file opened in binary mode ('rb')")
        if not piece:
            break
        pieces.append(bytes(piece))
        size += len(piece)
    return b"".join(pieces)


def _is_pixels(source: Any) -> bool:
    # Asked without importing either library: who has such a value has imported it.
    image = sys.modules.get("PIL.Image")
    if image is not None and isinstance(source, image.Image):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(source, numpy.ndarray)
