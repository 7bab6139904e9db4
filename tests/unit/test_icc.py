"""What a colour profile makes of samples, beside Pillow's own ImageCms."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from qwenvl_prep.errors import UnsupportedFormatError
from qwenvl_prep.icc import Conversion, to_srgb
from qwenvl_prep.icc_shaper import Shaper, check_colours, shaper_for

# ----------------------------------------------------------- profiles, byte by byte


def fixed(*numbers: float) -> bytes:
    """Write numbers as ICC has them: 16 bits before the point and 16 behind."""
    return struct.pack(f">{len(numbers)}i", *(round(n * 65536) for n in numbers))


def xyz(*numbers: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*numbers)


def gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + fixed(
    2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045
)


def translated(**names: str) -> bytes:
    """Write a name as version 4 does: in several languages, enUS="Display P3"."""
    at = 16 + 12 * len(names)
    table = texts = b""
    for language, name in names.items():
        text = name.encode("utf-16-be", "surrogatepass")
        table += struct.pack(">4sII", language.encode(), len(text), at + len(texts))
        texts += text
    return b"mluc\0\0\0\0" + struct.pack(">II", len(names), 12) + table + texts


def plain(name: bytes) -> bytes:
    """Write a name as version 2 does."""
    return b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(79)


def profile(
    tags: dict[bytes, bytes], *, space=b"RGB ", kind=b"mntr", pcs=b"XYZ ", version=4
) -> bytes:
    table = struct.pack(">I", len(tags))
    body = b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        at = 132 + 12 * len(tags) + len(body)
        table += struct.pack(">4sII", name, at, len(padded))
        body += padded
    head = struct.pack(
        ">I4sBxxx4s4s4s12x4s28x",
        128 + len(table) + len(body),
        b"test",
        version,
        kind,
        space,
        pcs,
        b"acsp",
    )
    return (head + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + body


WHITE = {b"wtpt": xyz(0.9642, 1, 0.8249)}


def matrix(red, green, blue, curve, name=None, **options) -> bytes:
    """Build an RGB profile from its primaries (as XYZ, D50) and one curve."""
    named = {b"desc": name} if name else {}
    colours = {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue)}
    curves = {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    return profile(named | WHITE | colours | curves, **options)


def grey(curve: bytes, name: bytes = b"", **options) -> bytes:
    named = {b"desc": name} if name else {}
    return profile(named | WHITE | {b"kTRC": curve}, space=b"GRAY", **options)


SRGB_PRIMARIES = (
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.7141),
)
P3_PRIMARIES = (
    (0.51512, 0.2412, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.1571, 0.06657, 0.78407),
)
P3 = matrix(*P3_PRIMARIES, SRGB_CURVE, translated(enUS="Display P3"))
GREY_18 = grey(gamma(1.8), translated(enUS="Dull grey"))
INVERTED = matrix(*P3_PRIMARIES, b"curv\0\0\0\0" + struct.pack(">IHH", 2, 65535, 0))


def table_8(inputs: int, outputs: int, corners: bytes) -> bytes:
    """Build a table of 2 points a side (lut8) between linear curves."""
    ramp = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes((inputs, outputs, 2, 0))
    unity = fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return head + unity + ramp * inputs + corners + ramp * outputs


def cmyk(corners: bytes | None = None, kind: bytes = b"prtr") -> bytes:
    """Build a CMYK profile; each of the 16 full inks gets a colour in Lab."""
    if corners is None:
        chooser = random.Random(3)
        corners = b"".join(
            bytes((255 - 16 * i, chooser.randrange(96, 160), chooser.randrange(256)))
            for i in range(16)
        )
    tags = {b"desc": plain(b"Four inks"), b"A2B0": table_8(4, 3, corners)}
    return profile(tags | WHITE, space=b"CMYK", kind=kind, pcs=b"Lab ", version=2)


def tinted_grey() -> bytes:
    """Build a grey profile whose darkest grey is blue and lightest one yellow."""
    table = table_8(1, 3, bytes((0, 128, 60, 255, 128, 170)))
    return profile(WHITE | {b"A2B0": table}, space=b"GRAY", pcs=b"Lab ", version=2)


def by_image_cms(samples: np.ndarray, data: bytes) -> np.ndarray:
    """Say independently what is right: profileToProfile with its defaults."""
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[samples.shape[2]]
    rows, width, _ = samples.shape
    image = Image.frombytes(mode, (width, rows), samples.tobytes())
    opened = ImageCms.ImageCmsProfile(io.BytesIO(data))
    srgb = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, opened, srgb, outputMode="RGB"))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(11).integers(0, 256, shape, dtype=np.uint8)


def built_in() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# ------------------------------------------------------------------------ conversion


@pytest.mark.parametrize(
    ("data", "channels"),
    [
        (P3, 3),
        (INVERTED, 3),
        (matrix(*P3_PRIMARIES, gamma(2.2), version=2), 3),
        (matrix(*SRGB_PRIMARIES, gamma(1.0), kind=b"scnr"), 3),
        (cmyk(), 4),
        (cmyk(kind=b"spac"), 4),
    ],
    ids=["p3", "inverted", "v2", "scanner", "cmyk", "cmyk-space"],
)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 333), (2, 150_000)], ids=str)
def test_colours_equal_those_of_image_cms(data, channels, shape):
    """Every byte is what profileToProfile gives, in one block or in several."""
    samples = noise(*shape, channels)
    before = samples.copy()
    conversion = to_srgb(data, channels)
    converted = conversion.apply(samples)
    assert converted.dtype == np.uint8
    assert converted.flags.c_contiguous
    assert converted.flags.writeable
    assert np.array_equal(converted, by_image_cms(samples, data))
    assert np.array_equal(samples, before)
    assert (conversion.channels, conversion.out_channels) == (channels, 3)


def test_primaries_of_p3_leave_srgb():
    """The red of Display P3 is beyond sRGB's: it clips, and white stays white."""
    samples = np.array([[[255, 0, 0], [255, 255, 255], [0, 0, 0]]], np.uint8)
    assert to_srgb(P3, 3).apply(samples).tolist() == [
        [[255, 0, 0], [255, 255, 255], [0, 0, 0]]
    ]
    # By hand, with the matrix of CSS Color 4: 214.9, 92.6, 96.6.
    muted = np.array([[[200, 100, 100]]], np.uint8)
    (converted,) = to_srgb(P3, 3).apply(muted)[0].tolist()
    assert converted == pytest.approx([214.9, 92.6, 96.6], abs=1)


