"""The native resampler: Pillow's bytes, for every shape, and no byte beside its own."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep._native import resample as native
from qwenvl_prep.resize import BACKEND_VARIABLE

# Every test of this file is run by each of the kernels that this CPU has.
pytestmark = pytest.mark.usefixtures("backend")

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65]


def by_pillow(
    pixels: np.ndarray, height: int, width: int, mode: str = ""
) -> np.ndarray:
    """Resize by the installed Pillow."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    size = (pixels.shape[1], pixels.shape[0])
    image = Image.frombytes(mode or MODES[channels], size, pixels.tobytes())
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.frombuffer(resized.tobytes(), np.uint8).reshape(
        height, width, *pixels.shape[2:]
    )


def resample(source, target, height, width, channels, out_height, out_width):
    """Call the native function with the order of passes that Pillow takes."""
    sizes = (height, width, out_height, out_width)
    is_counted = all(0 < size < 2**31 for size in sizes)
    first = is_counted and native.is_height_first(*sizes)
    native.resample(source, target, height, width, channels, *sizes[2:], first)


def by_native(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by the native function itself, without the façade."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    target = np.zeros((height, width, *pixels.shape[2:]), np.uint8)
    resample(
        pixels.reshape(-1),
        target.reshape(-1),
        *pixels.shape[:2],
        channels,
        height,
        width,
    )
    return target


def picture(
    rng: np.random.Generator, height: int, width: int, channels: int, kind: str
) -> np.ndarray:
    """Make samples that are hard to sum: noise, or black and white side by side."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    if kind == "noise":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "extremes":
        return rng.integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)
    board = (np.indices((height, width)).sum(axis=0) % 2 * 255).astype(np.uint8)
    return board if channels == 1 else np.repeat(board[:, :, None], channels, axis=2)


def check(pixels: np.ndarray, height: int, width: int) -> None:
    expected = by_pillow(pixels, height, width)
    given_ = qp.resize(pixels, height, width)
    shapes = f"{pixels.shape} to {(height, width)}"
    assert given_.shape == expected.shape, shapes
    wrong = np.argwhere(given_ != expected)
    assert wrong.size == 0, (
        f"{shapes}: {len(wrong)} bytes differ, first at {wrong[0].tolist()}: "
        f"{given_[tuple(wrong[0])]}, Pillow {expected[tuple(wrong[0])]}"
    )


def draw_shape(random_: random.Random, index: int) -> tuple[int, int, int, int]:
    """Draw one of six kinds of shape: height, width, out_height, out_width."""

    def side(largest: int = 150) -> int:
        return random_.choice([random_.choice(EDGES), random_.randint(1, largest)])

    height, width, out_height, out_width = side(), side(), side(), side()
    kind = index % 6
    if kind == 0:  # width only
        out_height = height
    elif kind == 1:  # height only
        out_width = width
    elif kind == 2:  # one line or one column
        if random_.random() < 0.5:
            height, out_height = 1, random_.choice([1, side(20)])
        else:
            width, out_width = 1, random_.choice([1, side(20)])
    elif kind == 3:  # enlarged
        out_height, out_width = height + side(60), width + side(60)
    elif kind == 4:  # shrunk
        height, width = out_height + side(200), out_width + side(200)
    return height, width, out_height, out_width


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["noise", "extremes", "board"])
def test_random_shapes_are_pillow_s(channels, kind):
    """Prove that 80 drawn shapes of each kind come out as Pillow's bytes."""
    random_ = random.Random(f"{channels} {kind}")
    rng = np.random.default_rng(channels)
    for index in range(80):
        height, width, out_height, out_width = draw_shape(random_, index)
        check(picture(rng, height, width, channels, kind), out_height, out_width)


def test_five_thousand_shapes_are_pillow_s():
    """Prove that no byte of 5,000 drawn shapes, from tiny to large, differs."""
    random_ = random.Random(5000)
    rng = np.random.default_rng(5000)
    noise = rng.integers(0, 256, 4 * 500 * 500, dtype=np.uint8)
    orders = {True: 0, False: 0}

    def side() -> int:
        largest = random_.choice([20, 100, 500])
        if random_.random() < 0.5:
            return random_.randint(1, largest)
        return round(math.exp(random_.uniform(0, math.log(largest))))

    for _ in range(5000):
        height, width, out_height, out_width = side(), side(), side(), side()
        channels = random_.choice([1, 3, 4])
        shape = (height, width) if channels == 1 else (height, width, channels)
        start = random_.randrange(noise.size - height * width * channels + 1)
        pixels = noise[start : start + height * width * channels].reshape(shape)
        if random_.random() < 0.3:
            pixels = (pixels >> 7) * np.uint8(255)
        check(pixels, out_height, out_width)
        orders[native.is_height_first(height, width, out_height, out_width)] += 1
    assert min(orders.values()) > 1000


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_length_up_to_65_is_pillow_s(channels):
    """Prove that each length becomes each other, across and down."""
    rng = np.random.default_rng(11)
    for length in range(1, 66):
        across = picture(rng, 3, length, channels, "noise")
        down = picture(rng, length, 3, channels, "extremes")
        for out_length in range(1, 66):
            check(across, 3, out_length)
            check(down, out_length, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_row_bytes_around_the_block_of_columns_are_pillow_s(channels):
    """Prove that rows of bytes around 512 and 1024, the downward block, come out."""
    rng = np.random.default_rng(12)
    for row_bytes in (509, 510, 511, 512, 513, 516, 1023, 1024, 1025, 1028):
        width = row_bytes // channels
        for extra in (0, 1):
            check(picture(rng, 9, width + extra, channels, "noise"), 4, width + extra)


def test_both_orders_are_pillow_s_on_the_boundary():
    """Prove that shapes exactly at and beside the change of order come out."""
    rng = np.random.default_rng(13)
    random_ = random.Random(13)
    orders = {True: 0, False: 0}
    for index in range(240):
        width, out_width = random_.randint(1, 60), random_.randint(1, 60)
        shed = 2 * (width - out_width) + (-1, 0, 1)[index % 3]
        out_height = random_.randint(1, 60) + max(0, -shed)
        height = out_height + shed
        check(picture(rng, height, width, 1, "extremes"), out_height, out_width)
        first = native.is_height_first(height, width, out_height, out_width)
        orders[first] += 1
    assert min(orders.values()) > 30


def test_is_height_first_is_what_pillow_does():
    """Prove the order's rule by watching which of two orders gives Pillow's bytes."""
    rng = np.random.default_rng(14)
    random_ = random.Random(14)
    seen = {True: 0, False: 0}
    for index in range(300):
        height, width, out_height, out_width = (
            random_.randint(2, 80) for _ in range(4)
        )
        if index % 2:
            shed = 2 * (width - out_width) + random_.choice([-1, 0, 1])
            out_height = max(1, min(height - shed, 200))
        pixels = picture(rng, height, width, 1, "extremes")
        down_first = by_pillow(
            by_pillow(pixels, out_height, width), out_height, out_width
        )
        across_first = by_pillow(
            by_pillow(pixels, height, out_width), out_height, out_width
        )
        if np.array_equal(down_first, across_first):
            continue  # too small a picture to show the order
        observed = np.array_equal(by_pillow(pixels, out_height, out_width), down_first)
        shapes = (height, width, out_height, out_width)
        assert native.is_height_first(*shapes) == observed, shapes
        seen[observed] += 1
    assert min(seen.values()) > 30


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 100, 60, 81), True),  # 40 rows against twice 19 columns
        ((100, 100, 60, 80), False),  # 40 against 40
        ((100, 100, 60, 79), False),
        ((100, 100, 99, 120), True),  # lower and wider
        ((100, 100, 100, 120), False),  # not lower
        ((100, 100, 101, 200), False),  # higher, though wider by more
    ],
)
def test_order_at_the_boundary(shape, expected):
    """Prove which pass is first exactly at the boundary and beside it."""
    assert native.is_height_first(*shape) is expected


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((11, 100_000), (11, 301)),
        ((11, 100_000), (11, 134)),  # 3,000 taps
        ((100_000, 11), (134, 11)),
        ((11, 2200), (28, 5600)),
        ((2200, 11), (600, 11)),  # 16 taps
        ((100_000, 11), (301, 11)),
        ((2, 65_537), (3, 5)),
        ((65_537, 2), (5, 3)),
        ((1, 1), (1, 40_000)),
        ((1, 1), (40_000, 1)),
        ((1, 40_000), (1, 1)),
        ((3, 5), (500, 700)),
    ],
    ids=str,
)
def test_long_strips_are_pillow_s(shape, size):
    """Prove that very long, thin and strongly enlarged pictures come out."""
    check(picture(np.random.default_rng(15), *shape, 1, "noise"), *size)


