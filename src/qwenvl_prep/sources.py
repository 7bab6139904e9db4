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

from qwenvl_prep.addresses import shown
from qwenvl_prep.data_uri import from_data_uri
from qwenvl_prep.errors import ImageError, SourceError
from qwenvl_prep.headers import BUDGET, HeaderReader
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "OPEN_FLAGS",
    "LargeFile",
    "Source",
    "as_source",
    "can_seek_to_end",
    "is_stored",
    "is_url",
    "listed",
    "name_of",
    "open_file_header",
    "open_header",
    "open_source",
]

# Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

# PATH_MAX of Linux; nothing longer can be opened.
_LONGEST_PATH = 4096

# A longer text is no name that a person could read in a list.
_LONGEST_NAME = 200

# A file of up to this size is read at once: that is a matter of milliseconds, after
# which nothing can change it.  A larger one is above what any model takes, so that it
# is never sent as it is, and held whole it would be most of the memory that is used.
_READ_AT_ONCE = 16 * 1024 * 1024

# The modules of Python's own files that unpack what they give.
_PACKED = frozenset({"_compression", "bz2", "compression", "gzip", "lzma"})
_PACKED |= {"tarfile", "zipfile"}

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
    if isinstance(source, Path):
        return _from_path(source, name)
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


def name_of(image: Any, index: int) -> str:
    """
    Give what one of many inputs is called: its path or address, or its place.

    Parameters
    ----------
    image : object
        Any input.  Of an address, what may be secret is left out.
    index : int
        Its place, from 0.

    Examples
    --------
    >>> name_of("cat.jpg", 0), name_of(b"...", 1)
    ('cat.jpg', 'image 2')
    >>> name_of("https://example.org/cat.jpg?Signature=abc", 2)
    'https://example.org/cat.jpg'
    """
    if is_url(image):
        return shown(image)
    text = str(image) if isinstance(image, (str, os.PathLike)) else ""
    is_name = 0 < len(text) <= _LONGEST_NAME and text[:5].lower() != "data:"
    return text if is_name else f"image {index + 1}"


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


class LargeFile:
    """
    A file that is read piece by piece, always through the one descriptor.

    Another file under the same name is never seen; that this one was written to is
    noticed at the end.

    Attributes
    ----------
    name : str
        What messages call it.
    size : int
        Length in bytes when it was opened.
    """

    __slots__ = ("_descriptor", "_written", "name", "size")

    def __init__(self, name: str, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.name = name
        self.size = status.st_size
        self._written = status.st_mtime_ns
        self._descriptor = descriptor

    def header(self, *, budget: int = BUDGET) -> HeaderReader:
        """Give a reader that fetches only the header bytes that are asked for."""
        return HeaderReader.from_fd(self._descriptor, self.size, budget=budget)

    def read_at(self, offset: int, length: int) -> bytes:
        """
        Give up to *length* bytes from *offset* on; none at the end alone.

        Raises
        ------
        SourceError
            If the file cannot be read, or has become shorter.
        """
        try:
            # With pread there is no position that two readers could move.
            data = os.pread(self._descriptor, length, offset)
        except OSError as exc:
            raise SourceError(f"Reading {self.name} failed: {exc.strerror}") from exc
        if not data and length and offset < self.size:
            raise _changed(self.name)
        return data

    def read(self) -> bytes:
        """Give the whole file; raises what :meth:`read_at` does."""
        pieces = []
        length = 0
        while length < self.size:
            pieces.append(self.read_at(length, self.size - length))
            length += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check_unchanged(self) -> None:
        """Raise a :class:`SourceError` if the file was written to in between."""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self._written):
            raise _changed(self.name)

    def __repr__(self) -> str:
        return f"<LargeFile {self.name}, {self.size:,} bytes>"


@contextmanager
def open_source(
    source: Source, *, at_once: int = 0, limits: Limits = DEFAULT_LIMITS
) -> Iterator[bytes | LargeFile]:
    """
    Open an input that is bytes or a file.

    Parameters
    ----------
    source : Source
        Not of pixels.
    at_once : int
        Largest file that may be sent as it is, in bytes.
    limits : Limits
        How large a file may be.

    Yields
    ------
    bytes or LargeFile
        The whole, if it may be sent or is of ordinary size: what is validated and
        what is sent are these same bytes.  Else a file to read from.

    Raises
    ------
    SourceError
        If it cannot be read, or is written to meanwhile.
    DecodeLimitError
        If it is larger than the limits allow.
    """
    if source.data is not None:
        yield source.data
        return
    with _open(source) as descriptor:
        file = LargeFile(source.name, descriptor)
        limits.check_file_size(file.size, source.name)
        if file.size <= max(_READ_AT_ONCE, at_once):
            data = file.read()
            file.check_unchanged()
            yield data
            return
        try:
            yield file
        except ImageError:
            # Half of one picture and half of another looks like damage, or worse.
            file.check_unchanged()
            raise
        file.check_unchanged()