def test_nonsense_is_done_as_the_profile_says():
    """A profile that turns light into dark is sound, and obeyed."""
    samples = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert to_srgb(INVERTED, 3).apply(samples).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("samples", [np.arange(256), noise(700)], ids=["all", "noise"])
def test_grey_stays_one_channel(samples):
    """Grey of another gamma is moved by a table and remains grey."""
    samples = samples.astype(np.uint8).reshape(-1, 4, 1)
    conversion = to_srgb(GREY_18, 1)
    converted = conversion.apply(samples)
    assert (conversion.channels, conversion.out_channels) == (1, 1)
    assert converted.shape == samples.shape
    assert np.array_equal(
        np.repeat(converted, 3, axis=2), by_image_cms(samples, GREY_18)
    )
    # 0.5 in gamma 1.8 is lighter than in sRGB.
    assert conversion.apply(np.full((1, 1, 1), 128, np.uint8)).tolist() == [[[146]]]


def test_grey_with_a_tint_becomes_colour():
    """A duotone is shown in its colours, three channels wide."""
    data = tinted_grey()
    conversion = to_srgb(data, 1)
    assert (conversion.channels, conversion.out_channels) == (1, 3)
    samples = noise(20, 30, 1)
    converted = conversion.apply(samples)
    assert np.array_equal(converted, by_image_cms(samples, data))
    assert (converted[:, :, 0] != converted[:, :, 2]).any()


