"""JPEG 2000: JP2 files made of boxes, and bare codestreams."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qwenvl_prep.headers.boxes import Box, walk_boxes
from qwenvl_prep.headers.embedded import profile_pieces
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.refuse import damaged

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["CODESTREAM", "read_j2k", "read_jp2"]

CODESTREAM = b"\xff\x4f\xff\x51"

_siz = struct.Struct(">HHIIIIIIIIH")
_ihdr = struct.Struct(">IIHBBBB")

# EnumCS of a colr box -> colour; 0 and 15 are bilevel.
_COLOURS = {0: "grey", 12: "cmyk", 15: "grey", 16: "rgb", 17: "grey", 18: "rgb"}
_BY_CHANNELS = {1: "grey", 2: "grey", 3: "rgb", 4: "rgb"}
_COD = 0xFF52
_SOT = 0xFF90
_MAX_SEGMENTS = 1_000
_DEPTHS = (1, 2, 4, 8, 10, 12, 16, 32)


def read_j2k(reader: HeaderReader) -> ImageInfo:
    """Read a bare codestream."""
    height, width, channels, bits, lossless = _codestream(reader, 0)
    return _info(
        reader, height, width, channels, bits, channels in (2, 4), "", None, lossless
    )


def read_jp2(reader: HeaderReader) -> ImageInfo:
    """Read the header box, and the codestream for what it does not say."""
    header: Box | None = None
    stream: Box | None = None
    for box in walk_boxes(reader, 0, reader.size):
        if box.kind == b"jp2h" and header is None:
            header = box
        elif box.kind == b"jp2c":
            stream = box
            break
    if header is None:
        raise damaged("JPEG2000", "a jp2h box", "none")
    size: tuple[int, int] | None = None
    channels = bits = palette = 0
    colour = ""
    icc: list[tuple[int, int]] | None = None
    first_colour: Box | None = None
    for box in walk_boxes(reader, header.start, header.end):
        if box.kind == b"ihdr":
            height, width, channels, bits, *_ = _ihdr.unpack(reader.read(box.start, 14))
            size = height, width
        elif box.kind == b"colr":
            first_colour = first_colour or box
            method = reader.read(box.start, 1)[0]
            if method == 1:
                number = struct.unpack(">I", reader.read(box.start + 3, 4))[0]
                colour = colour or _COLOURS.get(number, "other")
            elif method in (2, 3):
                # ISO 15444-1, I.5.3.3: readers ignore all but the first of them.
                only = (box.start + 3, box.end - box.start - 3)
                icc = [only] if box is first_colour else icc or []
        elif box.kind == b"pclr":
            palette = reader.read(box.start + 2, 1)[0]
    if size is None or not channels:
        raise damaged("JPEG2000", "an ihdr box with a size", "none")
    height, width = size
    lossless = False
    depth = (bits & 0x7F) + 1
    if stream is not None and reader.read_up_to(stream.start, 4) == CODESTREAM:
        *_, depth, lossless = _codestream(reader, stream.start)
    if palette:
        channels = channels - 1 + palette
        colour = "palette"
    has_alpha = channels in (2, 4) and colour != "cmyk"
    return _info(
        reader, height, width, channels, depth, has_alpha, colour, icc, lossless
    )


def _info(
    reader: HeaderReader,
    height: int,
    width: int,
    channels: int,
    bits: int,
    has_alpha: bool,
    colour: str,
    icc: list[tuple[int, int]] | None,
    is_lossless: bool,
) -> ImageInfo:
    if not height or not width:
        raise damaged("JPEG2000", "a height and width above 0", f"{height}x{width}")
    if bits > 38:
        # ISO 15444-1, table A.11.
        raise damaged("JPEG2000", "up to 38 bits a sample", str(bits))
    return ImageInfo(
        "JPEG2000",
        "image/jp2",
        height,
        width,
        channels=channels,
        bit_depth=next((depth for depth in _DEPTHS if depth >= bits), 64),
        has_alpha=has_alpha,
        colour=colour or _BY_CHANNELS.get(channels, "other"),
        has_icc=icc is not None,
        is_lossless=is_lossless,
        encoded_size=reader.size,
        icc_profile=b"".join(profile_pieces(reader, icc)) if icc else b"",
    )


def _codestream(reader: HeaderReader, at: int) -> tuple[int, int, int, int, bool]:
    """Give height, width, channels, bits and whether nothing was rounded away."""
    length, _, x_end, y_end, x_start, y_start, *_, channels = _siz.unpack(
        reader.read(at + 4, _siz.size)
    )
    if length != 38 + 3 * channels or not 1 <= channels <= 16384:
        raise damaged("JPEG2000", f"{channels} components", f"{length} bytes of them")
    if x_end <= x_start or y_end <= y_start:
        raise damaged("JPEG2000", "a height and width above 0", "none")
    depths = reader.read(at + 4 + _siz.size, 3 * channels)[::3]
    bits = max(depth & 0x7F for depth in depths) + 1
    lossless = _is_reversible(reader, at + 4 + length)
    return y_end - y_start, x_end - x_start, channels, bits, lossless


def _is_reversible(reader: HeaderReader, at: int) -> bool:
    """Look for the coding style, whose transform 1 is the 5/3 integer wavelet."""
    for _ in range(_MAX_SEGMENTS):
        beginning = reader.read_up_to(at, 4)
        if len(beginning) < 4:
            break
        marker, length = struct.unpack(">HH", beginning)
        if marker == _SOT or length < 2:
            break
        if marker == _COD:
            return reader.read_up_to(at + 13, 1) == b"\1"
        at += 2 + length
    return False