def _changed(name: str) -> SourceError:
    return SourceError(
        f"Expected {name} to stay as it is but it changed while it was read; try "
        f"again when it is complete"
    )


@contextmanager
def open_header(source: Source, *, budget: int = BUDGET) -> Iterator[HeaderReader]:
    """Open a reader that fetches only the header bytes that are asked for."""
    if source.data is not None:
        yield HeaderReader.from_bytes(source.data, budget=budget)
        return
    with _open(source) as descriptor:
        size = os.fstat(descriptor).st_size
        yield HeaderReader.from_fd(descriptor, size, budget=budget)


def can_seek_to_end(source: Any) -> bool:
    """
    Tell whether this is a file object whose bytes can be reached without the others.

    A compressed file can seek too, but only by unpacking what lies between.
    """
    if isinstance(source, (Source, str, os.PathLike, io.TextIOBase)):
        return False
    if not hasattr(source, "read") or not hasattr(source, "seek"):
        return False
    if _is_pixels(source):
        return False
    try:
        return bool(source.seekable()) and not (
            _is_packed(source) or _is_packed(getattr(source, "raw", None))
        )
    except Exception:  # noqa: BLE001 - reading it as a whole says what is wrong
        return False


def _is_packed(file: object) -> bool:
    kinds = type(file).__mro__
    return any(kind.__module__.partition(".")[0] in _PACKED for kind in kinds)


@contextmanager
def open_file_header(file: Any) -> Iterator[HeaderReader]:
    """
    Open a reader on a file object that seeks; its position is put back at the end.

    Parameters
    ----------
    file : binary file
        For which :func:`can_seek_to_end` holds.  It is read from its position on.

    Raises
    ------
    SourceError
        If it cannot be read.
    TypeError
        If it gives text.
    """
    with _reading():
        start = file.tell()
        size = max(file.seek(0, os.SEEK_END) - start, 0)

    def fetch(length: int, offset: int) -> bytes:
        with _reading():
            file.seek(start + offset)
            return _read_all(file, length)[:length]

    try:
        yield HeaderReader(fetch, size)
    finally:
        with _reading():
            file.seek(start)


@contextmanager
def _reading() -> Iterator[None]:
    """Translate what a file object raises."""
    try:
        yield
    except (TypeError, MemoryError):
        raise
    # A file object is the caller's own code and may raise anything: EOFError of a
    # cut gzip, errors of a network's library.
    except Exception as exc:
        raise SourceError(f"Reading the file object failed: {exc}") from exc


@contextmanager
def _open(source: Source) -> Iterator[int]:
    """Open a regular file; a FIFO, a device or a folder is refused."""
    path = source.path
    if path is None:
        raise SourceError(f"Expected bytes or a file but {source.name} has neither")
    try:
        descriptor = os.open(path, OPEN_FLAGS)
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
        yield descriptor
    finally:
        os.close(descriptor)


def _from_text(text: str, name: str | None, limits: Limits) -> Source:
    if text[:5].lower() == "data:":
        limits.check_file_size(len(text) * 3 // 4, name or "data URI")
        data, label = from_data_uri(text)
        return Source(name=name or "data URI", label=label, data=data)
    if is_url(text):
        raise SourceError(
            f"Expected a local image but received the address {shown(text)}; it is not "
            f"fetched unasked: hand it to chat_request, and the server reads it, or "
            f"count it with fetch=True"
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
    with _reading():
        position = file.tell() if file.seekable() else None
        data = _read_all(file, limits.max_file_bytes + 1)
        if position is not None:
            file.seek(position)
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
    # While another thread imports one, its module stands there half made.
    kinds = (
        getattr(sys.modules.get("PIL.Image"), "Image", None),
        getattr(sys.modules.get("numpy"), "ndarray", None),
    )
    return isinstance(source, tuple(kind for kind in kinds if kind is not None))