@pytest.mark.parametrize("size", [1, 2, 5, 134])
@pytest.mark.parametrize("in_size", [16, 999, 100_000, 400_000])
def test_the_largest_and_the_smallest_sums_do_not_wrap(in_size, size):
    """
    Prove that no sum leaves int32, whatever the filter's length.

    The line is white where the weights of one output are positive and black where
    they are negative, and the other way round.
    """
    output = size // 2
    distances = (np.arange(in_size) + 0.5) * size / in_size - (output + 0.5)
    bright = np.where(np.abs(distances) < 1, 255, 0).astype(np.uint8)[None, :]
    for line, clipped in ((bright, 255), (255 - bright, 0)):
        check(line, 1, size)
        check(line.T, size, 1)
        if size > 1 and in_size > 2 * size:
            assert qp.resize(line, 1, size)[0, output] == clipped


def test_four_channels_are_resized_alike():
    """Prove that four channels give the bytes of CMYK and of RGBX, not of RGBA."""
    pixels = picture(np.random.default_rng(16), 40, 50, 4, "noise")
    given_ = qp.resize(pixels, 20, 21)
    assert np.array_equal(given_, by_pillow(pixels, 20, 21, "CMYK"))
    assert np.array_equal(given_, by_pillow(pixels, 20, 21, "RGBX"))
    assert not np.array_equal(given_, by_pillow(pixels, 20, 21, "RGBA"))


