"""Colour profiles: converted to sRGB, and left alone where that is asked or wise."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

import qwenvl_prep as qp

# Columns of primaries, adapted to D50 (Display P3's and IEC 61966-2-1's).
P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
SRGB = (
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.71410),
)
D50 = (0.96420, 1.0, 0.82491)

# Two builds of a colour engine round differently: so many steps of 255 may lie
# between them, and one more where the result is resized.
BOUND = 1


# ------------------------------------------------------- profiles, made byte by byte


def fixed(*values: float) -> bytes:
    """Give numbers as s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))


def profile(kind: bytes, space: bytes, pcs: bytes, name: str, **tags: bytes) -> bytes:
    """Put a profile together (ICC.1:2010, section 7)."""
    text = name.encode("utf-16-be")
    description = struct.pack(
        ">4sIII2s2sII", b"mluc", 0, 1, 12, b"en", b"US", len(text), 28
    )
    every = {
        "desc": description + text,
        "cprt": b"text\0\0\0\0CC0\0",
        "wtpt": b"XYZ \0\0\0\0" + fixed(*D50),
        **tags,
    }
    table, body = struct.pack(">I", len(every)), b""
    for tag, data in every.items():
        at = 128 + 4 + 12 * len(every) + len(body)
        table += struct.pack(">4sII", tag.encode(), at, len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sII4sQI12s4s16s28x",
        *(128 + len(table) + len(body), b"\0\0\0\0", 0x04300000, kind, space, pcs),
        *(struct.pack(">6H", 2024, 1, 1, 0, 0, 0), b"acsp", b"\0\0\0\0", 0, 0),
        *(b"\0\0\0\0", 0, 0, fixed(*D50), b"", b""),
    )
    return header + table + body


# The curve of sRGB and of Display P3: ((x + 0.055) / 1.055) ^ 2.4, or x / 12.92.
SRGB_CURVE = struct.pack(">4sIHH", b"para", 0, 3, 0) + fixed(
    2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045
)


def gamma_curve(gamma: float) -> bytes:
    return struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256)) + b"\0\0"


def sampled_curve(count: int) -> bytes:
    values = np.round(linear(np.linspace(0, 1, count)) * 65_535).astype(">u2").tobytes()
    return struct.pack(">4sII", b"curv", 0, count) + values


def matrix_profile(name: str, primaries, curve: bytes) -> bytes:
    columns = {
        f"{colour}XYZ": b"XYZ \0\0\0\0" + fixed(*column)
        for colour, column in zip("rgb", primaries, strict=True)
    }
    curves = {f"{colour}TRC": curve for colour in "rgb"}
    return profile(b"mntr", b"RGB ", b"XYZ ", name, **columns, **curves)


def ink_profile() -> bytes:
    """Give a press of four inks: a table of two steps for each, to Lab in 8 bits."""
    inks = np.array(
        [(0.0, 0.6, 0.9), (0.8, 0.05, 0.45), (0.95, 0.9, 0.1), (0.1, 0.1, 0.1)]
    )
    nodes = b""
    for node in range(16):
        is_on = [node >> (3 - ink) & 1 for ink in range(4)]
        light = np.prod(np.where(np.array(is_on)[:, None] == 1, inks, 1.0), axis=0)
        lightness = 8 + 86 * light.mean()
        a, b = 90 * (light[0] - light[1]), 90 * (light[1] - light[2])
        nodes += bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))
    steps = bytes(range(256))
    table = struct.pack(">4sI4B", b"mft1", 0, 4, 3, 2, 0)
    table += fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + 4 * steps + nodes + 3 * steps
    return profile(b"prtr", b"CMYK", b"Lab ", "Four inks CMYK", A2B0=table)


def linear(samples):
    return np.where(
        samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4
    )


def encoded(light):
    light = np.clip(light, 0, 1)
    curved = 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curved)


