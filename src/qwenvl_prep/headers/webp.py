"""WebP: lossy (VP8), lossless (VP8L) and extended (VP8X)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qwenvl_prep.headers.embedded import profile_pieces
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.refuse import damaged
from qwenvl_prep.headers.tiff import exif_orientation_at
from qwenvl_prep.headers.xmp import xmp_orientation

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["read_webp"]

_chunk = struct.Struct("<4sI")
_lossy = struct.Struct("<B2x3sHH")
_lossless = struct.Struct("<BI")
_extended = struct.Struct("<B3xHBHB")

# Flags of a VP8X chunk, WebP container specification.
_ANIMATION, _XMP, _EXIF, _ALPHA, _ICC = 0x02, 0x04, 0x08, 0x10, 0x20
_MAX_CHUNKS = 10_000
_MAX_METADATA = 64 * 1024


def read_webp(reader: HeaderReader, frame: int = 0) -> ImageInfo:
    """Read the first chunk, and the others if it says that there are some."""
    kind, _ = _chunk.unpack(reader.read(12, 8))
    if kind == b"VP8X":
        return _read_extended(reader, frame)
    height, width, has_alpha = _bitstream(reader, kind, 20)
    return ImageInfo(
        "WEBP",
        "image/webp",
        height,
        width,
        1,
        4 if has_alpha else 3,
        8,
        has_alpha,
        "rgb",
        1,
        False,
        False,
        kind == b"VP8L",
        reader.size,
    )


def _bitstream(reader: HeaderReader, kind: bytes, at: int) -> tuple[int, int, bool]:
    """Give height, width and whether there is alpha, from the coded picture."""
    if kind == b"VP8 ":
        frame, start, width, height = _lossy.unpack(reader.read(at, 10))
        if frame & 1 or start != b"\x9d\x01\x2a":
            raise damaged("WEBP", "a key frame", f"{start.hex()}")
        # The upper two bits are a scale for display, which decoders ignore.
        width, height, has_alpha = width & 0x3FFF, height & 0x3FFF, False
    elif kind == b"VP8L":
        start, packed = _lossless.unpack(reader.read(at, 5))
        if start != 0x2F or packed >> 29:
            raise damaged("WEBP", "a lossless picture, version 0", f"{start:#x}")
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        has_alpha = bool(packed >> 28 & 1)
    else:
        raise damaged("WEBP", "a VP8, VP8L or VP8X chunk", repr(kind))
    if not height or not width:
        raise damaged("WEBP", "a height and width above 0", f"{height}x{width}")
    return height, width, has_alpha


def _read_extended(reader: HeaderReader, frame: int) -> ImageInfo:
    flags, w_low, w_high, h_low, h_high = _extended.unpack(reader.read(20, 10))
    width, height = (w_low | w_high << 16) + 1, (h_low | h_high << 16) + 1
    animated = bool(flags & _ANIMATION)
    frames = 0
    has_alpha = bool(flags & _ALPHA)
    has_icc = False
    icc: list[tuple[int, int]] = []
    first_picture = b""
    is_lossless = False
    exif: int | None = None
    xmp: tuple[int, int] | None = None
    end = min(reader.size, 8 + struct.unpack("<I", reader.read(4, 4))[0])
    at = 20 + (_length_of_first(reader) + 1 & ~1)
    for _ in range(_MAX_CHUNKS):
        if at + 8 > end:
            break
        # The frames of an animation are far apart.
        kind, length = _chunk.unpack(
            reader.peek(at, 8) if frames else reader.read(at, 8)
        )
        if kind == b"ANMF":
            frames += 1
            if not first_picture:
                first_picture = reader.read_up_to(at + 24, 4)
                is_lossless = first_picture == b"VP8L"
            elif 1 < frames <= frame + 1 and is_lossless:
                # A later frame shows what earlier ones left.
                is_lossless = reader.peek(at + 24, 4) == b"VP8L"
            if not reader.tail and frames > frame:
                break
        elif kind in (b"VP8 ", b"VP8L"):
            if not first_picture:
                first_picture = kind
                is_lossless = kind == b"VP8L"
                if not animated:
                    *_, picture_alpha = _bitstream(reader, kind, at + 8)
                    has_alpha = has_alpha or picture_alpha
            awaited = flags & (_EXIF | _XMP) or (flags & _ICC and not has_icc)
            if not animated and not (awaited and reader.tail):
                break
        elif kind == b"ICCP":
            has_icc = True
            # libwebp gives the first, and none that the flags do not announce.
            if flags & _ICC and not icc:
                icc.append((at + 8, length))
        elif kind == b"EXIF" and exif is None:
            length_read = min(length, _MAX_METADATA)
            exif = exif_orientation_at(reader, at + 8, length_read) or 0
        elif kind == b"XMP " and xmp is None:
            xmp = at + 8, min(length, _MAX_METADATA)
        at += 8 + (length + 1 & ~1)
    if not first_picture:
        raise damaged("WEBP", "a picture behind the VP8X chunk", "none")
    if not exif:
        exif = xmp_orientation(reader.read_up_to(*xmp)) if xmp else 1
    return ImageInfo(
        "WEBP",
        "image/webp",
        height,
        width,
        exif,
        4 if has_alpha else 3,
        8,
        has_alpha,
        "rgb",
        max(frames, 1),
        has_icc,
        False,
        is_lossless,
        reader.size,
        icc_profile=b"".join(profile_pieces(reader, icc)) if icc else b"",
    )


def _length_of_first(reader: HeaderReader) -> int:
    length: int = _chunk.unpack(reader.read(12, 8))[1]
    return length
