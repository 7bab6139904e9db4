"""
Reads picture headers: what a file is and how large, without decoding it.

Everything here is decided by content, never by a suffix, and reads at most 256 KiB
of a file. Only our own errors leave it, whatever the bytes are.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from qwenvl_prep.errors import DamagedImageError
from qwenvl_prep.headers.bmp import looks_like_dib, read_bmp, read_dib
from qwenvl_prep.headers.foreign import foreign_error
from qwenvl_prep.headers.gif import read_gif
from qwenvl_prep.headers.heif import heif_format, read_heif
from qwenvl_prep.headers.icons import read_icns, read_ico
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.jpeg import read_jpeg
from qwenvl_prep.headers.jpeg2000 import CODESTREAM, read_j2k, read_jp2
from qwenvl_prep.headers.png import read_png
from qwenvl_prep.headers.reader import (
    BUDGET,
    UNKNOWN_SIZE,
    BudgetExceeded,
    HeaderReader,
    ShortRead,
)
from qwenvl_prep.headers.refuse import as_frame, check_frame, damaged
from qwenvl_prep.headers.sgi import read_sgi
from qwenvl_prep.headers.tiff import read_tiff
from qwenvl_prep.headers.webp import read_webp

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUDGET", "UNKNOWN_SIZE", "HeaderReader", "ImageInfo", "read_header"]

_BY_SIGNATURE: tuple[tuple[bytes, str, Callable[[HeaderReader], ImageInfo]], ...] = (
    (b"GIF87a", "GIF", read_gif),
    (b"GIF89a", "GIF", read_gif),
    (b"II*\0", "TIFF", read_tiff),
    (b"MM\0*", "TIFF", read_tiff),
    (b"II\0*", "TIFF", read_tiff),
    (b"MM*\0", "TIFF", read_tiff),
    (b"II+\0", "TIFF", read_tiff),
    (b"MM\0+", "TIFF", read_tiff),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000", read_jp2),
    (CODESTREAM, "JPEG2000", read_j2k),
    (b"\0\0\1\0", "ICO", read_ico),
    (b"icns", "ICNS", read_icns),
    (b"\x01\xda", "SGI", read_sgi),
)

# Types whose frames differ in more than their pixels.
_BY_FRAME: dict[str, Callable[[HeaderReader, int], ImageInfo]] = {
    "GIF": read_gif,
    "HEIF": read_heif,
    "ICNS": read_icns,
    "ICO": read_ico,
    "JPEG": read_jpeg,
    "TIFF": read_tiff,
    "WEBP": read_webp,
}


def read_header(reader: HeaderReader, frame: int | None = None) -> ImageInfo:
    """
    Tell what picture some bytes hold.

    Parameters
    ----------
    reader : HeaderReader
        The bytes, of a file or of a buffer.
    frame : int, optional
        Which frame of an animation, page of a TIFF, picture of an icon, of an MPO or
        of a HEIF is described, counted from 0 in the order of the file.  Without it:
        the first one, the largest of an icon, the primary one of a HEIF.

    Returns
    -------
    ImageInfo
        Height and width as stored, orientation, channels and the rest.  A frame of an
        animation is the whole canvas, with all frames up to it laid on each other.

    Raises
    ------
    NotAnImageError
        If the bytes are no picture; ``kind`` says what they are.
    UnsupportedFormatError
        If they are a picture of a type that is not read here.
    DamagedImageError
        If the header is broken, ends too early or takes more than 256 KiB.
    FrameError
        If there is no such frame; those beyond what 256 KiB reach are not counted.
    SourceError
        If the file cannot be read.
    NeedMoreBytesError
        If the reader has only the beginning of a file, and that is too short.

    Examples
    --------
    >>> from qwenvl_prep.headers import HeaderReader, read_header
    >>> data = bytes.fromhex("01da 0001 0003 0028 0018 0003") + bytes(500)
    >>> read_header(HeaderReader.from_bytes(data))
    <ImageInfo SGI 24x40>
    """
    name, read = _recognise(reader)
    try:
        if frame is None:
            return _checked(name, read(reader))
        return _checked(name, _read_frame(reader, name, read, as_frame(frame)))
    except ShortRead as exc:
        message = (
            f"Expected a whole {name} header but received a {name} that ends at byte "
            f"{reader.size:,} inside it; the file is cut off, obtain it again"
        )
        raise DamagedImageError(message, format=name) from exc
    except BudgetExceeded as exc:
        message = (
            f"Expected a {name} header within {exc.budget:,} bytes but it takes more; "
            "save the picture anew without its metadata"
        )
        raise DamagedImageError(message, format=name) from exc
    except (struct.error, ArithmeticError, LookupError, UnicodeError) as exc:
        # A number in the header led past the end of what it belongs to.
        message = (
            f"Expected a sound {name} header but received contradictory lengths; "
            "the file is damaged, obtain it again or save it anew"
        )
        raise DamagedImageError(message, format=name) from exc


def _read_frame(
    reader: HeaderReader,
    name: str,
    read: Callable[[HeaderReader], ImageInfo],
    frame: int,
) -> ImageInfo:
    of_frame = _BY_FRAME.get(name)
    info = read(reader) if of_frame is None else of_frame(reader, frame)
    check_frame(frame, info.n_frames)
    return replace(info, frame=frame)


def _recognise(
    reader: HeaderReader,
) -> tuple[str, Callable[[HeaderReader], ImageInfo]]:
    head = reader.head
    # The three that nearly every call is about.
    if head.startswith(b"\xff\xd8"):
        return "JPEG", read_jpeg
    if head.startswith(b"\x89PNG"):
        return "PNG", read_png
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP", read_webp
    for signature, name, read in _BY_SIGNATURE:
        if head.startswith(signature):
            return name, read
    if head[4:8] == b"ftyp" and (heif := heif_format(head)):
        return heif, read_heif
    if head.startswith(b"BM") and _is_bitmap(head):
        return "BMP", read_bmp
    if looks_like_dib(head):
        return "DIB", read_dib
    return "", _refuse


def _checked(name: str, info: ImageInfo) -> ImageInfo:
    """Refuse sides that no decoder takes; their area would not fit 64 bits."""
    if max(info.height, info.width) >= 1 << 31:
        raise damaged(name, "sides below 2^31", f"{info.height}x{info.width}")
    return info


def _is_bitmap(head: bytes) -> bool:
    """Tell a bitmap from a text that begins with BM: no text has so many zeros."""
    return len(head) < 18 or b"\0" in head[:18]


def _refuse(reader: HeaderReader) -> ImageInfo:
    raise foreign_error(reader)
