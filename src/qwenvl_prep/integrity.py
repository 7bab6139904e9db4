"""Whether a file reaches its own end, told without decoding a pixel."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING

from qwenvl_prep.jpeg_structure import reaches_end_of_jpeg

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["reaches_end"]

_PNG_CHUNK = Struct(">I4s")
_CRC = Struct(">I")
_ICO_HEADER = Struct("<HHH")  # reserved, type, count
_ICO_ENTRY = Struct("<8xII")  # length and start of one picture
_ICNS_HEADER = Struct(">4sI")  # magic, length of the file

_PNG_SIGNATURE_LENGTH = 8


def reaches_end(data: bytes, info: ImageInfo) -> bool:
    """
    Tell whether a file ends where it says it ends.

    A file that was cut off has a perfect header, and the API answers about the part
    that arrived.  A JPEG is whole when an end marker follows its first scan, a PNG
    when every chunk up to ``IEND`` is there with the checksum its writer gave it, an
    icon when all its pictures lie inside the file.  Other types mark no end that is
    worth believing and pass; they have to be decoded.

    Parameters
    ----------
    data : bytes
        The whole file.
    info : ImageInfo
        What its header says.

    Returns
    -------
    bool
        True also for types that mark no end.
    """
    check = {
        "ICNS": _is_whole_icns,
        "ICO": _is_whole_ico,
        "JPEG": reaches_end_of_jpeg,
        "PNG": _is_whole_png,
    }.get(info.format)
    return check is None or check(data)


def _is_whole_png(data: bytes) -> bool:
    view = memoryview(data)
    position = _PNG_SIGNATURE_LENGTH
    has_pixels = False
    while position + 12 <= len(data):
        length, name = _PNG_CHUNK.unpack_from(data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return False
        if zlib.crc32(view[position + 4 : end]) != _CRC.unpack_from(data, end)[0]:
            return False
        if name == b"IEND":
            return has_pixels
        has_pixels = has_pixels or name == b"IDAT"
        position = end + 4
    return False


def _is_whole_ico(data: bytes) -> bool:
    count = _ICO_HEADER.unpack_from(data)[2]
    first, size = _ICO_HEADER.size, _ICO_ENTRY.size
    if len(data) < first + count * size:
        return False
    entries = _ICO_ENTRY.iter_unpack(data[first : first + count * size])
    return all(start + length <= len(data) for length, start in entries)


def _is_whole_icns(data: bytes) -> bool:
    return bool(_ICNS_HEADER.unpack_from(data)[1] <= len(data))