DISPLAY_P3 = matrix_profile("Display P3", P3, SRGB_CURVE)
GREY_18 = profile(b"mntr", b"GRAY", b"XYZ ", "Grey Gamma 1.8", kTRC=gamma_curve(1.8))
INKS = ink_profile()
SRGB_PROFILES = {
    "lcms": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "parametric": matrix_profile("sRGB IEC61966-2.1", SRGB, SRGB_CURVE),
    "sampled": matrix_profile("sRGB IEC61966-2.1", SRGB, sampled_curve(1024)),
    "renamed": matrix_profile("Display", SRGB, SRGB_CURVE),
}
BROKEN_PROFILES = {
    "cut off": DISPLAY_P3[:200],
    "of rubbish": b"\x5a" * 300,
    "without its magic": DISPLAY_P3[:36] + b"ACSP" + DISPLAY_P3[40:],
    "without its curves": DISPLAY_P3.replace(b"TRC", b"TRX"),
    "for ink": INKS,
    "for grey": GREY_18,
}


# -------------------------------------------------------------------- what is right


def by_lcms(image: Image.Image, icc: bytes):
    """Say by Pillow's ImageCms what the samples mean, perceptually, in sRGB."""
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
        outputMode="RGB",
    )
    return np.asarray(converted)


def p3_by_hand(samples):
    """Say by NumPy what samples of 0 to 1 in Display P3 are in sRGB, from 0 to 1."""
    xyz = linear(samples) @ np.array(P3)
    return encoded(xyz @ np.linalg.inv(np.array(SRGB)))


def is_close(image, right, allowed: int = BOUND) -> bool:
    return bool(np.abs(image.pixels.astype(int) - right).max() <= allowed)


def bound_for(image, picture) -> int:
    return BOUND if image.size == picture.shape[:2] else BOUND + 1


def told_of(image) -> list[str]:
    return [words for words in image.changes if words.endswith("→ sRGB")]


KINDS = {
    "JPEG": ("JPEG", {"quality": 95}),
    "progressive JPEG": ("JPEG", {"quality": 95, "progressive": True}),
    "PNG": ("PNG", {}),
    "TIFF": ("TIFF", {}),
    "LZW TIFF": ("TIFF", {"compression": "tiff_lzw"}),
    "WEBP": ("WEBP", {"lossless": True}),
    "lossy WEBP": ("WEBP", {"quality": 90}),
}


def test_the_two_statements_agree(picture):
    """What ImageCms makes of the profile built here is what its numbers say."""
    by_hand = np.round(p3_by_hand(picture / 255) * 255)
    assert np.abs(by_lcms(Image.fromarray(picture), DISPLAY_P3) - by_hand).max() <= 1
    assert np.abs(by_lcms(Image.fromarray(picture), DISPLAY_P3) - picture).max() > 20


@pytest.mark.parametrize("kind", KINDS)
def test_wide_colours_become_srgb(kind, picture, saved, opened, sent, stated):
    """A photo of a phone in Display P3 is sent as what its screen shows."""
    file_format, options = KINDS[kind]
    data = saved(picture, file_format, icc_profile=DISPLAY_P3, **options)
    decoded = opened(data).convert("RGB")
    image = sent(data)
    right = stated(by_lcms(decoded, DISPLAY_P3), image.size)
    assert is_close(image, right, bound_for(image, picture))
    assert told_of(image) == ["Display P3 → sRGB"]


