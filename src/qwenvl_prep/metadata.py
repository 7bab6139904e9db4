"""The same picture without what its file tells about people, places and devices."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

from qwenvl_prep._native.scan import end_of_scan
from qwenvl_prep.damage import broken

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

    _Part = bytes | memoryview

__all__ = ["can_strip", "without_metadata"]

# EXIF that holds one IFD with one tag: 0x0112, one unsigned short.
_ORIENTATION = struct.Struct(">2sHIHHHIHHI")

_PAST_THE_END = "a length leads past the end"


def can_strip(file_format: str) -> bool:
    """
    Tell whether metadata can be taken out of a type without touching its pixels.

    Parameters
    ----------
    file_format : str
        As :attr:`ImageInfo.format` names it.

    Examples
    --------
    >>> can_strip("JPEG"), can_strip("TIFF")
    (True, False)
    """
    return file_format in _STRIP


def without_metadata(data: bytes, info: ImageInfo) -> bytes:
    """
    Give the same picture without metadata; the pixels' code is copied as it is.

    What a decoder needs stays, and what says how the pixels look: colour profile,
    gamma, transparency, animation, density.  EXIF, GPS, XMP, IPTC, C2PA, comments,
    texts, thumbnails, everything unknown and everything behind the picture goes, the
    further pictures of an MPO among it.  An orientation other than 1 stays as the
    only tag of a new EXIF block, wherever it was stated before.

    Parameters
    ----------
    data : bytes
        The whole file: JPEG, PNG or WebP, see :func:`can_strip`.
    info : ImageInfo
        What its header says.

    Returns
    -------
    bytes
        *data* itself where there is nothing to remove.  Otherwise a file with the
        same header as *info*, but for ``encoded_size``, and for ``n_frames`` of an
        MPO, which becomes 1.

    Raises
    ------
    DamagedImageError
        If the file's structure is broken or it ends early.
    ValueError
        If the type is another.

    Notes
    -----
    A colour profile is kept to the last byte, and so is whatever stands inside the
    pixels' own code, where it can only be found by decoding.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> from qwenvl_prep.headers import HeaderReader, read_header
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (56, 56)).save(file, "JPEG", comment=b"taken at home")
    >>> data = file.getvalue()
    >>> info = read_header(HeaderReader.from_bytes(data))
    >>> b"home" in data, b"home" in without_metadata(data, info)
    (True, False)
    """
    strip = _STRIP.get(info.format)
    if strip is None:
        raise ValueError(
            f"Expected a picture of {', '.join(_STRIP)} but received {info.format}"
        )
    try:
        clean = b"".join(strip(data, info))
    except (struct.error, IndexError) as exc:
        raise broken(info.format, _PAST_THE_END) from exc
    return data if clean == data else clean


def _exif(orientation: int) -> bytes:
    return _ORIENTATION.pack(b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


# ---------------------------------------------------------------------------- JPEG

_U16 = struct.Struct(">H")
# What libjpeg takes for the next marker, wherever it stands: it skips junk and fill.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_RESTARTS = range(0xD0, 0xD8)
# Markers without a length that mean nothing outside a scan: TEM and restarts.
_BARE = frozenset({0x01, *_RESTARTS})
# SOF0 to SOF15 with DHT and DAC among them but not JPG; DQT, DNL, DRI, DHP, EXP.
_CODING = frozenset({*range(0xC0, 0xD0), *range(0xDB, 0xE0)}) - {0xC8}
# APP0 to APP15 and comments.
_APPLICATION = frozenset({*range(0xE0, 0xF0), 0xFE})
_APP0, _APP2, _APP14 = 0xE0, 0xE2, 0xEE

_JFIF = b"JFIF\0"
_JFIF_LENGTH = 14
_ICC = b"ICC_PROFILE\0"
_ADOBE = b"Adobe"
_ADOBE_LENGTH = 12


def _strip_jpeg(data: bytes, info: ImageInfo) -> list[_Part]:
    view = memoryview(data)
    pieces: list[_Part] = [_SOI]
    exif_at = 1
    has_scan = False
    at = len(_SOI)
    while found := _MARKER.search(data, at):
        start = found.start()
        marker = data[start + 1]
        if marker in _BARE:
            at = start + 2
            continue
        if marker == _END_OF_IMAGE and has_scan:
            if info.orientation != 1:
                exif = b"Exif\0\0" + _exif(info.orientation)
                pieces.insert(exif_at, _segment(0xE1, exif))
            # What follows belongs to other pictures, or to nobody.
            pieces.append(_EOI)
            return pieces
        at = start + 2 + _U16.unpack_from(data, start + 2)[0]
        if at < start + 4 or at > len(data):
            raise broken("JPEG", _PAST_THE_END)
        if marker == _START_OF_SCAN:
            has_scan = True
            at = _end_of_scan(data, at)
            pieces.append(view[start:at])
        elif marker in _CODING:
            pieces.append(view[start:at])
        elif marker not in _APPLICATION:
            raise broken("JPEG", f"marker 0xFF{marker:02X} is none of a picture")
        elif not has_scan:  # Later ones are not heeded by decoders.
            kept = _application(marker, data[start + 4 : at])
            if marker == _APP0 and kept and len(pieces) == 1:
                exif_at = 2  # JFIF wants to be first.
            if kept:
                pieces.append(_segment(marker, kept))
    raise broken("JPEG", "no end marker")


def _end_of_scan(data: bytes, at: int) -> int:
    """Find the end of a scan; restart markers in a wrong order are left to decoders."""
    while True:
        at, _ = end_of_scan(data, at)
        if at < 0:
            raise broken("JPEG", "no end marker")
        if data[at + 1] not in _RESTARTS:
            return at
        at += 2


def _application(marker: int, body: bytes) -> bytes:
    """Give what decoders heed of an application segment: colours and density."""
    if marker == _APP0 and body.startswith(_JFIF) and len(body) >= _JFIF_LENGTH:
        return body[: _JFIF_LENGTH - 2] + b"\0\0"  # no thumbnail
    if marker == _APP2 and body.startswith(_ICC):
        return body
    if marker == _APP14 and body.startswith(_ADOBE) and len(body) >= _ADOBE_LENGTH:
        return body[:_ADOBE_LENGTH]
    return b""


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


# ----------------------------------------------------------------------------- PNG

_PNG_CHUNK = struct.Struct(">I4s")
_PNG_START = 33  # signature and IHDR
_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_NEEDED = frozenset({b"PLTE", b"IDAT", b"tRNS", b"iCCP", b"acTL", b"fcTL", b"fdAT"})
# How the pixels look, with the longest body that is legal: light and colours, and
# the ground and the shape of a pixel, which say as little about anybody.
_APPEARANCE = {
    b"bKGD": 6,
    b"cHRM": 32,
    b"cICP": 4,
    b"cLLI": 8,
    b"gAMA": 4,
    b"mDCV": 24,
    b"pHYs": 9,
    b"sBIT": 4,
    b"sRGB": 1,
}
_CRITICAL = range(ord("A"), ord("Z") + 1)


def _strip_png(data: bytes, info: ImageInfo) -> list[_Part]:
    view = memoryview(data)
    pieces: list[_Part] = [view[:_PNG_START]]
    if info.orientation != 1:
        pieces.append(_chunk(b"eXIf", _exif(info.orientation)))
    at = kept_from = _PNG_START
    before = b"IHDR"
    has_pixels = False
    while True:
        length, name = _PNG_CHUNK.unpack_from(data, at)
        if name == b"IEND" and has_pixels:
            pieces += (view[kept_from:at], _IEND)
            return pieces
        end = at + 12 + length
        if end > len(data):
            raise broken("PNG", _PAST_THE_END)
        if name == b"IDAT":
            # Without the chunk between them, two runs would become one.
            if has_pixels and before != b"IDAT":
                raise broken("PNG", "its pixels are interrupted")
            has_pixels = True
        if name not in _NEEDED and length > _APPEARANCE.get(name, -1):
            if name[0] in _CRITICAL:
                raise broken("PNG", f"chunk {name!r} is unknown or out of place")
            pieces.append(view[kept_from:at])
            kept_from = end
        before = name
        at = end


def _chunk(name: bytes, body: bytes) -> bytes:
    start = _PNG_CHUNK.pack(len(body), name)
    return start + body + struct.pack(">I", zlib.crc32(name + body))


# ---------------------------------------------------------------------------- WebP

_RIFF_CHUNK = struct.Struct("<4sI")
_RIFF_START = 12  # RIFF, its length, WEBP
_FRAME_HEADER = 16
_ICC_FLAG, _EXIF_FLAG, _XMP_FLAG = 0x20, 0x08, 0x04
_PICTURES = frozenset({b"VP8 ", b"VP8L"})
_PARTS_OF_PICTURES = frozenset({*_PICTURES, b"ALPH"})


def _strip_webp(data: bytes, info: ImageInfo) -> list[_Part]:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise broken("WEBP", _PAST_THE_END)
    chunks = _riff_chunks(data, _RIFF_START, end)
    if chunks[0][0] in _PICTURES:
        return _riff([_riff_chunk(*chunks[0])])
    header = bytearray(chunks[0][1])
    if chunks[0][0] != b"VP8X" or len(header) != 10:
        raise broken("WEBP", f"chunk {chunks[0][0]!r} comes first")
    profile = b""
    pieces: list[_Part] = []
    pictures = 0
    for name, body in chunks[1:]:
        if name == b"ICCP" and info.has_icc:
            profile = profile or _riff_chunk(name, body)
        elif name == b"ANMF":
            pieces.append(_riff_chunk(name, _frame(body)))
        elif name in _PARTS_OF_PICTURES or name == b"ANIM":
            pictures += name in _PICTURES
            pieces.append(_riff_chunk(name, body))
    if pictures > 1:
        raise broken("WEBP", "more than one picture outside an animation")
    header[0] &= ~(_EXIF_FLAG | _XMP_FLAG)
    if not profile:
        header[0] &= ~_ICC_FLAG
    if info.orientation != 1:
        header[0] |= _EXIF_FLAG
        pieces.append(_riff_chunk(b"EXIF", _exif(info.orientation)))
    return _riff([_riff_chunk(b"VP8X", bytes(header)), profile, *pieces])


def _frame(body: memoryview) -> bytes:
    """Give a frame of an animation without what is not its picture."""
    parts = [
        _riff_chunk(name, part)
        for name, part in _riff_chunks(body, _FRAME_HEADER, len(body))
        if name in _PARTS_OF_PICTURES
    ]
    return b"".join((body[:_FRAME_HEADER], *parts))


def _riff_chunks(
    data: bytes | memoryview, at: int, end: int
) -> list[tuple[bytes, memoryview]]:
    """List names and bodies; a rest too short for a chunk is none."""
    view = memoryview(data)
    chunks = []
    while at + _RIFF_CHUNK.size <= end:
        name, length = _RIFF_CHUNK.unpack_from(data, at)
        start = at + _RIFF_CHUNK.size
        if start + length > end:
            raise broken("WEBP", _PAST_THE_END)
        chunks.append((name, view[start : start + length]))
        at = start + length + (length & 1)
    if not chunks:
        raise broken("WEBP", "no picture")
    return chunks


def _riff_chunk(name: bytes, body: _Part) -> bytes:
    padding = b"\0" * (len(body) & 1)
    return b"".join((_RIFF_CHUNK.pack(name, len(body)), body, padding))


def _riff(pieces: list[_Part]) -> list[_Part]:
    length = 4 + sum(map(len, pieces))
    return [_RIFF_CHUNK.pack(b"RIFF", length), b"WEBP", *pieces]


_STRIP = {"JPEG": _strip_jpeg, "PNG": _strip_png, "WEBP": _strip_webp}
