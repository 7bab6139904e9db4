"""The sides of plain files, beside the reader that knows every type."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qwenvl_prep._native.headers import sides_of_plain
from qwenvl_prep.errors import ImageError
from qwenvl_prep.headers import HeaderReader, read_header

EXIF = Image.Exif()
EXIF[0x0112] = 6
EXIF[0x010E] = "a description that takes a place of its own" * 20


def saved(mode: str, file_format: str, **options: object) -> bytes:
    """Give a file of 24 × 40 pixels."""
    file = io.BytesIO()
    Image.new(mode, (40, 24)).save(file, file_format, **options)
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    """Give a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """Give a chunk of a PNG."""
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    )


def box(kind: bytes, content: bytes) -> bytes:
    """Give a chunk of a WebP."""
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)


def webp(*boxes: bytes) -> bytes:
    """Give a WebP of these chunks."""
    body = b"WEBP" + b"".join(boxes)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FRAME = segment(0xC0, b"\x08\0\x18\0\x28\3" + bytes(9))
SCAN = segment(0xDA, b"\3" + bytes(9)) + b"pixels" + b"\xff\xd9"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
IHDR = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 24, 8, 2, 0, 0, 0))
IDAT = chunk(b"IDAT", b"pixels")
IEND = chunk(b"IEND")
VP8 = box(b"VP8 ", b"\0\0\0\x9d\x01\x2a\x28\0\x18\0" + bytes(8))
VP8L = box(b"VP8L", b"\x2f" + struct.pack("<I", 39 | 23 << 14) + bytes(8))


def extended(flags: int) -> bytes:
    """Give the chunk that announces others."""
    return box(b"VP8X", struct.pack("<BxxxHBHB", flags, 39, 0, 23, 0))


PLAIN = {
    "jpeg": saved("RGB", "JPEG"),
    "jpeg-grey": saved("L", "JPEG", progressive=True),
    "jpeg-exif": saved("RGB", "JPEG", exif=EXIF, icc_profile=b"profile" * 20_000),
    "jpeg-far": b"\xff\xd8"
    + segment(0xE1, b"Exif\0\0" + bytes(60_000))
    + segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))
    + segment(0xFE, bytes(60_000))
    + FRAME
    + SCAN,
    "png": saved("RGB", "PNG"),
    "png-palette": saved("P", "PNG", exif=EXIF, transparency=3, bits=2),
    "png-far": SIGNATURE
    + IHDR
    + chunk(b"iCCP", bytes(9_000))
    + chunk(b"eXIf", bytes(9_000))
    + chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes(90_000))
    + IDAT
    + IEND,
    "png-animated": SIGNATURE + IHDR + chunk(b"acTL", bytes(8)) + IDAT + IEND,
    "webp": saved("RGB", "WEBP"),
    "webp-lossless": saved("RGB", "WEBP", lossless=True),
    "webp-extended": saved("RGBA", "WEBP", exif=EXIF),
    "webp-far": webp(
        extended(0x2C),
        box(b"ICCP", bytes(9_001)),
        VP8,
        box(b"EXIF", bytes(70_000)),
        box(b"XMP ", bytes(70_000)),
    ),
    "bmp": saved("RGB", "BMP"),
    "bmp-palette": saved("P", "BMP"),
    "tiff": saved("RGB", "TIFF"),
    "tiff-16": saved("I;16", "TIFF"),
    "tiff-lzw": saved("RGBA", "TIFF", compression="tiff_lzw", tiffinfo={274: 6}),
}

