"""Laws of stripping: whatever metadata is put in goes, and the picture stays."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from qwenvl_prep.errors import DamagedImageError, QwenVLPrepError
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.metadata import can_strip, without_metadata

SECRET = b"canary-7f3a"


def read(data: bytes) -> ImageInfo:
    return read_header(HeaderReader.from_bytes(data))


def saved(file_format: str, **options) -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, file_format, **options)
    return file.getvalue()


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


JPEGS = [
    saved("JPEG"),
    saved("JPEG", progressive=True),
    saved("JPEG", restart_marker_blocks=2),
]
PNG = saved("PNG")
WEBP = saved("WEBP", lossless=True)
WEBP = (
    WEBP[:12]
    + b"VP8X\x0a\0\0\0\0\0\0\0"
    + struct.pack("<HBHB", 39, 0, 23, 0)
    + WEBP[12:]
)
WEBP = WEBP[:4] + struct.pack("<I", len(WEBP) - 8) + WEBP[8:]
BASES = [*JPEGS, PNG, WEBP]

secrets = st.binary(max_size=40).map(lambda some: some + SECRET + some[::-1])


def jpeg_places(data: bytes) -> list[int]:
    """List where segments may be put in: in front of each one up to the scan."""
    places, at = [2], 2
    while data[at + 1] != 0xDA:
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
        places.append(at)
    return places


def png_places(data: bytes) -> list[int]:
    """List where chunks may be put in: behind IHDR, and in front of IEND."""
    return [33, len(data) - 12]


def put_in(data: bytes, pieces: list[tuple[int, bytes]]) -> bytes:
    for at, piece in sorted(pieces, reverse=True):
        data = data[:at] + piece + data[at:]
    return data


def check(base: bytes, dirty: bytes) -> None:
    clean = without_metadata(dirty, read(dirty))
    assert clean == base
    assert pixels(clean) == pixels(dirty)


@given(st.sampled_from(JPEGS), st.data())
def test_jpeg_segments_vanish(base, draw):
    """Any application segments and comments, in any place, leave the base."""
    place = st.sampled_from(jpeg_places(base))
    # APP2 and APP14 would be a profile, or the inks, by no random bytes.
    marker = st.sampled_from([*range(0xE1, 0xF0), 0xFE])
    pieces = [
        (at, struct.pack(">BBH", 0xFF, code, 2 + len(body)) + body)
        for at, code, body in draw.draw(
            st.lists(st.tuples(place, marker, secrets), max_size=6)
        )
    ]
    trailer = draw.draw(st.just(b"") | secrets)
    check(base, put_in(base, pieces) + trailer)


names = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=3).map(
    lambda name: name[:1].encode() + name[1:].encode().upper() + b"x"
)


@given(st.data())
def test_png_chunks_vanish(draw):
    """Any unknown chunks and texts, before the pixels or behind, leave the base."""
    name = names | st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"caBX"])
    pieces = [
        (
            at,
            struct.pack(">I", len(body))
            + kind
            + body
            + struct.pack(">I", zlib.crc32(kind + body)),
        )
        for at, kind, body in draw.draw(
            st.lists(
                st.tuples(st.sampled_from(png_places(PNG)), name, secrets), max_size=6
            )
        )
    ]
    dirty = put_in(PNG, pieces) + draw.draw(st.just(b"") | secrets)
    assert without_metadata(dirty, read(dirty)) == PNG


@given(
    st.lists(st.tuples(st.sampled_from([b"EXIF", b"XMP ", b"note"]), secrets)),
    st.just(b"") | secrets,
    st.sampled_from([0, 0x04, 0x08, 0x0C]),
)
def test_webp_chunks_vanish(pieces, trailer, flags):
    """Any chunks behind the picture, and the flags for them, leave the base."""
    dirty = WEBP + b"".join(
        struct.pack("<4sI", name, len(body)) + body + b"\0" * (len(body) & 1)
        for name, body in pieces
    )
    size = struct.pack("<I", len(dirty) - 8)
    dirty = dirty[:4] + size + dirty[8:20] + bytes((flags,)) + dirty[21:] + trailer
    check(WEBP, dirty)


@given(st.sampled_from(BASES), st.integers(1, 8))
def test_orientation_is_all_that_is_added(base, orientation):
    """What the header said before is what it says afterwards, and once is enough."""
    info = replace(read(base), orientation=orientation)
    if info.format == "WEBP" and orientation == 1:
        assert without_metadata(base, info) is base
    turned = without_metadata(base, info)
    again = read(turned)
    assert again == replace(info, encoded_size=len(turned))
    assert without_metadata(turned, again) is turned
    assert without_metadata(turned, read(base)) == base
    assert pixels(turned) == pixels(base)


@given(st.sampled_from(BASES), st.data())
@settings(max_examples=600)
@example(JPEGS[0], None)
def test_damaged_files_give_bytes_or_our_error(base, draw):
    """No bytes that have a header bring out another exception."""
    data = bytearray(base)
    for _ in range(draw.draw(st.integers(1, 5)) if draw else 0):
        reach = draw.draw(st.sampled_from([64, len(data)]))
        at = draw.draw(st.integers(0, min(reach, len(data))))
        data[at : at + draw.draw(st.sampled_from([0, 1, 4]))] = draw.draw(
            st.binary(max_size=6) | st.sampled_from([b"\xff", b"\xff\xff\xff\xff"])
        )
    if draw and draw.draw(st.booleans()):
        del data[draw.draw(st.integers(0, len(data))) :]
    try:
        info = read(bytes(data))
    except QwenVLPrepError:
        return
    if not can_strip(info.format):
        return
    try:
        clean = without_metadata(bytes(data), info)
    except DamagedImageError:
        return
    again = read(clean)
    assert (again.height, again.width) == (info.height, info.width)
    assert again.orientation == info.orientation
    assert without_metadata(clean, again) is clean