def test_a_photo_of_a_common_size_is_pillow_s(photo):
    """Prove that an ordinary photo, at an ordinary size, comes out."""
    pixels = np.asarray(photo.resize((803, 601)))
    check(pixels, 588, 784)
    check(pixels, 1204, 1596)


def test_an_edge_enlarged_by_hand():
    """
    Prove one enlarging, drawn in hexadecimal.

    From 2 to 4 samples, distances 0.25, 0.75 and 1.25 weigh 0.8671875, 0.2265625 and
    -0.0703125.  White's share is -0.07 / 0.80, below black, in the first sample, and
    0.2265625 / 1.09375, that is 52.8 of 255, in the second.
    """
    edge = np.array([[0, 255], [0, 255]], np.uint8)
    drawn = [row.tobytes().hex(" ") for row in qp.resize(edge, 2, 4)]
    assert drawn == ["00 35 ca ff", "00 35 ca ff"]


@given(
    value=st.integers(0, 255),
    sides=st.tuples(*[st.integers(1, 200)] * 4),
    channels=st.sampled_from([1, 3, 4]),
)
@example(value=255, sides=(200, 200, 1, 1), channels=3)
@example(value=255, sides=(14, 14, 13, 13), channels=1)
def test_constant_image_stays_constant(value, sides, channels):
    """Prove that one colour stays exactly that colour at every size."""
    height, width, out_height, out_width = sides
    shape = (height, width) if channels == 1 else (height, width, channels)
    resized = qp.resize(np.full(shape, value, np.uint8), out_height, out_width)
    assert resized.shape == (out_height, out_width, *shape[2:])
    assert (resized == value).all()


# What goes in and what comes out


def test_read_only_input_is_taken_and_kept():
    """Prove that a read-only array is resized and no input byte changes."""
    pixels = picture(np.random.default_rng(17), 31, 37, 3, "noise")
    before = pixels.tobytes()
    pixels.flags.writeable = False
    check(pixels, 17, 40)
    resample(bytes(31 * 37 * 3), bytearray(17 * 40 * 3), 31, 37, 3, 17, 40)
    assert pixels.tobytes() == before


def test_input_that_is_not_contiguous_is_taken():
    """Prove that crops, mirrored, turned and Fortran-ordered arrays come out."""
    pixels = picture(np.random.default_rng(18), 40, 50, 3, "noise")
    views = [
        pixels[3:33, 5:44],
        pixels[::-1],
        pixels[:, ::-1],
        pixels[::2, ::3],
        pixels[:, :, ::-1],
        np.asfortranarray(pixels),
        pixels.transpose(1, 0, 2),
        pixels[:, :, 1],
    ]
    for view in views:
        assert not view.flags.c_contiguous
        expected = by_pillow(np.ascontiguousarray(view), 23, 19)
        assert np.array_equal(qp.resize(view, 23, 19), expected)


