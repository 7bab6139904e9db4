"""
Strips of samples out of libvips: the file that knows its loaders and their errors.

Loaders are called by name, never found by content: the type was read by our own
header reader, so none of libvips' untested loaders (SVG, PDF, ImageMagick, ...) can
be reached, and no switch of the process has to be set for that.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from qwenvl_prep.damage import broken, check_size
from qwenvl_prep.errors import (
    ForkedProcessError,
    UnsupportedFormatError,
    without_frames,
)
from qwenvl_prep.strips import strips

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.sources import LargeFile

__all__ = ["empty_vips_cache", "vips_strips"]

# The loaders of a source copy no bytes, as those of a buffer do, and are not kept by
# libvips' cache of operations.
_LOADERS = {
    "JPEG": "jpegload_source",
    "PNG": "pngload_source",
    "TIFF": "tiffload_source",
    "WEBP": "webpload_source",
}

# libjpeg fills the rows that a JPEG lacks with grey and calls that a warning, and so
# does libvips with a TIFF's tile that cannot be decoded: both count as damage.
# libpng's warnings are about colour profiles and the like.
_FAIL_ON = {"JPEG": "warning", "TIFF": "warning"}

_SAMPLES: dict[str, np.dtype[Any]] = {
    "uchar": np.dtype(np.uint8),
    "ushort": np.dtype(np.uint16),
}

# Above what reading a photo takes at once, and below what malloc learns from at most.
_LESSON_BYTES = 16 * 1024 * 1024

# The process that libvips' threads belong to, once they exist.
_user_of_vips: int | None = None


def vips_strips(
    file: bytes | LargeFile,
    info: ImageInfo,
    *,
    shrink: int = 1,
    max_rows: int | None = None,
) -> Generator[NDArray[np.uint8]]:
    """
    Read a file from its first row to its last.

    Parameters
    ----------
    file : bytes or LargeFile
        The whole, or what reads it.
    info : ImageInfo
        What its header says; its size is that of the rows that are wanted.
    shrink : int
        2, 4 or 8 to decode a JPEG at a part of its size, rounded down: what does not
        make a whole row or pixel is cut off.
    max_rows : int, optional
        Height of a strip at most.

    Yields
    ------
    ndarray of uint8, shape (rows, width, 1 | 2 | 3 | 4)
        Grey or RGB, with or without alpha, as stored; a strip is not used again.

    Raises
    ------
    DamagedImageError
        If the data is broken, ends early or is of another size.
    UnsupportedFormatError
        If the samples are of a kind that has no one meaning in 8 bits.
    SourceError
        If the file cannot be read.
    ForkedProcessError
        If libvips was used before this process was forked.
    """
    import pyvips

    _check_not_forked()
    _teach_malloc()
    if info.format == "WEBP" and not isinstance(file, bytes):
        # libvips reads all of it before it decodes, into memory of glib's, which ends
        # the process where there is none.
        file = file.read()
    image = region = None
    with _Feed(file) as feed:
        try:
            image = _open(feed, info, shrink)
            check_size(image.height, image.width, info)
            kind, bands = _SAMPLES[image.format], image.bands
            region = pyvips.Region.new(image)
            row_bytes = info.width * bands * kind.itemsize
            for top, rows in strips(info.height, row_bytes, max_rows=max_rows):
                samples = _in_8_bits(region.fetch(0, top, info.width, rows), kind)
                yield samples.reshape(rows, info.width, bands)
            feed.check()
        except pyvips.Error as exc:
            # Not by a context manager, whose own frame would hold the traceback.
            exc.__traceback__ = None
            feed.check()
            raise broken(info.format, _reason(exc)) from exc
        finally:
            # An error's frames must not hold libvips' objects, which log when they are
            # freed. Were that left to a garbage collection inside pyvips' own log
            # handler, glib would take it for endless recursion and abort the process.
            image = region = None


def _open(feed: _Feed, info: ImageInfo, shrink: int) -> Any:
    import pyvips

    load = getattr(pyvips.Image, _LOADERS[info.format])
    # fail_on works in a loader; libvips' thumbnail functions ignore it (#5195).
    fail_on = _FAIL_ON.get(info.format, "error")
    smaller = {"shrink": shrink} if shrink > 1 else {}
    image = load(feed.source, access="sequential", fail_on=fail_on, **smaller)
    kind, bands = image.format, image.bands
    if kind in _SAMPLES and bands <= 4:
        return image
    image = None
    raise UnsupportedFormatError(
        f"Expected 8 or 16 bits per sample but this {info.format} has "
        f"{bands} samples of the kind {kind}",
        format=info.format,
    )


def _in_8_bits(buffer: Any, kind: np.dtype[Any]) -> NDArray[np.uint8]:
    samples = np.frombuffer(buffer, kind)
    # The high byte, as Pillow reads 16-bit RGB; a cast alone would clip.
    return samples if kind == np.uint8 else (samples >> 8).astype(np.uint8)


class _Feed:
    """
    What libvips reads a file through.

    A large file is read by a function of ours: libvips would map it into memory, and
    who reads a mapped file that somebody else shortens is killed by a signal.

    Attributes
    ----------
    source : pyvips.Source
        For a loader, whose image must be gone before this is left.
    """

    _file: LargeFile

    def __init__(self, file: bytes | LargeFile) -> None:
        import pyvips

        self._failure: BaseException | None = None
        if isinstance(file, bytes):
            self.source = pyvips.Source.new_from_memory(file)
            return
        self._file = file
        self._position = 0
        self.source = pyvips.SourceCustom()
        self.source.on_read(self._read)
        self.source.on_seek(self._seek)

    def __enter__(self) -> _Feed:
        return self

    def __exit__(self, *_: object) -> None:
        # The source holds our functions, and they hold this.
        self.source = None

    def check(self) -> None:
        """Raise what went wrong in here, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _read(self, length: int) -> bytes | None:
        if self._failure is not None or self._position >= self._file.size:
            return None
        try:
            data = self._file.read_at(self._position, length)
        # Even an interrupt: cffi would print it and go on.
        except BaseException as exc:  # noqa: BLE001
            # Without its frames, as those that called them hold libvips' objects.
            self._failure = without_frames(exc)
            return None
        self._position += len(data)
        return data

    def _seek(self, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._file.size
        if offset < 0:
            return -1
        self._position = offset
        return offset


def empty_vips_cache() -> None:
    """
    Let libvips forget what it has finished, from now on.

    By default it keeps the last hundred operations, some 200 MB of lines of pictures
    that never come again.  The setting belongs to the process, so only programs of
    our own call this; whoever owns another may call ``pyvips.cache_set_max(0)``.
    """
    import pyvips

    pyvips.cache_set_max(0)


@functools.cache
def _teach_malloc() -> None:
    """
    Have malloc keep the pages that one picture frees for the next.

    glibc gives memory back to the system when twice as much lies free as the largest
    block it ever saw mapped and freed, and asks for the same pages again a moment
    later: a tenth of the time of preparing a photo.  So it sees one block; no page of
    that is touched.
    """
    bytearray(_LESSON_BYTES)


def _check_not_forked() -> None:
    """
    Refuse to use libvips in a child of a process that has used it.

    Its threads do not survive a fork but their locks do, and a few children in a
    hundred would wait for them for ever.
    """
    global _user_of_vips
    if _user_of_vips not in {None, os.getpid()}:
        raise ForkedProcessError(
            "Expected a process of its own start but libvips was used before this one "
            "was forked; start workers by multiprocessing's 'spawn' or 'forkserver'"
        )
    _user_of_vips = os.getpid()


def _reason(exc: Exception) -> str:
    # libvips keeps one message for the whole process, so under threads it may speak of
    # another file: it is shown, and nothing is ever decided by it.
    detail = str(getattr(exc, "detail", "") or exc)
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    return lines[-1] if lines else "libvips gave no reason"
