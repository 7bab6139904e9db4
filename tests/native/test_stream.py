"""The resizer that is fed rows: the bytes of the whole picture, in bounded memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep._native import resample as native

pytestmark = pytest.mark.usefixtures("backend")

MODES = {1: "L", 3: "RGB", 4: "CMYK"}

# What turns stored rows upright (CIPA DC-008, tag 0x0112), and what turns them back.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BACK = {
    **UPRIGHT,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def noise(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    """Make samples in which every weight shows."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return pixels if seed % 3 else (pixels >> 7) * np.uint8(255)


def by_pillow(
    pixels: np.ndarray, out_height: int, out_width: int, orientation: int = 1
) -> np.ndarray:
    """Turn upright, resize by Pillow, and turn back to how the rows are stored."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    height, width = pixels.shape[:2]
    image = Image.frombytes(MODES[channels], (width, height), pixels.tobytes())
    if orientation > 1:
        image = image.transpose(UPRIGHT[orientation])
    size = (out_width, out_height) if orientation < 5 else (out_height, out_width)
    image = image.resize(size, Image.Resampling.BICUBIC)
    if orientation > 1:
        image = image.transpose(BACK[orientation])
    return np.frombuffer(image.tobytes(), np.uint8).reshape(
        out_height, out_width, *pixels.shape[2:]
    )


def fed(resizer: qp.Resizer, pixels: np.ndarray, strips: list[int]) -> np.ndarray:
    """Feed strips of these heights in turn, round and round, until the last row."""
    parts, top, turn = [], 0, 0
    while top < pixels.shape[0]:
        bottom = top + strips[turn % len(strips)]
        parts.append(resizer.feed(pixels[top:bottom]))
        top, turn = bottom, turn + 1
    return np.concatenate(parts)


sides = st.one_of(st.integers(1, 40), st.integers(1, 200))


@given(
    sizes=st.tuples(sides, sides, sides, sides),
    channels=st.sampled_from([1, 3, 4]),
    strips=st.lists(st.integers(0, 70), min_size=1, max_size=6).filter(any),
    seed=st.integers(0, 5),
)
@example(sizes=(33, 20, 16, 20), channels=3, strips=[1], seed=0)
@example(sizes=(200, 30, 17, 29), channels=3, strips=[15, 17], seed=1)
@example(sizes=(16, 16, 200, 200), channels=1, strips=[16], seed=2)
@example(sizes=(17, 5, 17, 5), channels=4, strips=[3], seed=2)
def test_any_split_into_strips_gives_pillow_s_bytes(sizes, channels, strips, seed):
    """Prove that how the rows are cut into strips does not show."""
    height, width, out_height, out_width = sizes
    pixels = noise(seed, height, width, channels)
    resizer = qp.Resizer(*sizes, channels=channels)
    expected = by_pillow(pixels, out_height, out_width)
    assert np.array_equal(fed(resizer, pixels, strips), expected)


@given(
    sizes=st.tuples(sides, sides, sides, sides),
    channels=st.sampled_from([1, 3, 4]),
    orientation=st.integers(2, 8),
    strip=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_turned_rows_give_the_bytes_of_the_upright_picture(
    sizes, channels, orientation, strip, seed
):
    """Prove that resizing before turning gives what turning before resizing does."""
    height, width, out_height, out_width = sizes
    pixels = noise(seed, height, width, channels)
    resizer = qp.Resizer(*sizes, channels=channels, orientation=orientation)
    expected = by_pillow(pixels, out_height, out_width, orientation)
    assert np.array_equal(fed(resizer, pixels, [strip]), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "sizes",
    [(900, 1200, 588, 784), (600, 100, 140, 84), (99, 701, 28, 280)],
    ids=["both", "height-first", "width-first"],
)
def test_every_orientation_of_larger_pictures(orientation, sizes):
    """Prove the same for pictures beyond a few blocks, in either order of passes."""
    pixels = noise(orientation, *sizes[:2], 3)
    resizer = qp.Resizer(*sizes, orientation=orientation)
    expected = by_pillow(pixels, *sizes[2:], orientation)
    assert np.array_equal(fed(resizer, pixels, [64]), expected)


def test_mirroring_the_weights_shows_in_the_bytes():
    """
    Prove that weights have to be mirrored too, not only the rows.

    Pillow's weights of 1 in 10,000 pairs of sizes are not symmetric to the last bit;
    131 to 1162 is one of them.
    """
    pixels = noise(7, 40_000, 131, 1)
    mirrored = qp.Resizer(40_000, 131, 40_000, 1162, channels=1, orientation=2)
    given_ = mirrored.feed(pixels)
    assert not np.array_equal(given_, qp.resize(pixels, 40_000, 1162))
    assert np.array_equal(given_, by_pillow(pixels, 40_000, 1162, orientation=2))


@pytest.mark.parametrize(
    "sizes",
    [
        (100_000, 11, 134, 11),  # 3,000 taps
        (100_000, 11, 25_000, 5),
        (11, 100_000, 5, 134),
        (3000, 50, 28, 700),  # height first, 430 taps
        (2200, 11, 2212, 28),
        (1, 1, 300, 200),
    ],
    ids=str,
)
def test_long_filters_and_long_strips(sizes):
    """Prove that rings of thousands of rows, and rows of 100,000 pixels, come out."""
    pixels = noise(3, *sizes[:2], 1)
    resizer = qp.Resizer(*sizes, channels=1)
    expected = by_pillow(pixels, *sizes[2:])
    assert np.array_equal(fed(resizer, pixels, [16, 1000]), expected)


def test_rows_come_out_as_soon_as_a_block_of_16_allows():
    """Prove that rows are not held back until the end."""
    pixels = noise(1, 1600, 800, 3)
    resizer = qp.Resizer(1600, 800, 400, 160)
    done = 0
    for top in range(0, 1600, 16):
        done += resizer.feed(pixels[top : top + 16]).shape[0]
        # A row needs 8 input rows behind its middle.
        assert done >= (top + 16 - 8) // 4
    assert done == 400


def test_height_first_rows_come_out_by_sixteen():
    """Prove that rows which the other pass has still to take come in its blocks."""
    resizer = qp.Resizer(1600, 64, 400, 32)
    counts = {resizer.feed(noise(1, 16, 64, 3)).shape[0] for _ in range(100)}
    assert counts == {0, 16}


def test_announced_rows_are_the_rows_that_come():
    """Prove that the length asked for is the length written, for every next strip."""
    pixels = noise(1, 90, 40, 1)
    for out_height, out_width in [(30, 20), (30, 40), (90, 20), (200, 90), (7, 39)]:
        whole = qp.resize(pixels, out_height, out_width)
        for strip in range(1, 91):
            stream = native.RowStream(
                90,
                40,
                out_height,
                out_width,
                1,
                native.is_height_first(90, 40, out_height, out_width),
            )
            top = done = 0
            while top < 90:
                rows = pixels[top : top + strip].reshape(-1)
                n_ready = stream.n_ready(rows.size // 40)
                target = np.zeros(n_ready * out_width, np.uint8)
                stream.feed(rows, target)
                part = target.reshape(n_ready, out_width)
                assert np.array_equal(part, whole[done : done + n_ready])
                top, done = top + strip, done + n_ready
            assert done == out_height


def test_strided_and_read_only_rows_are_taken():
    """Prove that crops, mirrored rows and read-only rows are fed as they look."""
    canvas = noise(4, 60, 90, 3)
    canvas.flags.writeable = False
    for view in (canvas[:, 5:75], canvas[::-1, :70], canvas[:, 80:10:-1]):
        resizer = qp.Resizer(60, 70, 20, 30)
        expected = by_pillow(np.ascontiguousarray(view), 20, 30)
        assert np.array_equal(fed(resizer, view, [7]), expected)


def test_rows_are_written_where_the_caller_wants_them():
    """Prove that a picture of the caller is filled, and not beyond its rows."""
    pixels = noise(4, 80, 50, 3)
    canvas = np.full((43, 25, 3), 7, np.uint8)
    resizer = qp.Resizer(80, 50, 40, 25)
    top = 0
    for start in range(0, 80, 9):
        ready = resizer.feed(pixels[start : start + 9], out=canvas[top:])
        assert np.shares_memory(ready, canvas) or ready.shape[0] == 0
        top += ready.shape[0]
    assert np.array_equal(canvas[:40], by_pillow(pixels, 40, 25))
    assert (canvas[40:] == 7).all()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros((39, 25, 3), np.uint8), ValueError),
        (np.zeros((40, 24, 3), np.uint8), ValueError),
        (np.zeros((40, 25), np.uint8), ValueError),
        (np.zeros((40, 25, 3), np.int8), TypeError),
        (np.zeros((40, 50, 3), np.uint8)[:, ::2], ValueError),
        (np.zeros((80, 25, 3), np.uint8)[::2], ValueError),
        (np.broadcast_to(np.uint8(0), (40, 25, 3)), ValueError),
    ],
    ids=range(7),
)
def test_places_that_do_not_fit_are_refused(out, error):
    """Prove that a refused place is not written to, and the rows can be fed again."""
    pixels = noise(4, 80, 50, 3)
    resizer = qp.Resizer(80, 50, 40, 25)
    with pytest.raises(error, match="Expected out"):
        resizer.feed(pixels, out=out)
    assert not out.any()
    assert np.array_equal(resizer.feed(pixels), by_pillow(pixels, 40, 25))


def test_results_own_their_memory():
    """Prove that what is given out is not overwritten by what comes later."""
    pixels = noise(4, 80, 50, 3)
    resizer = qp.Resizer(80, 50, 40, 25)
    first = resizer.feed(pixels[:40])
    before = first.copy()
    resizer.feed(pixels[40:])
    assert np.array_equal(first, before)
    assert not np.shares_memory(first, pixels)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (np.zeros((2, 10, 3), np.int8), TypeError, "uint8"),
        (np.zeros((2, 10, 3), np.float64), TypeError, "uint8"),
        (np.zeros((2, 9, 3), np.uint8), ValueError, r"shape \(n, 10, 3\)"),
        (np.zeros((2, 10), np.uint8), ValueError, "shape"),
        (np.zeros((2, 10, 4), np.uint8), ValueError, "shape"),
        (np.zeros((10, 3), np.uint8), ValueError, "shape"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, "shape"),
        (np.zeros((9, 10, 3), np.uint8), ValueError, "at most 8 more rows"),
    ],
    ids=range(8),
)
def test_rows_that_do_not_fit_are_refused_and_the_rest_goes_on(rows, error, message):
    """Prove that a refused strip leaves the resizer as it was."""
    pixels = noise(1, 12, 10, 3)
    resizer = qp.Resizer(12, 10, 6, 5)
    parts = [resizer.feed(pixels[:4])]
    with pytest.raises(error, match=message):
        resizer.feed(rows)
    parts.append(resizer.feed(pixels[4:]))
    assert np.array_equal(np.concatenate(parts), by_pillow(pixels, 6, 5))


def test_rows_behind_the_last_are_refused():
    """Prove that a finished resizer takes nothing more, and no rows at all."""
    resizer = qp.Resizer(4, 4, 2, 2)
    resizer.feed(np.zeros((4, 4, 3), np.uint8))
    assert resizer.feed(np.zeros((0, 4, 3), np.uint8)).shape == (0, 2, 3)
    with pytest.raises(ValueError, match="at most 0 more rows"):
        resizer.feed(np.zeros((1, 4, 3), np.uint8))


@pytest.mark.parametrize(
    "arguments",
    [
        ((0, 4, 2, 2), {}),
        ((4, 0, 2, 2), {}),
        ((4, 4, 0, 2), {}),
        ((4, 4, 2, -1), {}),
        ((4, 2**31, 2, 2), {}),
        ((4, 4, 2, 2), {"channels": 2}),
        ((4, 4, 2, 2), {"channels": 0}),
        ((4, 4, 2, 2), {"orientation": 0}),
        ((4, 4, 2, 2), {"orientation": 9}),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(arguments):
    """Prove that sides, channels and orientations are held against their ranges."""
    sizes, options = arguments
    with pytest.raises(ValueError, match="Expected"):
        qp.Resizer(*sizes, **options)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64])
def test_sides_may_be_numpy_s(kind):
    """
    Prove that sides of any integer type mean what they say.

    Small unsigned ones used to wrap around, and the wrong pass ran first.
    """
    pixels = noise(1, 200, 100, 1)
    sizes = [kind(side) for side in (200, 100, 100, 150)]
    resizer = qp.Resizer(*sizes, channels=kind(1), orientation=kind(1))
    assert np.array_equal(resizer.feed(pixels), by_pillow(pixels, 100, 150))
    assert np.array_equal(qp.resize(pixels, *sizes[2:]), by_pillow(pixels, 100, 150))


def test_no_subclass_can_lie_about_lengths():
    """Prove that the type which owns the pointers is closed."""
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Liar", (native.RowStream,), {"n_ready": lambda *_: 0})


def test_sizes_that_memory_does_not_hold_are_refused():
    """Prove that weights or rows beyond memory end in an error of Python."""
    for sizes in [(1, 2**31 - 1, 1, 2**31 - 2), (2**31 - 1, 2**31 - 1, 2**30, 2**30)]:
        with pytest.raises(MemoryError):
            qp.Resizer(*sizes, channels=4)


@pytest.mark.parametrize(
    ("rows", "target"), [(30, 0), (31, 60), (61, 60), (60, 59), (60, 61), (60, 0)]
)
def test_lengths_beside_the_native_pointers_are_checked(rows, target):
    """Prove that a source or a target one byte short or long is not touched."""
    stream = native.RowStream(2, 10, 4, 5, 3, False)
    canvas = bytearray(b"\xa5" * target)
    if (rows, target) == (30, 0):
        stream.feed(bytes(rows), canvas)  # one row alone finishes nothing
        return
    with pytest.raises(ValueError, match="Expected"):
        stream.feed(bytes(rows), canvas)
    assert bytes(canvas) == b"\xa5" * target


def test_overlapping_buffers_are_refused():
    """Prove that rows and target may not share a byte."""
    memory = np.zeros(100, np.uint8)
    stream = native.RowStream(2, 10, 2, 5, 3, False)
    with pytest.raises(ValueError, match="do not overlap"):
        stream.feed(memory[:60], memory[59:89])
    stream.feed(memory[:60], memory[60:90])


def test_a_second_thread_is_refused_while_one_feeds():
    """Prove that two threads in one resizer end in an error, never in a mixture."""
    height = 20_000
    pixels = np.zeros((height, 500, 3), np.uint8)
    seen = []
    for _ in range(20):
        resizer = qp.Resizer(height, 500, 1000, 499)
        start = threading.Barrier(2)

        def feed(resizer=resizer, start=start) -> None:
            start.wait()
            try:
                resizer.feed(pixels)
            except (RuntimeError, ValueError) as exc:
                seen.append(type(exc))

        threads = [threading.Thread(target=feed) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if RuntimeError in seen:
            return
    # Whoever came late found all rows fed; it was never let in.
    assert len(seen) == 20


def test_repr_tells_the_rows_to_come():
    """Prove that a resizer shows what it still waits for, and no pixel."""
    resizer = qp.Resizer(10, 4, 5, 2)
    resizer.feed(np.zeros((3, 4, 3), np.uint8))
    assert repr(resizer) == "<Resizer to rows of 2 pixels, 7 rows to come>"