def test_result_is_a_new_contiguous_array():
    """Prove that the result owns its memory, also where the size stays."""
    pixels = picture(np.random.default_rng(19), 8, 9, 3, "noise")
    for size in [(8, 9), (4, 5), (8, 5), (4, 9)]:
        resized = qp.resize(pixels, *size)
        assert not np.shares_memory(resized, pixels)
        assert resized.flags.c_contiguous
        assert resized.flags.writeable
        assert resized.dtype == np.uint8
    assert np.array_equal(qp.resize(pixels, 8, 9), pixels)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.int8),
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), bool),
        np.zeros((4, 4), np.uint16),
    ],
    ids=lambda pixels: str(pixels.dtype),
)
def test_samples_of_another_type_are_refused(pixels):
    """Prove that only uint8 is taken; nothing is converted silently."""
    with pytest.raises(TypeError, match="Expected uint8 pixels"):
        qp.resize(pixels, 2, 2)


@pytest.mark.parametrize(
    "shape", [(), (4,), (4, 4, 1), (4, 4, 2), (4, 4, 5), (4, 4, 3, 1)], ids=str
)
def test_arrays_of_another_shape_are_refused(shape):
    """Prove that only grey, three and four channels are taken."""
    with pytest.raises(ValueError, match="Expected pixels of shape"):
        qp.resize(np.zeros(shape, np.uint8), 2, 2)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((0, 4), (2, 2)),
        ((4, 0, 3), (2, 2)),
        ((4, 4), (0, 2)),
        ((4, 4), (2, 0)),
        ((4, 4), (-1, 2)),
        ((4, 4), (2, -(2**40))),
    ],
    ids=str,
)
def test_sides_below_1_are_refused(shape, size):
    """Prove that no side of 0 or less reaches the native code."""
    with pytest.raises(ValueError, match="Expected sides of at least 1"):
        qp.resize(np.zeros(shape, np.uint8), *size)


def test_sizes_beyond_memory_are_refused():
    """Prove that a size that no memory holds is refused, not tried."""
    pixels = np.zeros((2, 2), np.uint8)
    for size in [(2**31, 1), (1, 2**31)]:
        with pytest.raises((ValueError, MemoryError)):
            qp.resize(pixels, *size)
    with pytest.raises((ValueError, MemoryError)):
        qp.resize(pixels, 2**31 - 1, 2**31 - 1)


# The buffers of the native function

GOOD = {
    "height": 4,
    "width": 5,
    "channels": 3,
    "out_height": 2,
    "out_width": 3,
}


def refuse(
    error: type[Exception], message: str, *, source: int, target: int, **sizes: int
) -> None:
    """Call with wrong sizes; the target has to stay as it was."""
    canvas = bytearray(b"\xa5" * target)
    with pytest.raises(error, match=message):
        resample(bytes(source), canvas, *{**GOOD, **sizes}.values())
    assert bytes(canvas) == b"\xa5" * target


def test_good_buffers_are_taken():
    """Prove that the sizes which the refusals below vary are right themselves."""
    target = bytearray(b"\xa5" * 18)
    resample(bytes(60), target, *GOOD.values())
    assert target == bytes(18)


@pytest.mark.parametrize("source", [0, 1, 59, 61, 120])
def test_source_of_another_length_is_refused(source):
    """Prove that a source one byte short or long is refused."""
    refuse(ValueError, "Expected a source of", source=source, target=18)


@pytest.mark.parametrize("target", [0, 1, 17, 19, 36])
def test_target_of_another_length_is_refused(target):
    """Prove that a target one byte short or long is refused and not written."""
    refuse(ValueError, "Expected a target of", source=60, target=target)


@pytest.mark.parametrize("channels", [-1, 0, 2, 5, 255, 2**31 - 1])
def test_other_channels_are_refused(channels):
    """Prove that only 1, 3 and 4 channels reach the loops, whose sums are four."""
    refuse(ValueError, "Expected 1, 3 or 4", source=60, target=18, channels=channels)


@pytest.mark.parametrize("side", ["height", "width", "out_height", "out_width"])
@pytest.mark.parametrize("value", [0, -1, -(2**63), 2**31, 2**63 - 1])
def test_sides_out_of_range_are_refused(side, value):
    """Prove that each side is held against 1 and MAX_SIDE."""
    refuse(ValueError, "Expected sides in", source=60, target=18, **{side: value})


