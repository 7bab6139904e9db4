"""Whether a file reaches its own end, told without decoding a pixel."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["can_tell_if_whole", "is_whole"]

_U16 = Struct(">H")
_PNG_CHUNK = Struct(">I4s")
_CRC = Struct(">I")

_SOI_LENGTH = 2
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_PNG_SIGNATURE_LENGTH = 8


def can_tell_if_whole(info: ImageInfo) -> bool:
    """
    Tell whether :func:`is_whole` has an answer for this type.

    Only JPEG and PNG mark their end in a way that is worth believing; the others
    have to be decoded to be known as whole.
    """
    return info.format in {"JPEG", "PNG"}


def is_whole(data: bytes, info: ImageInfo) -> bool:
    """
    Tell whether a JPEG or PNG ends where it says it ends.

    A file that was cut off has a perfect header, and the API answers about the part
    that arrived.  A JPEG is whole when an end marker follows its first scan; a PNG
    when every chunk up to ``IEND`` is there with the checksum its writer gave it.

    Parameters
    ----------
    data : bytes
        The whole file.
    info : ImageInfo
        What its header says.
    """
    return _is_whole_jpeg(data) if info.format == "JPEG" else _is_whole_png(data)


def _is_whole_jpeg(data: bytes) -> bool:
    position = _SOI_LENGTH
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return False
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == _START_OF_SCAN:
            # An end marker before the scan belongs to a thumbnail in a segment.
            return data.rfind(_END_OF_IMAGE) > position
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a length
            position += 2
        else:
            position += 2 + _U16.unpack_from(data, position + 2)[0]
    return False


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
