"""JPEG: from the first marker to the first scan."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from qwenvl_prep.headers.embedded import profile_pieces
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.refuse import check_frame, damaged
from qwenvl_prep.headers.tiff import exif_orientation_at, mpf_offsets
from qwenvl_prep.headers.xmp import xmp_orientation

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["read_jpeg"]

_segment = struct.Struct(">BBH")
_frame = struct.Struct(">BHHB")

# SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
# JPG, RST0 to RST7, SOI, EOI and JPG0 to JPG13 stand alone, without a length.
_BARE = frozenset((0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
_COLOURS = {1: "grey", 3: "rgb", 4: "cmyk"}

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ULTRA_HDR = b' hdrgm:Version="'
_MAX_SEGMENTS = 10_000


def read_jpeg(reader: HeaderReader, picture: int = 0) -> ImageInfo:
    """Read every segment in front of the first scan, of one picture of an MPO."""
    head = reader.head
    last_in_head = len(head) - 4
    unpack_from = _segment.unpack_from
    orientation = 0
    packets: list[tuple[int, int]] = []
    mpf = b""
    mpf_at = 0
    frame = b""
    frame_marker = 0
    has_icc = False
    icc: list[tuple[int, int]] = []
    # Pillow closes the list of pieces at the frame; later ones are not the profile's.
    icc_of_frame: list[tuple[int, int]] = []
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if at <= last_in_head:
            mark, marker, length = unpack_from(head, at)
        else:
            mark, marker, length = unpack_from(reader.read(at, 4))
        if mark != 0xFF:
            at = _next_mark(reader, at)
            continue
        if marker == 0xFF:
            at = _last_of_fill(reader, at)
            continue
        if marker == 0 or marker in _BARE:
            at += 2
            continue
        if marker < 0xC0:
            raise damaged("JPEG", "a marker", f"0xFF{marker:02X} at byte {at}")
        if marker == 0xDA:
            break
        if length < 2:
            raise damaged("JPEG", "a segment of 2 bytes or more", f"{length} bytes")
        if marker == 0xE1:
            start = reader.read_up_to(at + 4, 29)
            if start[:6] == _EXIF:
                # Pillow joins several EXIF blocks; the first holds the IFD.
                if not orientation:
                    orientation = exif_orientation_at(reader, at + 10, length - 8) or 0
            elif start == _XMP and length > 31:
                packets.append((at + 33, length - 31))
        elif marker == 0xE2:
            start = reader.read_up_to(at + 4, 12)
            if start == b"ICC_PROFILE\0":
                has_icc = True
                if length >= 14:
                    icc.append((at + 16, length - 14))
            elif start[:4] == b"MPF\0" and length > 6:
                mpf = reader.read(at + 8, length - 6)
                mpf_at = at + 8
        elif marker in _FRAMES:
            frame_marker = marker
            frame = reader.read(at + 4, length - 2)
            if icc:
                icc_of_frame, icc = icc, []
        at += 2 + length
    else:
        raise damaged("JPEG", "a scan", f"{_MAX_SEGMENTS:,} segments without one")
    if picture:
        offsets = _pictures(reader, mpf, packets) if mpf else (0,)
        check_frame(picture, len(offsets))
        info = _read_later(reader, mpf_at + offsets[picture])
        return replace(info, n_frames=len(offsets), encoded_size=reader.size)
    if not frame_marker:
        raise damaged("JPEG", "a frame before the first scan", "none")
    bits, height, width, components = _frame.unpack_from(frame)
    if len(frame) != 6 + 3 * components or not components:
        raise damaged("JPEG", f"{components} components", f"{len(frame)} bytes")
    if not 2 <= bits <= 16:
        raise damaged("JPEG", "2 to 16 bits a sample", str(bits))
    if not height:
        # A height of 0 defers to a DNL marker behind the first scan, which
        # libjpeg does not support either.
        raise damaged("JPEG", "a height above 0", "0")
    if not width:
        raise damaged("JPEG", "a width above 0", "0")
    # A scan that lacks a component means that others follow, and decoders keep the
    # coefficients of all of them, as for a progressive file.
    in_scan = reader.read_up_to(at + 4, 1)
    has_more_scans = bool(in_scan) and in_scan[0] < components
    if not orientation:
        # Pillow keeps the last packet.
        orientation = xmp_orientation(reader.read(*packets[-1])) if packets else 1
    return ImageInfo(
        "JPEG",
        "image/jpeg",
        height,
        width,
        orientation,
        components,
        bits,
        False,
        _COLOURS.get(components, "other"),
        len(_pictures(reader, mpf, packets)) if mpf else 1,
        has_icc,
        frame_marker in _PROGRESSIVE or has_more_scans,
        frame_marker in _LOSSLESS,
        reader.size,
        icc_profile=_profile(reader, icc_of_frame) if icc_of_frame else b"",
    )


def _profile(reader: HeaderReader, where: list[tuple[int, int]]) -> bytes:
    """Join a profile as Pillow does, by the numbers that its pieces begin with."""
    pieces = sorted(profile_pieces(reader, where))
    # Each begins with its own number and the number of all.
    if not pieces or len(pieces[0]) < 2 or pieces[0][1] != len(pieces):
        return b""
    return b"".join(piece[2:] for piece in pieces)


def _next_mark(reader: HeaderReader, at: int) -> int:
    """Find the next 0xFF behind junk between two segments, as decoders do."""
    while True:
        junk = reader.read_up_to(at, 1024)
        if not junk:
            # Reading the marker that is missing says where the file ends.
            reader.read(at, 4)
        found = junk.find(0xFF)
        if found >= 0:
            return at + found
        at += len(junk)


def _last_of_fill(reader: HeaderReader, at: int) -> int:
    """Pass over fill bytes, of which any number may stand in front of a marker."""
    fill = reader.read_up_to(at, 1024)
    return at + len(fill) - len(fill.lstrip(b"\xff")) - 1


def _pictures(
    reader: HeaderReader, mpf: bytes, xmp: list[tuple[int, int]]
) -> tuple[int, ...]:
    """Find the pictures of an MPO; a gain map (Ultra HDR) is none, as in Pillow."""
    offsets = mpf_offsets(mpf)
    if len(offsets) > 1 and any(_ULTRA_HDR in reader.read(*where) for where in xmp):
        return (0,)
    return offsets


def _read_later(reader: HeaderReader, at: int) -> ImageInfo:
    """Read a later picture of an MPO, which is a JPEG with metadata of its own."""
    inside = reader.part(at, reader.size)
    if not inside.head.startswith(b"\xff\xd8\xff"):
        raise damaged("JPEG", f"a picture at byte {at:,}", repr(inside.head[:3]))
    return read_jpeg(inside)