def test_numbers_beyond_64_bits_are_refused():
    """Prove that a side beyond int64 does not wrap around to a legal one."""
    refuse(OverflowError, "too large", source=60, target=18, height=2**64 + 4)
    refuse(OverflowError, "too large", source=60, target=18, channels=2**32 + 3)


@pytest.mark.parametrize(
    "sizes",
    [
        {"height": 2**31 - 1, "width": 2**31 - 1, "channels": 4},
        {"height": 2**31 - 1, "width": 2**31 - 1, "channels": 3},
        {"out_height": 2**31 - 1, "out_width": 2**31 - 1, "channels": 4},
    ],
    ids=str,
)
def test_products_that_overflow_are_refused(sizes):
    """Prove that h × w × c beyond int64 is refused before any byte is touched."""
    source, target = (60, 18) if sizes["channels"] == 3 else (80, 24)
    refuse(MemoryError, "larger than memory", source=source, target=target, **sizes)


def test_products_that_fit_32_bits_by_wrapping_are_refused():
    """Prove that 2^32 + 60 bytes do not pass as 60, nor 2^34 + 56 as 56."""
    refuse(
        ValueError,
        "Expected a source of",
        source=60,
        target=18,
        height=4,
        width=1_073_741_839,
        channels=1,
    )
    refuse(
        ValueError,
        "Expected a target of",
        source=60,
        target=56,
        out_height=4,
        out_width=357_913_946 + 1_073_741_824,
    )


def test_the_same_size_is_a_copy():
    """Prove that nothing to resize is no special case: the rows come out."""
    pixels = picture(np.random.default_rng(22), 4, 5, 3, "noise")
    assert np.array_equal(by_native(pixels, 4, 5), pixels)


@pytest.mark.parametrize(
    ("source", "target"), [(0, 0), (0, 1), (0, 42), (0, 59), (1, 0), (17, 0)]
)
def test_overlapping_buffers_are_refused(source, target):
    """Prove that a target that shares one byte with the source is refused."""
    memory = np.zeros(100, np.uint8)
    with pytest.raises(ValueError, match="do not overlap"):
        resample(
            memory[source : source + 60],
            memory[target : target + 18],
            *GOOD.values(),
        )


def test_touching_buffers_are_taken():
    """Prove that a target right before or behind the source is no overlap."""
    memory = np.zeros(96, np.uint8)
    memory[18:78] = 200
    resample(memory[18:78], memory[78:], *GOOD.values())
    resample(memory[18:78], memory[:18], *GOOD.values())
    assert (memory == 200).all()


@pytest.mark.parametrize(
    "buffers",
    [
        (bytes(60), bytes(18)),  # a target that cannot be written
        (np.zeros(120, np.uint8)[::2], bytearray(18)),  # not contiguous
        (bytes(60), np.zeros(36, np.uint8)[::2]),
        (np.zeros(60, np.int8), bytearray(18)),  # another type
        (np.zeros(15, np.float32), bytearray(18)),
        (np.zeros((4, 15), np.uint8), bytearray(18)),  # another dimension
        ("x" * 60, bytearray(18)),
        (None, bytearray(18)),
        (bytes(60), None),
    ],
    ids=range(9),
)
def test_what_is_no_buffer_of_bytes_is_refused(buffers):
    """Prove that only contiguous bytes, and a writable target, are taken."""
    with pytest.raises((TypeError, ValueError, BufferError)):
        resample(*buffers, *GOOD.values())


def test_eight_threads_give_the_same_bytes():
    """Prove that the function keeps no state between calls that run at once."""
    rng = np.random.default_rng(20)
    jobs = []
    for index in range(64):
        height, width, out_height, out_width = rng.integers(20, 220, 4).tolist()
        pixels = picture(rng, height, width, (1, 3, 4)[index % 3], "noise")
        jobs.append((pixels, out_height, out_width))
    alone = [qp.resize(*job) for job in jobs]
    shared = jobs[0]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: qp.resize(*job), jobs * 2))
        same = list(pool.map(lambda _: qp.resize(*shared), range(32)))
    for one, other in zip(alone * 2, together, strict=True):
        assert np.array_equal(one, other)
    for other in same:
        assert np.array_equal(alone[0], other)


