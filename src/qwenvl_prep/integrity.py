"""Whether a file reaches its own end, told without decoding a pixel."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING

from qwenvl_prep.errors import DamagedImageError

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["reaches_end"]

_U16 = Struct(">H")
_PNG_CHUNK = Struct(">I4s")
_CRC = Struct(">I")
_ICO_HEADER = Struct("<HHH")  # reserved, type, count
_ICO_ENTRY = Struct("<8xII")  # length and start of one picture
_ICNS_HEADER = Struct(">4sI")  # magic, length of the file

_SOI_LENGTH = 2
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
# Frames coded with Huffman tables, block by block: baseline and extended.
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_BLOCK = 8

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

    Raises
    ------
    DamagedImageError
        If a JPEG ends properly but is shorter than its shortest possible code:
        decoders fill such a picture up with grey and say nothing.
    """
    check = {
        "ICNS": _is_whole_icns,
        "ICO": _is_whole_ico,
        "JPEG": _is_whole_jpeg,
        "PNG": _is_whole_png,
    }.get(info.format)
    return check is None or check(data, info)


def _is_whole_jpeg(data: bytes, info: ImageInfo) -> bool:
    position = _SOI_LENGTH
    frame = 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return False
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == _START_OF_SCAN:
            # An end marker before the scan belongs to a thumbnail in a segment.
            length = data.rfind(_END_OF_IMAGE) - position
            if 0 <= length < _least_scan_bytes(info, frame):
                raise DamagedImageError(
                    f"Expected a whole JPEG but {length:,} bytes cannot hold its "
                    f"{info.height} × {info.width} pixels; export or download the "
                    f"file again",
                    format="JPEG",
                )
            return length > 0
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a length
            position += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
                frame = marker
            position += 2 + _U16.unpack_from(data, position + 2)[0]
    return False


def _least_scan_bytes(info: ImageInfo, frame: int) -> int:
    """
    Give a length that no complete scan falls below.

    The brightness of every block of 8 × 8 pixels takes one code for its mean and, in
    sequential files, one more for its end; a code has at least one bit.
    """
    blocks = -(-info.height // _BLOCK) * -(-info.width // _BLOCK)
    if frame in _SEQUENTIAL:
        return blocks * 2 // 8
    return 2


def _is_whole_png(data: bytes, _: ImageInfo) -> bool:
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


def _is_whole_ico(data: bytes, _: ImageInfo) -> bool:
    count = _ICO_HEADER.unpack_from(data)[2]
    first, size = _ICO_HEADER.size, _ICO_ENTRY.size
    if len(data) < first + count * size:
        return False
    entries = _ICO_ENTRY.iter_unpack(data[first : first + count * size])
    return all(start + length <= len(data) for length, start in entries)


def _is_whole_icns(data: bytes, _: ImageInfo) -> bool:
    return bool(_ICNS_HEADER.unpack_from(data)[1] <= len(data))