@pytest.mark.parametrize(
    "samples",
    [
        noise(20, 30, 3)[::2, ::-1],
        noise(20, 30, 4)[:, :, :3],
        np.asfortranarray(noise(20, 30, 3)),
    ],
    ids=["steps", "cut", "columns"],
)
def test_views_with_gaps_are_taken(samples):
    """Samples need not lie side by side in memory."""
    assert np.array_equal(to_srgb(P3, 3).apply(samples), by_image_cms(samples, P3))


@pytest.mark.parametrize(("data", "channels"), [(P3, 3), (cmyk(), 4), (GREY_18, 1)])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)], ids=str)
def test_no_samples_are_no_trouble(data, channels, shape):
    """A picture without rows or columns stays one."""
    conversion = to_srgb(data, channels)
    converted = conversion.apply(np.empty((*shape, channels), np.uint8))
    assert converted.shape == (*shape, conversion.out_channels)


def test_other_samples_are_a_mistake():
    """Samples of another number, shape or type are refused with both named."""
    conversion = to_srgb(P3, 3)
    for shape in [(2, 2, 4), (2, 2, 1), (2, 6)]:
        with pytest.raises(ValueError, match=r"\(rows, width, 3\) but received"):
            conversion.apply(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="uint8 samples but received uint16"):
        conversion.apply(np.zeros((2, 2, 3), np.uint16))
    with pytest.raises(ValueError, match="1, 3 or 4 channels but received 2"):
        to_srgb(P3, 2)


@pytest.mark.parametrize(("data", "channels"), [(P3, 3), (cmyk(), 4), (GREY_18, 1)])
def test_eight_threads_share_one_conversion(data, channels):
    """One object at work in eight threads gives what it gives in one."""
    conversion = to_srgb(data, channels)
    pieces = [
        np.random.default_rng(i).integers(0, 256, (40, 500, channels), dtype=np.uint8)
        for i in range(8)
    ]
    expected = [conversion.apply(piece) for piece in pieces]
    wrong = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for _ in range(10):
            same = np.array_equal(conversion.apply(pieces[number]), expected[number])
            wrong.extend([] if same else [number])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_eight_threads_ask_at_once():
    """Asked by eight threads at once, before anybody knows, all hear the same."""
    to_srgb.cache_clear()
    found = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        found.append(to_srgb(P3, 3).apply(noise(5, 5, 3)).tobytes())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {by_image_cms(noise(5, 5, 3), P3).tobytes()}
    assert len(found) == 8


# ------------------------------------------------- curves and a matrix, without engine