# Guard pages

PAGE = mmap.PAGESIZE


class Guarded:
    """Bytes that touch an inaccessible page at one end."""

    def __init__(self, size: int, *, at_end: bool) -> None:
        pages = -(-size // PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for guard in (start, start + (pages + 1) * PAGE):
            if libc.mprotect(guard, PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        first = (pages + 1) * PAGE - size if at_end else PAGE
        array = (ctypes.c_ubyte * size).from_address(start + first)
        self.bytes = np.ctypeslib.as_array(array)


def resize_between_guard_pages() -> int:
    """Resize many shapes flush against guard pages; a stray byte kills the process."""
    random_ = random.Random(21)
    rng = np.random.default_rng(21)
    done = 0
    for index in range(180):
        height, width, out_height, out_width = draw_shape(random_, index)
        channels = (1, 3, 4)[index // 6 % 3]
        if (height, width) == (out_height, out_width):
            continue
        pixels = picture(rng, height, width, channels, "noise")
        expected = by_native(pixels, out_height, out_width).reshape(-1)
        for at_end in (True, False):
            source = Guarded(pixels.size, at_end=at_end)
            target = Guarded(expected.size, at_end=at_end)
            source.bytes[:] = pixels.reshape(-1)
            resample(
                source.bytes,
                target.bytes,
                height,
                width,
                channels,
                out_height,
                out_width,
            )
            if not np.array_equal(target.bytes, expected):
                raise AssertionError((pixels.shape, out_height, out_width))
            done += 1
    return done


def resize_without_memory() -> int:
    """Resize where no more memory is to be had; count the refusals."""
    import resource

    jobs = [
        # The rows between the passes do not fit: 150 of them, 16,000 bytes each.
        (np.ones((2000, 16_000), np.uint8), (57, 16_000)),
        # The weights do not fit: of the first axis, of the second, of both.
        (np.ones((1, 1_000_000), np.uint8), (1, 500_000)),
        (np.ones((1_000_000, 1), np.uint8), (500_000, 1)),
        (np.ones((1_000_000, 2), np.uint8), (500_000, 1)),
    ]
    targets = [np.zeros(size, np.uint8) for _, size in jobs]
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**20, hard))
    refused = 0
    for _ in range(50):
        for (pixels, size), target in zip(jobs, targets, strict=True):
            try:
                resample(
                    pixels.reshape(-1), target.reshape(-1), *pixels.shape, 1, *size
                )
            except MemoryError:
                refused += 1
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    grown = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE - in_use
    if grown > 2**20:
        raise AssertionError(grown)
    for (pixels, size), target in zip(jobs, targets, strict=True):
        resample(pixels.reshape(-1), target.reshape(-1), *pixels.shape, 1, *size)
        if not (target == 1).all():
            raise AssertionError(size)
    return refused


def run_alone(task: str) -> subprocess.CompletedProcess[str]:
    """Run this file in a process of its own, so that a crash is only a failure."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        BACKEND_VARIABLE: native.backend(),
    }
    return subprocess.run(
        [sys.executable, __file__, task],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )


needs_mprotect = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="guard pages need mprotect"
)


@needs_mprotect
def test_no_byte_beside_the_buffers_is_touched():
    """Prove by inaccessible pages at either end that neither buffer is overrun."""
    finished = run_alone("between")
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) > 250


@needs_mprotect
def test_missing_memory_is_an_error_and_no_leak():
    """Prove that each buffer that cannot be had ends in MemoryError, then all works."""
    finished = run_alone("starved")
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) == 200


@needs_mprotect
def test_guard_pages_do_kill():
    """Prove that one byte beside the buffer would have ended that process."""
    assert run_alone("behind").returncode < 0
    assert run_alone("before").returncode < 0


def main(task: str) -> None:
    native.use_backend(os.environ[BACKEND_VARIABLE])
    if task == "between":
        sys.stdout.write(str(resize_between_guard_pages()))
        return
    if task == "starved":
        sys.stdout.write(str(resize_without_memory()))
        return
    guarded = Guarded(100, at_end=task == "behind")
    address = guarded.bytes.ctypes.data
    ctypes.c_ubyte.from_address(address + (100 if task == "behind" else -1)).value = 1


if __name__ == "__main__":
    main(sys.argv[1])
