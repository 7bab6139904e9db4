"""Rows that stand for slightly more than there are: positions, limits and mirrors."""

from __future__ import annotations

import numpy as np
import pytest

from qwenvl_prep import Resizer, resize

ORIENTATIONS = (1, 2, 3, 4)


def resized(pixels: np.ndarray, size: tuple[int, int], **options) -> np.ndarray:
    resizer = Resizer(*pixels.shape, *size, channels=1, **options)
    return resizer.feed(pixels)


@pytest.mark.usefixtures("backend")
def test_extent_of_the_size_itself_changes_nothing():
    """Bytes are those of Pillow where nothing was cut off."""
    pixels = np.random.default_rng(1).integers(0, 256, (61, 83), np.uint8)
    given = resized(pixels, (20, 31), extent=(61.0, 83.0))
    assert np.array_equal(given, resize(pixels, 20, 31))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("part", [0.125, 0.5, 0.875])
def test_samples_lie_where_the_extent_puts_them(orientation, part):
    """A ramp shows the place that each output sample was taken from."""
    height, width, out_height, out_width = 120, 90, 37, 41
    ramp = np.arange(height, dtype=np.uint8)[:, None] + np.zeros(width, np.uint8)
    extent = (height + part, width + part)
    size = (out_height, out_width)
    down = resized(ramp, size, extent=extent, orientation=orientation)
    places = (np.arange(out_height) + 0.5) * (height + part) / out_height - 0.5
    # At both ends the window is cut, as Pillow cuts it.
    assert abs(down[3:-3].astype(float) - places[3:-3, None]).max() <= 1
    ramp = np.arange(width, dtype=np.uint8) + np.zeros((height, 1), np.uint8)
    across = resized(ramp, size, extent=extent, orientation=orientation)
    places = (np.arange(out_width) + 0.5) * (width + part) / out_width - 0.5
    assert abs(across[:, 3:-3].astype(float) - places[3:-3]).max() <= 1


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (7, 5), (64, 64)])
def test_every_output_has_samples(size):
    """Also where the extent leaves the fewest: a plain picture stays plain."""
    for height in range(1, 9):
        for width in range(1, 9):
            plain = np.full((height, width), 77, np.uint8)
            for orientation in ORIENTATIONS:
                given = resized(
                    plain,
                    size,
                    extent=(height + 0.999, width + 0.999),
                    orientation=orientation,
                )
                assert (given == 77).all(), (height, width, orientation)


@pytest.mark.parametrize(
    "extent",
    [(9.9, 10.0), (10.0, 11.0), (-1.0, 10.0), (float("nan"), 10.0), (10.0, 1e300)],
)
def test_other_extents_are_refused(extent):
    """Less than the size, or one more: what was cut off is no whole sample."""
    with pytest.raises(ValueError, match="Expected extents"):
        Resizer(10, 10, 5, 5, extent=extent)