def para(kind: int, *numbers: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + fixed(*numbers)


def points(*numbers: float) -> bytes:
    """Write a curve as points, 0 to 1."""
    words = [round(number * 65535) for number in numbers]
    return b"curv\0\0\0\0" + struct.pack(f">I{len(words)}H", len(words), *words)


def shaped(curve: bytes, **options) -> bytes:
    return matrix(*P3_PRIMARIES, curve, **options)


def is_shaped(conversion: Conversion) -> bool:
    return isinstance(conversion._engine, Shaper)


ADOBE_RGB = matrix(
    (0.60974, 0.31111, 0.01947),
    (0.20528, 0.62567, 0.06087),
    (0.14919, 0.06322, 0.74457),
    gamma(563 / 256),
    plain(b"Adobe RGB (1998)"),
    version=2,
)
PROPHOTO = matrix(
    (0.7977, 0.28804, 0),
    (0.13519, 0.71188, 0),
    (0.03134, 0.00009, 0.8249),
    gamma(1.8),
    plain(b"ProPhoto RGB"),
    version=2,
)
# As old displays were measured: a table for each of the colours.
MEASURED = profile(
    WHITE
    | {
        name + b"XYZ": xyz(*colour)
        for name, colour in zip((b"r", b"g", b"b"), P3_PRIMARIES, strict=True)
    }
    | {
        b"rTRC": points(*((i / 1023) ** 2.3 for i in range(1024))),
        b"gTRC": points(*((i / 255) ** 2.1 for i in range(256))),
        b"bTRC": para(0, 1.9),
    },
    version=2,
)


@pytest.mark.parametrize(
    "data",
    [P3, ADOBE_RGB, PROPHOTO, MEASURED],
    ids=["p3", "adobe", "prophoto", "measured"],
)
def test_all_colours_equal_those_of_image_cms(data):
    """Each of the 16,777,216 colours, byte for byte, and none through the engine."""
    conversion = to_srgb(data, 3)
    assert is_shaped(conversion)
    green, blue = np.indices((256, 256), dtype=np.uint8)
    for reds in np.arange(256, dtype=np.uint8).reshape(8, 32):
        samples = np.concatenate(
            [np.dstack([np.full_like(green, red), green, blue]) for red in reds]
        )
        assert np.array_equal(conversion.apply(samples), by_image_cms(samples, data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (shaped(points()), True),
        (shaped(points(0, 1)), True),
        (shaped(points(0, 0.14, 1)), True),
        (shaped(points(*((i / 4096) ** 2.3 for i in range(4097)))), True),
        (shaped(para(0, 2.6)), True),
        (shaped(para(1, 2.2, 1.1, -0.1)), True),
        (shaped(para(2, 2.2, 1.1, -0.1, 0)), True),
        (shaped(para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)), True),
        (shaped(para(4, 2.2, 1, 0, 1, 0, -0.3, -0.3)), True),
        (shaped(SRGB_CURVE, pcs=b"Lab "), True),
        (INVERTED, True),
        # Black that is not black is moved there by the engine, in steps of its own.
        (shaped(points(0.05, 1)), False),
        (shaped(points(0.05, 1), version=2), False),
        (shaped(para(2, 2.2, 0.9, 0.05, 0.01)), False),
        (shaped(para(4, 1, 0.9, 0.1, 0, 0, 0, 0)), False),
        # Beyond 32 bits, and beyond all numbers.
        (matrix((2, 1, 0), (0, 3, 0), (0, 0, 3), gamma(2.2)), False),
        (shaped(para(0, -1)), False),
        (shaped(para(3, 3000, 2, 1, 0, 0)), False),
        (shaped(para(1, 1, 0, 0.5)), False),
    ],
)
def test_each_kind_of_curve_equals_that_of_image_cms(data, expected):
    """What the tables can say is said by them, what not by the engine."""
    conversion = to_srgb(data, 3)
    assert is_shaped(conversion) is expected
    samples = noise(300, 500, 3)
    assert np.array_equal(conversion.apply(samples), by_image_cms(samples, data))


def test_tables_of_colours_go_before_a_matrix():
    """A profile that has both is done by the engine, as its table says."""
    corners = random.Random(3).randbytes(24)
    tags = {b"A2B0": table_8(3, 3, corners)}
    for name, colour in zip((b"r", b"g", b"b"), P3_PRIMARIES, strict=True):
        tags |= {name + b"XYZ": xyz(*colour), name + b"TRC": SRGB_CURVE}
    data = profile(WHITE | tags, pcs=b"Lab ", version=2)
    conversion = to_srgb(data, 3)
    assert not is_shaped(conversion)
    samples = noise(20, 30, 3)
    assert np.array_equal(conversion.apply(samples), by_image_cms(samples, data))


numbers = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-200_000, 200_000)


@given(
    kind=st.integers(0, 5),
    curve=st.lists(numbers, min_size=7, max_size=7),
    colours=st.lists(numbers, min_size=9, max_size=9),
)
@settings(max_examples=150)
def test_any_numbers_equal_those_of_image_cms(kind, curve, colours):
    """Whatever stands in curve and colours, there is one answer, and no warning."""
    data = matrix(
        *(np.array(colours).reshape(3, 3) / 65536),
        para(kind, *(number / 65536 for number in curve)),
    )
    conversion = to_srgb(data, 3)
    if conversion is not None:
        samples = noise(40, 50, 3)
        assert np.array_equal(conversion.apply(samples), by_image_cms(samples, data))


