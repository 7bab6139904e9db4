"""Whether a file reaches its own end, told without decoding a pixel."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["is_whole"]

_U16 = Struct(">H")
_PNG_CHUNK = Struct(">I4s")
_CRC = Struct(">I")

_SOI_LENGTH = 2
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
# Frames coded with Huffman tables, block by block: baseline and extended.
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_BLOCK = 8

_PNG_SIGNATURE_LENGTH = 8


def is_whole(data: bytes, info: ImageInfo) -> bool:
    """
    Tell whether a file ends where it says it ends.

    A file that was cut off has a perfect header, and the API answers about the part
    that arrived.  A JPEG is whole when an end marker follows its first scan, and the
    scan is not shorter than the shortest code for so many blocks; a PNG when every
    chunk up to ``IEND`` is there with the checksum its writer gave it.  Other types
    mark no end that is worth believing and pass; they have to be decoded.

    Parameters
    ----------
    data : bytes
        The whole file.
    info : ImageInfo
        What its header says.
    """
    if info.format == "JPEG":
        return _is_whole_jpeg(data, info)
    return info.format != "PNG" or _is_whole_png(data)


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
            end = data.rfind(_END_OF_IMAGE)
            return end - position >= _least_scan_bytes(info, frame)
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
    return 1


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
