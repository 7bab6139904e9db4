"""Icons of Windows (ICO) and of macOS (ICNS)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from qwenvl_prep.headers.bmp import read_dib
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.jpeg2000 import CODESTREAM, read_j2k, read_jp2
from qwenvl_prep.headers.png import SIGNATURE as PNG_SIGNATURE
from qwenvl_prep.headers.png import read_png
from qwenvl_prep.headers.reader import HeaderReader
from qwenvl_prep.headers.refuse import check_frame, damaged

__all__ = ["one_of_icns", "one_of_ico", "read_icns", "read_ico"]

_entry = struct.Struct("<BBBxHHII")
_block = struct.Struct(">4sI")

_MAX_BLOCKS = 1_000
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"

# Type of an ICNS block -> points on a side, pixels per point.
# Types that are only a mask are here too, for Pillow counts them.
_ICNS_SIDES = {
    b"ic10": (512, 2),
    b"ic09": (512, 1),
    b"ic14": (256, 2),
    b"ic08": (256, 1),
    b"ic13": (128, 2),
    b"ic07": (128, 1),
    b"it32": (128, 1),
    b"t8mk": (128, 1),
    b"icp6": (64, 1),
    b"ih32": (48, 1),
    b"h8mk": (48, 1),
    b"ic12": (32, 2),
    b"icp5": (32, 1),
    b"il32": (32, 1),
    b"l8mk": (32, 1),
    b"ic11": (16, 2),
    b"icp4": (16, 1),
    b"is32": (16, 1),
    b"s8mk": (16, 1),
}


class _Entry(NamedTuple):
    height: int
    width: int
    colour_bits: int
    size: int
    at: int


def _entries(reader: HeaderReader) -> list[_Entry]:
    (count,) = struct.unpack("<H", reader.read(4, 2))
    if not count:
        raise damaged("ICO", "at least one picture", "none")
    found = []
    for width, height, colours, _, bits, size, at in _entry.iter_unpack(
        reader.read(6, 16 * count)
    ):
        # 0 stands for 256, and without a depth the number of colours gives it.
        depth = bits or (colours - 1).bit_length() if colours else bits or 256
        found.append(_Entry(height or 256, width or 256, depth, size, at))
    return found


def read_ico(reader: HeaderReader, frame: int | None = None) -> ImageInfo:
    """
    Read one picture, without a number the largest.

    Among equals that is the one of fewest colours, as in Pillow.
    """
    entries = _entries(reader)
    if frame is None:
        entry = min(entries, key=lambda e: (-e.height * e.width, e.colour_bits))
    else:
        check_frame(frame, len(entries))
        entry = entries[frame]
    # A directory may name a length that is too short, and decoders do not heed it.
    inside = reader.part(entry.at, reader.size)
    if inside.head[:8] == PNG_SIGNATURE:
        info = read_png(inside)
        height, width, has_alpha = info.height, info.width, info.has_alpha
        channels, depth, colour = info.channels, info.bit_depth, info.colour
    else:
        info = read_dib(inside)
        # Colours and transparency mask are stacked in one bitmap.
        height, width, has_alpha = info.height // 2, info.width, True
        channels, depth, colour = 4, 8, info.colour
    if not height:
        raise damaged("ICO", "a height above 0", "0")
    return ImageInfo(
        "ICO",
        "image/x-icon",
        height,
        width,
        channels=channels,
        bit_depth=depth,
        has_alpha=has_alpha,
        colour=colour,
        n_frames=len(entries),
        is_lossless=True,
        encoded_size=reader.size,
    )


def read_icns(reader: HeaderReader, frame: int | None = None) -> ImageInfo:
    """
    Find one picture among the blocks by their types, without a number the largest.

    Blocks of one type's size are one picture: its colours, its mask, or all of it.
    """
    blocks = _icns_blocks(reader)
    sides = list(dict.fromkeys(_ICNS_SIDES[kind] for kind, _, _ in blocks))
    if not sides:
        raise damaged("ICNS", "a picture in full colour", "none")
    if frame is None:
        points, scale = max(sides)
    else:
        check_frame(frame, len(sides))
        points, scale = sides[frame]
    side = points * scale
    for kind, start, stop in blocks:
        block_points, block_scale = _ICNS_SIDES[kind]
        # Decoders read what a block holds before they compare its size.
        if block_points * block_scale == side and (
            frame is None or block_scale == scale
        ):
            _check_block(reader.part(start, stop - start), side)
    return ImageInfo(
        "ICNS",
        "image/icns",
        side,
        side,
        channels=4,
        has_alpha=True,
        n_frames=len(sides),
        is_lossless=True,
        encoded_size=reader.size,
    )


def one_of_ico(data: bytes, frame: int) -> bytes:
    """Give an ICO file whose directory names one picture only."""
    at = 6 + 16 * frame
    return b"".join((data[:4], b"\1\0", data[at : at + 16], data[22:]))


def one_of_icns(data: bytes, frame: int) -> bytes:
    """Give an ICNS file with the blocks of one picture only."""
    blocks = _icns_blocks(HeaderReader.from_bytes(data))
    sides = list(dict.fromkeys(_ICNS_SIDES[kind] for kind, _, _ in blocks))
    body = b"".join(
        data[start - 8 : stop]
        for kind, start, stop in blocks
        if _ICNS_SIDES[kind] == sides[frame]
    )
    return _block.pack(b"icns", 8 + len(body)) + body


def _icns_blocks(reader: HeaderReader) -> list[tuple[bytes, int, int]]:
    """Give type, start and end of each block that holds a picture or its mask."""
    _, end = _block.unpack(reader.read(0, 8))
    found = []
    at = 8
    for _ in range(_MAX_BLOCKS):
        if at >= end:
            break
        kind, length = _block.unpack(reader.read(at, 8, 0))
        if length < 8:
            raise damaged("ICNS", "a block of 8 bytes or more", f"{length} bytes")
        if kind in _ICNS_SIDES:
            found.append((kind, at + 8, at + length))
        at += length
    return found


def _check_block(block: HeaderReader, side: int) -> None:
    """Refuse a PNG or JPEG 2000 that is not as large as its block's type says."""
    if block.head[:8] == PNG_SIGNATURE:
        info = read_png(block)
    elif block.head[:12] == _JP2_SIGNATURE:
        info = read_jp2(block)
    elif block.head[:4] == CODESTREAM:
        info = read_j2k(block)
    else:
        return
    if (info.height, info.width) != (side, side):
        raise damaged("ICNS", f"{side}x{side} pixels", f"{info.height}x{info.width}")
