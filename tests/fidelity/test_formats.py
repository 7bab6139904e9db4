"""Every format row of the seed: each suffix's content, its label and its pixels."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp

# The seed's table: suffix -> Pillow's format, mode, options, type, media type.
ROWS = {
    ".bmp": ("BMP", "RGB", {}, "BMP", "image/bmp"),
    ".dib": ("DIB", "RGB", {}, "DIB", "image/bmp"),
    ".icns": ("ICNS", "RGB", {}, "ICNS", "image/icns"),
    ".ico": ("ICO", "RGB", {}, "ICO", "image/x-icon"),
    ".jfif": ("JPEG", "RGB", {}, "JPEG", "image/jpeg"),
    ".jpe": ("JPEG", "RGB", {"progressive": True}, "JPEG", "image/jpeg"),
    ".jpeg": ("JPEG", "L", {}, "JPEG", "image/jpeg"),
    ".jpg": ("JPEG", "RGB", {"subsampling": "4:4:4"}, "JPEG", "image/jpeg"),
    ".j2c": ("JPEG2000", "RGB", {"no_jp2": True}, "JPEG2000", "image/jp2"),
    ".j2k": ("JPEG2000", "L", {"no_jp2": True}, "JPEG2000", "image/jp2"),
    ".jp2": ("JPEG2000", "RGB", {}, "JPEG2000", "image/jp2"),
    ".jpc": (
        *("JPEG2000", "RGB", {"no_jp2": True, "irreversible": True}),
        *("JPEG2000", "image/jp2"),
    ),
    ".jpf": ("JPEG2000", "L", {}, "JPEG2000", "image/jp2"),
    ".jpx": ("JPEG2000", "RGB", {"tile_size": (64, 64)}, "JPEG2000", "image/jp2"),
    ".apng": ("PNG", "RGB", {}, "PNG", "image/png"),
    ".png": ("PNG", "P", {}, "PNG", "image/png"),
    ".bw": ("SGI", "L", {}, "SGI", "image/sgi"),
    ".rgb": ("SGI", "RGB", {}, "SGI", "image/sgi"),
    ".rgba": ("SGI", "RGBA", {}, "SGI", "image/sgi"),
    ".sgi": ("SGI", "RGB", {"bpc": 2}, "SGI", "image/sgi"),
    ".tif": ("TIFF", "RGB", {"compression": "tiff_lzw"}, "TIFF", "image/tiff"),
    ".tiff": ("TIFF", "L", {"compression": "packbits"}, "TIFF", "image/tiff"),
    ".webp": ("WEBP", "RGB", {}, "WEBP", "image/webp"),
}


@pytest.fixture(scope="session")
def path_of(picture, veil, saved, tmp_path_factory):
    """Give a function that writes the picture under a suffix of the table."""
    folder = tmp_path_factory.mktemp("formats")

    def write(suffix: str):
        file_format, mode, options, *_ = ROWS[suffix]
        image = Image.fromarray(picture)
        if mode == "P":
            image = image.quantize(64)
        elif mode == "RGBA":
            image.putalpha(Image.fromarray(veil))
        else:
            image = image.convert(mode)
        if file_format == "ICNS":
            image = image.resize((128, 128))
            data = icns(saved(image, "PNG"))
        elif file_format == "ICO":
            data = saved(image, "ICO", sizes=[image.size])
        else:
            data = saved(image, file_format, **options)
        path = folder / f"picture{suffix}"
        path.write_bytes(data)
        return path

    return write


def icns(*pictures: bytes) -> bytes:
    """Put PNGs of 128, 256 and 512 pixels into one icon, the smallest first."""
    entries = b"".join(
        name + struct.pack(">I", 8 + len(data)) + data
        for name, data in zip((b"ic07", b"ic08", b"ic09"), pictures, strict=False)
    )
    return b"icns" + struct.pack(">I", 8 + len(entries)) + entries


@pytest.mark.parametrize("suffix", ROWS)
def test_pixels_of_each_suffix(suffix, path_of, sent, stated):
    """What is sent is what the reference decoder sees, laid on white, resized."""
    path = path_of(suffix)
    image = sent(path)
    with Image.open(path) as opened:
        opened.load()
        decoded = opened if opened.mode == "RGBA" else opened.convert("RGB")
    samples = np.asarray(decoded)
    alpha = samples[:, :, 3].copy() if decoded.mode == "RGBA" else None
    right = stated(samples[:, :, :3].copy(), image.size, alpha=alpha)
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("suffix", ROWS)
def test_label_of_each_suffix(suffix, path_of):
    """Type and media type are the table's; a suffix of it is no reason to warn."""
    *_, file_format, media_type = ROWS[suffix]
    path = path_of(suffix)
    report = qp.validate(path)
    assert (report.info.format, report.info.media_type) == (file_format, media_type)
    assert "suffix-mismatch" not in [finding.code for finding in report.findings]
    prepared = qp.prepare(path)
    if prepared.plan.is_kept:
        assert prepared.media_type == media_type
        assert prepared.data == path.read_bytes()
    else:
        assert prepared.media_type in {"image/jpeg", "image/png", "image/webp"}
    assert qp.probe(prepared.data).media_type == prepared.media_type


@pytest.mark.parametrize("suffix", ROWS)
def test_counting_agrees_for_each_suffix(suffix, path_of):
    """The header alone gives the tokens of what is sent."""
    path = path_of(suffix)
    assert qp.count_tokens(path) == qp.prepare(path).tokens


# An ICNS is transparent by the types of its blocks, whatever those hold.
OPAQUE = [suffix for suffix in ROWS if suffix not in {".icns", ".rgba"}]


@pytest.mark.parametrize("suffix", OPAQUE)
def test_changes_of_what_is_only_encoded(suffix, path_of, sent):
    """Of an opaque picture, no more is told than its size and its encoding."""
    told = [
        words
        for words in sent(path_of(suffix)).changes
        if not words.startswith(("encoded", "re-encoded", "resized", "metadata"))
    ]
    assert told == (["16 → 8 bit"] if suffix == ".sgi" else [])


def test_the_largest_icon_is_sent(picture, saved, sent, stated):
    """Of an ICO and an ICNS with several sizes, the largest is what a person sees."""
    images = [Image.fromarray(picture).resize((side, side)) for side in (48, 128, 256)]
    file = io.BytesIO()
    images[2].save(
        file, "ICO", sizes=[image.size for image in images], append_images=images[:2]
    )
    png = [saved(image, "PNG") for image in images[1:]]
    for data, count in [(file.getvalue(), 3), (icns(*png), 2)]:
        assert qp.probe(data).n_frames == count
        image = sent(data)
        right = stated(np.asarray(images[2]), image.size)
        assert np.array_equal(image.pixels, right)
        assert f"largest of {count} pictures" in image.changes