@given(st.binary(max_size=40), st.sampled_from([b"curv", b"para", b"XYZ ", b"text"]))
def test_broken_tags_make_no_tables(content, kind):
    """What is cut off, or of another type, is left to the engine without a word."""
    tags = {name + b"XYZ": xyz(0.3, 0.3, 0.3) for name in (b"r", b"g", b"b")}
    tags |= {name + b"TRC": SRGB_CURVE for name in (b"r", b"g", b"b")}
    for name in tags:
        shaper = shaper_for(tags | {name: kind + content}, SRGB_PRIMARIES)
        assert shaper is None or shaper.parts.shape == (3, 256, 4)
        without = {other: data for other, data in tags.items() if other != name}
        assert shaper_for(without, SRGB_PRIMARIES) is None


def test_colours_of_the_check_are_everywhere():
    """Every grey is held against the engine, and every code some 256 times."""
    colours = check_colours()
    assert colours.shape == (1, 101_729, 3)
    flat = colours.reshape(-1, 3)
    assert flat[:256].tolist() == [[grey] * 3 for grey in range(256)]
    for channel in range(3):
        assert np.bincount(flat[-65_536:, channel], minlength=256).min() >= 230
    assert {tuple(colour) for colour in flat[flat[:, 0] == 255].tolist()} >= {
        (255, 0, 0),
        (255, 255, 0),
        (255, 0, 255),
        (255, 255, 255),
    }


def test_curves_that_are_off_by_one_step_are_noticed():
    """One code of one curve, off by 1 of 16,384, differs on the colours of the check.

    The rest have no effect, or one on less than a colour in ten thousand.
    """
    right = to_srgb(P3, 3)._engine
    colours = check_colours()
    expected = right.apply(colours)
    noticed = 0
    for channel in range(3):
        # The last code is full light, so it tells what the matrix makes of a step.
        one = (right.parts[channel, 255] - right.parts[channel, 0]) >> 14
        for code in range(256):
            parts = right.parts.copy()
            parts[channel, code] += one
            found = Shaper(parts, right.levels).apply(colours)
            noticed += not np.array_equal(found, expected)
    assert noticed >= 0.95 * 3 * 256


# ----------------------------------------------------------------- nothing to convert


@pytest.mark.parametrize(
    ("data", "channels"),
    [
        (built_in(), 3),
        (matrix(*SRGB_PRIMARIES, SRGB_CURVE, plain(b"Display P3")), 3),
        (matrix(*SRGB_PRIMARIES, SRGB_CURVE, version=2, kind=b"spac"), 3),
        (grey(SRGB_CURVE), 1),
        (grey(SRGB_CURVE, version=2, kind=b"scnr"), 1),
    ],
    ids=["built-in", "wrong-name", "v2", "grey", "grey-v2"],
)
def test_srgb_changes_nothing_whatever_its_name(data, channels):
    """What means sRGB is told by what it does."""
    assert to_srgb(data, channels) is None


def test_name_alone_makes_no_srgb():
    """A profile called sRGB that is not is converted."""
    named = matrix(*P3_PRIMARIES, SRGB_CURVE, translated(enUS="sRGB IEC61966-2.1"))
    assert np.array_equal(
        to_srgb(named, 3).apply(noise(9, 9, 3)), by_image_cms(noise(9, 9, 3), P3)
    )


def test_small_differences_are_none():
    """Up to 2 levels count as sRGB; a gamma of 2.2, 9 levels away, does not."""
    assert to_srgb(grey(gamma(2.2)), 1) is not None
    curve = b"para\0\0\0\0\0\3\0\0" + fixed(
        2.44, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045
    )
    nearly = matrix(*SRGB_PRIMARIES, curve)
    moved = by_image_cms(noise(99, 99, 3), nearly)
    assert 0 < abs(moved.astype(int) - noise(99, 99, 3)).max() <= 2
    assert to_srgb(nearly, 3) is None


