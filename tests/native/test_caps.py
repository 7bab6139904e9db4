"""Counts under caps and the largest scale, below the checks of Python."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep._native import caps as native

RULE = (28, 3_136, 1_003_520, 200)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def counted(height: int, width: int, cap: int, *rule: int) -> int:
    """Count one size; -1 where it is refused."""
    counts = ints(-9)
    refused = native.vision_tokens_under(
        ints(height), ints(width), ints(cap), counts, *(rule or RULE)
    )
    return -1 if refused == 0 else int(counts[0])


def fit_scale(heights, widths, natural, room, *, shares=None, changes=None):
    """Search with arrays of the right lengths, but for *changes*."""
    n = len(heights)
    arrays = {
        "heights": ints(*heights),
        "widths": ints(*widths),
        "natural": ints(*natural),
        "shares": np.array(natural if shares is None else shares, dtype=float),
        "floors": np.full(n, 4),
        "caps": np.full(n, -9),
        "areas": np.full(n, -9),
        "work": np.full((native.WORK_ROWS, n), -9),
        "keys": np.full(n, math.nan),
        **(changes or {}),
    }
    refused, scale = native.fit_scale(*arrays.values(), 28, 3_136, 200, room)
    return refused, scale, arrays["caps"].tolist(), arrays["areas"].tolist()


@pytest.mark.parametrize(
    ("size", "cap", "expected"),
    [
        ((1_280, 1_280), 1_280, 1_225),
        ((1_280, 1_280), 2**62, 1_225),
        ((1_280, 1_280), 1_279, 1_225),
        ((1_280, 1_280), 1_224, 34 * 34),
        ((512, 512), 324, 324),
        ((512, 512), 323, 17 * 17),
        # The shorter side is lifted to one square, and the longer one is then the cap.
        ((15, 575), 20, 20),
        # Enlarged by the server to 28 × 364, whatever the cap.
        ((476, 13), 13, 13),
        ((476, 13), 10, 13),
        # 200:1 and no more.
        ((75, 14_900), 530, 200),
        ((11, 2_200), 4, 29),
        ((11, 2_201), 4, 0),
        ((1, 1), 4, 4),
    ],
)
def test_known_counts(size, cap, expected):
    """Prove the numbers of the rule and of its ends."""
    assert counted(*size, cap) == expected
    assert counted(*size[::-1], cap) == expected


@pytest.mark.parametrize(
    ("height", "width", "cap"),
    [
        (0, 5, 100),
        (5, 0, 100),
        (-5, 5, 100),
        (2**62, 2**62, 100),
        (2**63 - 1, 2**63 - 1, 100),
        (100, 100, 3),
        (100, 100, 0),
        (100, 100, -(2**63)),
    ],
)
def test_what_cannot_be_counted_is_told_by_its_index(height, width, cap):
    """Prove that a side or a cap out of range is refused and nothing wraps around."""
    assert counted(height, width, cap) == -1
    counts = ints(0, 0)
    assert (
        native.vision_tokens_under(
            ints(50, height), ints(50, width), ints(9, cap), counts, *RULE
        )
        == 1
    )


def test_large_sides_are_counted():
    """Prove that areas beyond 2^53 are divided exactly."""
    side = 3_000_000_000
    assert counted(side, side, 1_000) == 31 * 31
    assert counted(side, 200 * 1_000_000, 1_280) == counted(30_000, 2_000, 1_280)


@pytest.mark.parametrize(
    "rule",
    [
        (0, 1, 10_000, 200),
        (-28, 1, 10_000, 200),
        (2**17, 1, 2**40, 200),
        (28, 0, 10_000, 200),
        (28, 20_000, 10_000, 200),
        (28, 1, 2**53, 200),
        (28, 1, 783, 200),
        (28, 1, 10_000, 0),
        (28, 1, 10_000, 201),
    ],
)
def test_rule_out_of_range_is_refused(rule):
    """Prove that no arithmetic is done with numbers that it does not hold for."""
    with pytest.raises(ValueError, match="Expected"):
        counted(100, 100, 50, *rule)


@pytest.mark.parametrize("short", range(4))
def test_lengths_that_do_not_belong_together_are_refused(short):
    """Prove that no array is read or written beyond its end."""
    arrays = [np.full(5, 100) for _ in range(4)]
    arrays[short] = arrays[short][:4]
    with pytest.raises(ValueError, match="the same length"):
        native.vision_tokens_under(*arrays, *RULE)


@pytest.mark.parametrize(
    "name",
    ["widths", "natural", "shares", "floors", "caps", "areas", "work", "keys", "rows"],
)
def test_search_refuses_lengths_that_do_not_belong_together(name):
    """Prove that the search looks at every length before it begins."""
    shorter = {
        name: np.zeros(1, dtype=float if name in ("shares", "keys") else np.int64),
    }
    if name == "work":
        shorter = {"work": np.zeros((native.WORK_ROWS, 1), dtype=np.int64)}
    if name == "rows":
        shorter = {"work": np.zeros((native.WORK_ROWS - 1, 2), dtype=np.int64)}
    with pytest.raises(ValueError, match="the same length"):
        fit_scale([500] * 2, [500] * 2, [324] * 2, 100, changes=shorter)


def test_no_images_fit_unless_there_is_no_room():
    """Prove that an empty search ends."""
    assert fit_scale([], [], [], 0) == (-1, 1.0, [], [])
    assert fit_scale([], [], [], -1) == (-1, -1.0, [], [])


@pytest.mark.parametrize(
    ("height", "width", "natural", "share"),
    [
        (0, 500, 324, 324.0),
        (1, 500, 324, 324.0),
        (2**62, 2**62, 324, 324.0),
        (500, 500, 0, 324.0),
        (500, 500, -2, 324.0),
        (500, 500, 2**31 + 1, 324.0),
        (500, 500, 2**63 - 1, 324.0),
        (500, 500, 324, 0.0),
        (500, 500, 324, -1.0),
        (500, 500, 324, math.nan),
        (500, 500, 324, math.inf),
    ],
)
def test_what_cannot_be_searched_is_told_by_its_index(height, width, natural, share):
    """Prove that nothing is searched with a number that its arithmetic breaks on."""
    for place in (0, 1):
        heights, widths = [500, 500], [500, 500]
        naturals, shares = [324, 324], [324.0, 324.0]
        heights[place], widths[place] = height, width
        naturals[place], shares[place] = natural, share
        found = fit_scale(heights, widths, naturals, 300, shares=shares)
        assert found[0] == place


@pytest.mark.parametrize("room", [-(2**63), -1, 0, 7])
def test_floors_are_told_where_they_do_not_fit(room):
    """Prove that the search ends where nothing fits, with the floors."""
    refused, scale, _, areas = fit_scale([500] * 2, [500] * 2, [324] * 2, room)
    assert (refused, scale, areas) == (-1, -1.0, [4, 4])


def test_the_last_square_counts():
    """Prove that the floors fit where they fit exactly, and the whole likewise."""
    assert fit_scale([500] * 2, [500] * 2, [324] * 2, 8)[3] == [4, 4]
    assert fit_scale([500] * 2, [500] * 2, [324] * 2, 648)[1:] == (
        1.0,
        [0, 0],
        [324, 324],
    )
    assert fit_scale([500] * 2, [500] * 2, [324] * 2, 647)[3] == [324, 289]


def test_shares_over_many_orders_end():
    """Prove that the bracket closes where the shares are far apart."""
    shares = [324.0, 324e-9, 324e9]
    refused, scale, _, areas = fit_scale(
        [500] * 3, [500] * 3, [324] * 3, 700, shares=shares
    )
    assert (refused, sum(areas) <= 700, areas[2]) == (-1, True, 324)
    assert 0 < scale < math.inf


def test_the_gil_is_released():
    """Prove that another thread runs while a search goes on."""
    rng = np.random.default_rng(3)
    heights = rng.integers(100, 4_000, 300_000)
    widths = rng.integers(100, 4_000, 300_000)
    model = qp.get_model("qwen-vl-max").replace(max_input_tokens=150_000_000)
    ticks = 0
    is_done = threading.Event()

    def search() -> None:
        qp.fit_sizes(heights, widths, model=model)
        is_done.set()

    thread = threading.Thread(target=search)
    thread.start()
    # With the GIL held throughout, this loop would stand still until the end.
    while not is_done.wait(0.0005):
        ticks += 1
    thread.join()
    assert ticks >= 5