# What may be said otherwise, or is refused, is left to the reader.
OTHERS = {
    "empty": b"",
    "text": b"BM is how this text begins, and it has no zeros at all, and is long",
    "gif": saved("P", "GIF"),
    "jpeg-without-frame": b"\xff\xd8" + SCAN,
    "jpeg-two-frames": b"\xff\xd8" + FRAME + FRAME + SCAN,
    "jpeg-without-scan": b"\xff\xd8" + FRAME,
    "jpeg-fill": b"\xff\xd8\xff" + FRAME + SCAN,
    "jpeg-junk": b"\xff\xd8\0\0\0" + FRAME + SCAN,
    "jpeg-bare": b"\xff\xd8\xff\xd0" + FRAME + SCAN,
    "jpeg-height-0": b"\xff\xd8" + FRAME.replace(b"\x18", b"\0") + SCAN,
    "jpeg-components": b"\xff\xd8" + segment(0xC0, b"\x08\0\x18\0\x28\3") + SCAN,
    "jpeg-short-segment": b"\xff\xd8\xff\xfe\0\1" + FRAME + SCAN,
    "jpeg-many": b"\xff\xd8" + segment(0xE1, bytes(60_000)) * 5 + FRAME + SCAN,
    "mpo": b"\xff\xd8" + segment(0xE2, b"MPF\0II*\0" + bytes(30)) + FRAME + SCAN,
    "png-checksum": SIGNATURE + IHDR[:-1] + b"!" + IDAT + IEND,
    "png-text": SIGNATURE.replace(b"\r", b"") + IHDR + IDAT + IEND,
    "png-ios": SIGNATURE + chunk(b"CgBI", bytes(4)) + IHDR + IDAT + IEND,
    "png-depth": SIGNATURE
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 24, 4, 2, 0, 0, 0))
    + IDAT,
    "png-side": SIGNATURE
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 31, 24, 8, 2, 0, 0, 0))
    + IDAT,
    "png-without-pixels": SIGNATURE + IHDR + IEND,
    "png-kind": SIGNATURE + IHDR + chunk(b"a-b!") + IDAT + IEND,
    "png-short-animation": SIGNATURE + IHDR + chunk(b"acTL", b"\0") + IDAT + IEND,
    "webp-delta": webp(VP8.replace(b"\0\0\0\x9d", b"\1\0\0\x9d")),
    "webp-side-0": webp(VP8.replace(b"\x28\0\x18", b"\0\0\x18")),
    "webp-coded-side-0": webp(extended(0), VP8.replace(b"\x28\0\x18", b"\0\0\x18")),
    "webp-version": webp(VP8L.replace(b"\x2f", b"\x30")),
    "webp-animated": webp(extended(2), box(b"ANMF", bytes(16) + VP8)),
    "webp-without-picture": webp(extended(0), box(b"ICCP", bytes(20))),
    "webp-many": webp(extended(4), VP8, box(b"junk", bytes(5_000)) * 70),
    "bmp-side-0": saved("RGB", "BMP").replace(b"\x18\0\0\0", b"\0\0\0\0", 1),
    "tiff-pages": saved(
        "RGB", "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]
    ),
    "bigtiff": saved("L", "TIFF", big_tiff=True),
}


def sides_of(data: bytes) -> tuple[int, int] | None:
    """Ask for the sides of a file with these bytes."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        return sides_of_plain(file.fileno())


def sides_read(data: bytes) -> tuple[int, int] | None:
    """Give the sides that the reader gives, or None where it refuses."""
    try:
        info = read_header(HeaderReader.from_bytes(data))
    except ImageError:
        return None
    return info.height, info.width


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_answered(name):
    """What nearly all files are is known here, near the beginning and far from it."""
    assert sides_of(PLAIN[name]) == sides_read(PLAIN[name]) == (24, 40)


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not(name):
    """Where anything is to be looked at, or refused, there is no answer."""
    assert sides_of(OTHERS[name]) is None


@pytest.mark.parametrize("name", PLAIN)
def test_no_answer_from_a_file_that_is_cut_off_in_its_header(name):
    """At whatever byte a file ends, what the reader refuses is not answered."""
    data = PLAIN[name]
    # Far from the beginning, every byte would take too long.
    ends = {*range(min(len(data), 700)), *range(700, len(data), 997), len(data) - 1}
    for end in ends:
        found = sides_of(data[:end])
        assert found is None or found == sides_read(data[:end]), end


@given(st.sampled_from(sorted(PLAIN)), st.data())
@settings(max_examples=400, deadline=None)
def test_an_answer_is_the_readers(name, draw):
    """Whatever is overwritten: an answer is one that the reader gives too."""
    data = bytearray(PLAIN[name])
    for _ in range(draw.draw(st.integers(1, 4))):
        reach = draw.draw(st.sampled_from([32, 64, 300, len(data)]))
        at = draw.draw(st.integers(0, min(reach, len(data))))
        piece = draw.draw(st.binary(max_size=4) | st.sampled_from([b"\xff", bytes(4)]))
        data[at : at + len(piece) * draw.draw(st.integers(0, 1))] = piece
    found = sides_of(bytes(data))
    assert found is None or found == sides_read(bytes(data))


def test_descriptor_is_left_as_it_was():
    """The position is not moved, and nothing before it is left out."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(PLAIN["png"])
        assert file.seek(7) == 7
        assert sides_of_plain(file.fileno()) == (24, 40)
        assert file.tell() == 7


def test_only_regular_files_are_answered(tmp_path):
    """A folder, a pipe and no descriptor at all give no answer, and no error."""
    reading, writing = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        os.write(writing, PLAIN["png"])
        assert sides_of_plain(reading) is None
        assert sides_of_plain(folder) is None
        assert sides_of_plain(-1) is None
    finally:
        for descriptor in (reading, writing, folder):
            os.close(descriptor)
    with pytest.raises(TypeError):
        sides_of_plain("picture.png")