@pytest.mark.parametrize("file_format", ["AVIF", "HEIC"])
def test_wide_colours_of_newer_types(file_format, picture, sent, stated):
    """The same for the types that have boxes for profiles."""
    file = io.BytesIO()
    if file_format == "AVIF":
        if not features.check("avif"):
            pytest.skip("this Pillow reads no AVIF")
        Image.fromarray(picture).save(file, "AVIF", icc_profile=DISPLAY_P3)
        decoded = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    else:
        pillow_heif = pytest.importorskip("pillow_heif")
        heif = pillow_heif.from_pillow(Image.fromarray(picture))
        heif.info["icc_profile"] = DISPLAY_P3
        heif.save(file, quality=90)
        decoded = pillow_heif.open_heif(file.getvalue()).to_pillow()
    assert decoded.info["icc_profile"] == DISPLAY_P3
    image = sent(file.getvalue())
    right = stated(by_lcms(decoded, DISPLAY_P3), image.size)
    assert is_close(image, right, bound_for(image, picture))
    assert told_of(image) == ["Display P3 → sRGB"]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_an_opened_image_has_its_profile(file_format, picture, saved, opened, sent):
    """A Pillow image with a profile is sent as its file would be."""
    data = saved(picture, file_format, icc_profile=DISPLAY_P3)
    assert np.array_equal(sent(opened(data)).pixels, sent(data).pixels)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_grey_has_a_profile_too(file_format, picture, saved, opened, sent, stated):
    """Grey of gamma 1.8 gets sRGB's curve, and stays grey."""
    data = saved(picture[:, :, 1].copy(), file_format, icc_profile=GREY_18)
    grey = np.asarray(opened(data))
    right = np.round(encoded((grey / 255) ** 1.8) * 255).astype(np.uint8)
    assert (
        np.abs(by_lcms(opened(data), GREY_18)[:, :, 0].astype(int) - right).max() <= 1
    )
    image = sent(data)
    assert is_close(image, stated(right, image.size), bound_for(image, picture))
    assert (image.pixels == image.pixels[:, :, :1]).all()
    assert told_of(image) == ["Grey Gamma 1.8 → sRGB"]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_ink_is_printed_by_its_profile(
    file_format, picture, saved, opened, sent, stated
):
    """CMYK with a profile is what that press makes of it, not what a formula does."""
    black = np.broadcast_to(np.uint8(40), picture.shape[:2])
    inks = Image.fromarray(np.dstack([picture, black]), "CMYK")
    data = saved(inks, file_format, icc_profile=INKS)
    decoded = opened(data)
    right = by_lcms(decoded, INKS)
    assert np.abs(right.astype(int) - np.asarray(decoded.convert("RGB"))).max() > 20
    image = sent(data)
    assert is_close(image, stated(right, image.size), bound_for(image, picture))
    assert any("CMYK" in words for words in image.changes)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_are_converted_before_they_are_mixed(
    kind, picture, veil, saved, sent, stated
):
    """Transparent pixels are brought to sRGB first, and then laid on the ground."""
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = saved(np.dstack([picture, veil]), kind, icc_profile=DISPLAY_P3, **options)
    image = sent(data, background="#336699")
    right = stated(
        by_lcms(Image.fromarray(picture), DISPLAY_P3),
        image.size,
        alpha=veil,
        background=(0x33, 0x66, 0x99),
    )
    assert is_close(image, right, bound_for(image, picture))


def test_a_palette_has_a_profile_too(picture, saved, opened, sent, stated):
    """The colours of a palette are converted as any others."""
    data = saved(Image.fromarray(picture).quantize(64), "PNG", icc_profile=DISPLAY_P3)
    image = sent(data)
    right = stated(by_lcms(opened(data).convert("RGB"), DISPLAY_P3), image.size)
    assert is_close(image, right, bound_for(image, picture))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_have_a_profile_too(
    kind, picture, png_file, tiff_file, sent, stated
):
    """
    Deep samples are converted, in whichever order conversion and depth come.

    Near black a step of one colour is several of another, so both orders are stated,
    and what is sent lies between them.
    """
    deep = picture.astype(np.uint16) << 8 | 0x80
    if kind == "PNG":
        chunk = (b"iCCP", b"P3\0\0" + zlib.compress(DISPLAY_P3))
        data = png_file(deep, colour_type=2, depth=16, chunks=(chunk,))
    else:
        data = tiff_file(deep, photometric=2, extra=((34675, "b", DISPLAY_P3),))
    image = sent(data)
    deep_first = np.floor(p3_by_hand(deep / 65_535) * 255).astype(np.uint8)
    both = [deep_first, by_lcms(Image.fromarray(picture), DISPLAY_P3)]
    low, high = np.min(both, axis=0), np.max(both, axis=0)
    bound = bound_for(image, picture)
    pixels = image.pixels.astype(int)
    assert (pixels >= stated(low, image.size).astype(int) - bound).all()
    assert (pixels <= stated(high, image.size).astype(int) + bound).all()
    assert {"16 → 8 bit", "Display P3 → sRGB"} <= set(image.changes)


