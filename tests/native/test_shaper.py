"""Colours by curves and a matrix, beside the same sums in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from qwenvl_prep._native.shaper import shape_rgb

TOP = 1 << 14
LEVELS = np.random.default_rng(1).integers(0, 256, TOP + 1, dtype=np.uint8)


def random_parts(largest: int) -> np.ndarray:
    return np.random.default_rng(2).integers(
        -largest, largest, (3, 256, 4), dtype=np.int32, endpoint=True
    )


def stated(pixels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Say it again: one table per sample, added up in 32 bits that wrap around."""
    sums = sum(parts[i][pixels[:, i]] for i in range(3))
    assert sums.dtype == np.int32
    return LEVELS[np.clip(sums >> 14, 0, TOP)][:, :3]


@pytest.mark.parametrize("largest", [1 << 26, 1 << 28, (1 << 31) - 1])
@pytest.mark.parametrize("pixels", [*range(35), 1_000])
def test_sums_are_those_of_numpy(pixels, largest):
    """Every length, around the blocks, and tables that go beyond every bound."""
    parts = random_parts(largest)
    source = np.random.default_rng(3).integers(0, 256, (pixels, 3), dtype=np.uint8)
    target = np.full((pixels + 2, 3), 7, np.uint8)
    shape_rgb(source.reshape(-1), target[1:-1].reshape(-1), parts, LEVELS)
    assert np.array_equal(target[1:-1], stated(source, parts))
    assert (target[[0, -1]] == 7).all()


def test_levels_are_reached_from_first_to_last():
    """Zero, one, what is below and what is above: each at its level."""
    parts = np.zeros((3, 256, 4), np.int32)
    parts[0, :5, 0] = np.array([0, TOP, TOP - 1, TOP + 1, -1]) << 14
    source = np.zeros((5, 3), np.uint8)
    source[:, 0] = range(5)
    target = np.empty_like(source)
    shape_rgb(source.reshape(-1), target.reshape(-1), parts, LEVELS)
    expected = LEVELS[[0, TOP, TOP - 1, TOP, 0]]
    assert target[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((5, 5, 256, 4, TOP + 1), "3 bytes in and out .* received 5 and 5"),
        ((6, 3, 256, 4, TOP + 1), "received 6 and 3"),
        ((6, 9, 256, 4, TOP + 1), "received 6 and 9"),
        ((6, 6, 255, 4, TOP + 1), r"\(3, 256, 4\) but received \(3, 255, 4\)"),
        ((6, 6, 256, 3, TOP + 1), r"received \(3, 256, 3\)"),
        ((6, 6, 256, 4, TOP), "Expected 16385 levels but received 16384"),
    ],
)
def test_lengths_that_do_not_belong_together(sizes, message):
    """Every length is compared before the first byte is read."""
    source, target, codes, lanes, levels = sizes
    parts = np.zeros((3, codes, lanes), np.int32)
    with pytest.raises(ValueError, match=message):
        shape_rgb(bytes(source), bytearray(target), parts, bytes(levels))


def test_memory_that_cannot_be_used():
    """What is read-only, has gaps or is of another type is refused by name."""
    parts = random_parts(1)
    with pytest.raises(ValueError, match=r"shape \(3, 256, 4\) but received \(2,"):
        shape_rgb(bytes(6), bytearray(6), parts[:2], LEVELS)
    with pytest.raises(BufferError):
        shape_rgb(bytes(6), bytes(6), parts, LEVELS)
    with pytest.raises(ValueError, match="not C-contiguous"):
        shape_rgb(bytes(6), bytearray(6), parts[:, :, ::-1], LEVELS)
    with pytest.raises(ValueError, match="dtype mismatch"):
        shape_rgb(bytes(6), bytearray(6), parts.astype(np.int64), LEVELS)