@pytest.mark.parametrize(
    ("data", "channels"),
    [
        (P3, 1),
        (P3, 4),
        (GREY_18, 3),
        (cmyk(), 3),
        (P3.replace(b"RGB ", b"HSV "), 3),
    ],
    ids=["rgb-grey", "rgb-cmyk", "grey-rgb", "cmyk-rgb", "hsv"],
)
def test_profile_of_another_colour_space_changes_nothing(data, channels):
    """An RGB profile in a grey file says nothing about its greys."""
    assert to_srgb(data, channels) is None


@pytest.mark.parametrize("kind", [b"link", b"abst", b"nmcl", b"????"])
def test_profile_of_another_purpose_changes_nothing(kind):
    """Device links, abstract profiles and named colours describe no samples."""
    assert to_srgb(P3.replace(b"mntr", kind), 3) is None


def test_chain_of_elements_is_not_begun():
    """
    A chain of processing elements is left alone, and takes no time.

    LittleCMS takes a second for this one, with the GIL held, and a minute for one
    that is as long as a profile may be.
    """
    step = b"matf\0\0\0\0" + struct.pack(">HH12f", 3, 3, *(0.9, 0.1, 0, 0) * 3)
    count = 3000
    chain = b"mpet\0\0\0\0" + struct.pack(">HHI", 3, 3, count)
    chain += struct.pack(">II", 16 + 8 * count, len(step)) * count + step
    tags = {b"D2B0": chain} | WHITE
    curves = {b"rTRC": gamma(1), b"gTRC": gamma(1), b"bTRC": gamma(1)}
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    colours = {n: xyz(*p) for n, p in zip(names, P3_PRIMARIES, strict=True)}
    assert to_srgb(profile(colours | curves | WHITE), 3) is not None
    assert to_srgb(profile(tags | colours | curves), 3) is None


def test_profile_above_one_mebibyte_changes_nothing():
    """A profile is read up to 1 MiB."""
    assert to_srgb(P3 + bytes((1 << 20) - len(P3)), 3) is not None
    assert to_srgb(P3 + bytes((1 << 20) + 1 - len(P3)), 3) is None


def test_what_is_no_profile_changes_nothing():
    """Empty, foreign and zero bytes, and a profile that lacks what it needs."""
    for data in (b"", b"\0", bytes(500), b"acsp" * 200, profile({}), profile(WHITE)):
        assert to_srgb(data, 3) is None


@pytest.mark.parametrize(
    ("data", "channels"), [(P3, 3), (GREY_18, 1), (cmyk(), 4)], ids=["p3", "grey", "k"]
)
def test_profile_cut_off_anywhere_raises_nothing(data, channels):
    """Cut at every byte, a profile is none or one that can be applied."""
    for end in range(0, len(data), 1 if channels < 4 else 7):
        conversion = to_srgb.__wrapped__(data[:end], channels)
        assert end >= 132 or conversion is None
        if conversion:
            conversion.apply(noise(2, 2, channels))


MUTATE = """
import random, sys
import numpy as np
from qwenvl_prep.icc import to_srgb

CASES = {cases!r}
NUMBERS = (0, 1, 2, 255, 256, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
chooser = random.Random(5)
found = 0
for _ in range(1000):
    data, channels = chooser.choice(CASES)
    data = bytearray(data)
    for _ in range(chooser.choice((1, 1, 2, 5))):
        at = chooser.randrange(min(len(data), chooser.choice((400, 10_000))) - 4)
        if chooser.random() < 0.5:
            data[at] ^= 1 << chooser.randrange(8)
        else:
            data[at : at + 4] = chooser.choice(NUMBERS).to_bytes(4, "big")
    conversion = to_srgb.__wrapped__(bytes(data), channels)
    if conversion is not None:
        found += 1
        assert conversion.name.isprintable() and 0 < len(conversion.name) <= 40
        conversion.apply(np.full((2, 3, channels), 77, np.uint8))
print(found)
"""


