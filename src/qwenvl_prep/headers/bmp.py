"""BMP, and the same without its file header (DIB)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.refuse import damaged, unsupported

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["DIB_SIZES", "looks_like_dib", "read_bmp", "read_dib"]

# Core (OS/2 1), info, its versions 2 and 3, OS/2 2, version 4 and version 5.
DIB_SIZES = frozenset((12, 40, 52, 56, 64, 108, 124))
_DEPTHS = frozenset((1, 4, 8, 16, 24, 32))

_core = struct.Struct("<4xHHHH")
_info = struct.Struct("<4xiiHHI")
_masks = struct.Struct("<4I")

_RAW, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG = range(6)


def looks_like_dib(head: bytes) -> bool:
    """Tell whether bytes without a signature are a bitmap header."""
    if len(head) < 12:
        return False
    (size,) = struct.unpack_from("<I", head)
    if size == 12:
        _, _, planes, bits = _core.unpack_from(head)
    elif size in DIB_SIZES and len(head) >= 20:
        _, _, planes, bits, _ = _info.unpack_from(head)
    else:
        return False
    return planes == 1 and bits in _DEPTHS


def read_bmp(reader: HeaderReader) -> ImageInfo:
    """Read a bitmap behind its file header of 14 bytes."""
    return _read(reader, 14, "BMP")


def read_dib(reader: HeaderReader) -> ImageInfo:
    """Read a bitmap without a file header."""
    return _read(reader, 0, "DIB")


def _read(reader: HeaderReader, at: int, name: str) -> ImageInfo:
    (size,) = struct.unpack("<I", reader.read(at, 4))
    if size not in DIB_SIZES:
        raise damaged(name, "a header of a known length", f"{size:,} bytes")
    header = reader.read(at, size)
    packing = _RAW
    if size == 12:
        width, height, _, bits = _core.unpack_from(header)
    else:
        width, height, _, bits, packing = _info.unpack_from(header)
        # A negative height only says that the rows run from the top down.
        height = abs(height)
    if width <= 0 or height == 0:
        raise damaged(name, "a height and width above 0", f"{height}x{width}")
    if packing in (_JPEG, _PNG):
        raise unsupported(name, f"a {name} file that only wraps a JPEG or PNG")
    if bits not in _DEPTHS or packing > _PNG:
        raise damaged(name, "a known depth", f"{bits} bits, compression {packing}")
    has_alpha = False
    if packing == _BITFIELDS and bits == 32:
        has_alpha = _alpha_mask(reader, at, size)
    return ImageInfo(
        name,
        "image/bmp",
        height,
        width,
        channels=4 if has_alpha else 3,
        has_alpha=has_alpha,
        colour="palette" if bits <= 8 else "rgb",
        is_lossless=True,
        encoded_size=reader.size,
    )


def _alpha_mask(reader: HeaderReader, at: int, size: int) -> bool:
    """Tell whether the masks give the fourth byte a meaning, as Pillow judges it."""
    if size < 56:
        # Headers this old have three masks; the fourth byte is reserved.
        return False
    masks = _masks.unpack(reader.read(at + 40, 16))
    return masks[3] != 0 or not any(masks)