def test_a_profile_and_a_turn(picture, saved, sent, stated):
    """A photo of a phone on its side is turned and converted."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(picture, "PNG", icc_profile=DISPLAY_P3, exif=exif)
    image = sent(data)
    converted = by_lcms(Image.fromarray(picture), DISPLAY_P3)
    right = stated(converted, image.size, orientation=6)
    assert is_close(image, right, BOUND + 1)
    assert {"turned 90°", "Display P3 → sRGB"} <= set(image.changes)


# ------------------------------------------------------------- what changes nothing


@pytest.mark.parametrize("name", SRGB_PROFILES)
@pytest.mark.parametrize("kind", KINDS)
def test_srgb_changes_nothing(kind, name, picture, saved, opened, sent, stated):
    """A profile that is sRGB's, under whatever name, leaves every number alone."""
    file_format, options = KINDS[kind]
    data = saved(picture, file_format, icc_profile=SRGB_PROFILES[name], **options)
    image = sent(data)
    decoded = np.asarray(opened(data).convert("RGB"))
    assert np.array_equal(image.pixels, stated(decoded, image.size))
    assert told_of(image) == []


@pytest.mark.parametrize("name", SRGB_PROFILES)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_srgb_bytes_are_kept(file_format, name, picture, saved):
    """A legal file with sRGB's profile is sent as it is."""
    data = saved(picture, file_format, icc_profile=SRGB_PROFILES[name])
    prepared = qp.prepare(data)
    assert prepared.data == data
    assert prepared.changes == ()


@pytest.mark.parametrize("name", BROKEN_PROFILES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_profile_changes_nothing(
    kind, name, picture, saved, opened, sent, stated
):
    """A profile that is broken, or for another kind of colour, is as none."""
    file_format, options = KINDS[kind]
    data = saved(picture, file_format, icc_profile=BROKEN_PROFILES[name], **options)
    image = sent(data)
    decoded = np.asarray(opened(data).convert("RGB"))
    assert np.array_equal(image.pixels, stated(decoded, image.size))
    assert told_of(image) == []


@pytest.mark.parametrize("name", BROKEN_PROFILES)
def test_a_broken_profile_keeps_bytes(name, picture, saved):
    """A legal JPEG does not become illegal by a profile that nobody can use."""
    data = saved(picture, "JPEG", icc_profile=BROKEN_PROFILES[name])
    assert qp.prepare(data).data == data


@pytest.mark.parametrize("name", ["cut off", "of rubbish", "for RGB"])
def test_a_broken_profile_of_ink_is_as_none(name, picture, saved, opened, sent, stated):
    """CMYK whose profile cannot be used is converted as CMYK without one."""
    icc = {"cut off": INKS[:200], "of rubbish": b"\x5a" * 300, "for RGB": DISPLAY_P3}
    black = np.broadcast_to(np.uint8(40), picture.shape[:2])
    inks = Image.fromarray(np.dstack([picture, black]), "CMYK")
    data = saved(inks, "JPEG", icc_profile=icc[name])
    image = sent(data)
    right = stated(np.asarray(opened(data).convert("RGB")), image.size)
    assert np.array_equal(image.pixels, right)


# --------------------------------------------------------------------- color="keep"


@pytest.mark.parametrize("kind", KINDS)
def test_keep_leaves_numbers_alone(kind, picture, saved, opened, sent, stated):
    """With color="keep" the stored numbers are sent, exactly."""
    file_format, options = KINDS[kind]
    data = saved(picture, file_format, icc_profile=DISPLAY_P3, **options)
    image = sent(data, color="keep")
    decoded = np.asarray(opened(data).convert("RGB"))
    assert np.array_equal(image.pixels, stated(decoded, image.size))
    assert told_of(image) == []


def test_keep_still_makes_rgb_of_ink(picture, saved, opened, sent, stated):
    """With color="keep" ink is converted as ink without a profile."""
    black = np.broadcast_to(np.uint8(40), picture.shape[:2])
    inks = Image.fromarray(np.dstack([picture, black]), "CMYK")
    data = saved(inks, "JPEG", icc_profile=INKS)
    image = sent(data, color="keep")
    right = stated(np.asarray(opened(data).convert("RGB")), image.size)
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_wide_bytes_are_kept_on_demand(file_format, picture, saved):
    """By default a legal file in Display P3 is encoded anew; with "keep" it is not."""
    data = saved(picture, file_format, icc_profile=DISPLAY_P3)
    converted = qp.prepare(data)
    assert converted.data != data
    assert "Display P3 → sRGB" in converted.changes
    kept = qp.prepare(data, color="keep")
    assert kept.data == data
    assert kept.changes == ()