def test_mutated_profiles_neither_raise_nor_write():
    """1,000 mutations: no exception, no crash and not a word on stderr."""
    # Building the table of a CMYK profile takes fifty times as long as the others.
    quick = [(P3, 3), (INVERTED, 3), (GREY_18, 1), (tinted_grey(), 1)]
    cases = [*quick * 4, (cmyk(), 4)]
    done = subprocess.run(
        [sys.executable, "-c", MUTATE.format(cases=cases)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # Most mutations are harmless; were all refused, nothing would have been tried.
    assert int(done.stdout) > 200


# ------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("description", "name"),
    [
        (translated(enUS="Display P3"), "Display P3"),
        (translated(deDE="Bildschirm", enGB="Screen", enUS="Display"), "Display"),
        (translated(deDE="Bildschirm", enGB="Screen"), "Screen"),
        (translated(deDE="Bildschirm", frFR="Écran"), "Bildschirm"),
        (plain(b"Adobe RGB (1998)"), "Adobe RGB (1998)"),
        (plain(b"\xc9cran"), "Écran"),
        (plain(b"two\r\n\x1b[31m  lines\x7f"), "two [31m lines"),
        (translated(enUS="left\u202eright\u200b\ud800"), "left right �"),
        (plain(b"seen\0left over"), "seen"),
        (translated(enUS="x" * 39 + " yz"), "x" * 39),
        (translated(enUS="long " * 100_000), ("long " * 8).strip()),
        (None, "RGB profile"),
        (b"", "RGB profile"),
        (plain(b"\0"), "RGB profile"),
        (plain(b"\x01\x02"), "RGB profile"),
        (b"mluc\0\0\0\0" + bytes(8), "RGB profile"),
        (b"mluc\0\0\0\0\0\0", "RGB profile"),
        (b"text\0\0\0\0Display", "RGB profile"),
    ],
)
def test_name_is_short_and_printable(description, name):
    """The name is the description in English, fit for one line of a terminal."""
    conversion = to_srgb(matrix(*P3_PRIMARIES, SRGB_CURVE, description), 3)
    assert conversion.name == name
    assert repr(conversion) == f"<Conversion {name}>"


def test_name_where_there_is_none():
    """Without a description the colour space is the name."""
    assert to_srgb(grey(gamma(1.8)), 1).name == "grey profile"
    unnamed = cmyk().replace(b"desc", b"zzzz")
    assert to_srgb(unnamed, 4).name == "CMYK profile"


def test_announced_languages_take_no_memory():
    """
    A name in 16 million languages, of which one is there, is that one.

    LittleCMS took 190 MB for them, in a profile of 588 bytes.
    """
    name = bytearray(translated(enUS="Display P3"))
    name[8] = 1
    conversion = to_srgb(matrix(*P3_PRIMARIES, SRGB_CURVE, bytes(name)), 3)
    assert conversion.name == "Display P3"


# -------------------------------------------------------------------- the whole thing


def test_answers_are_kept():
    """The same profile asked for again is the same object; they are few."""
    assert to_srgb(P3, 3) is to_srgb(bytes(bytearray(P3)), 3)
    assert isinstance(to_srgb(P3, 3), Conversion)
    assert to_srgb.cache_info().maxsize == 16


def test_import_and_junk_load_no_engine():
    """Neither importing nor a broken profile loads Pillow or numpy."""
    code = (
        "import sys\nfrom qwenvl_prep.icc import to_srgb\n"
        "to_srgb(bytes(500), 3)\n"
        "print([name for name in ('PIL', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_pillow_without_littlecms_says_the_way_out(monkeypatch):
    """A Pillow without the engine is named, and so is what to do without it."""
    monkeypatch.setitem(sys.modules, "PIL._imagingcms", None)
    monkeypatch.delattr("PIL._imagingcms")
    other = matrix(*P3_PRIMARIES, gamma(2.1))
    with pytest.raises(UnsupportedFormatError, match='color="keep"') as caught:
        to_srgb(other, 3)
    assert caught.value.format == "ICC"
    # What is broken is broken without an engine too.
    assert to_srgb(b"junk", 3) is None
