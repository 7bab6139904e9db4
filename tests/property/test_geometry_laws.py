"""Laws of the size rule, for every small size and for drawn large ones."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep.errors import AspectRatioError
from qwenvl_prep.geometry import is_above_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sizes = NDArray[np.int64]

# factor, min_pixels, max_pixels: every pair of limits that was published.
PUBLISHED = [
    (28, 3_136, 1_003_520),
    (28, 3_136, 6_422_528),
    (28, 3_136, 12_845_056),
    (28, 3_136, 23_520_000),
    (32, 3_072, 8_388_608),
    (32, 3_072, 30_720_000),
    (32, 4_096, 1_310_720),
    (32, 4_096, 2_621_440),
    (32, 4_096, 16_777_216),
    (32, 65_536, 2_621_440),
    (32, 65_536, 16_777_216),
]
# Caps of one's own that shrink small images, floor sides to 0, or enlarge past them.
OWN = [
    (28, 3_136, 4 * 784),
    (28, 3_136, 20 * 784),
    (28, 100 * 784, 100 * 784),
    (32, 1, 7 * 1024),
    (32, 65_536, 64 * 1024),
    (32, 65_536, 200 * 1024),
    (1, 1, 5_000),
    (7, 5_000, 5_001),
]


def published_rule(height, width, factor, min_pixels, max_pixels):
    """State the size rule in Python, in the published order."""
    h = round(height / factor) * factor
    w = round(width / factor) * factor
    if h * w > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        h = math.floor(height / beta / factor) * factor
        w = math.floor(width / beta / factor) * factor
    elif h * w < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        h = math.ceil(height * beta / factor) * factor
        w = math.ceil(width * beta / factor) * factor
    return h, w


def published_rule_of_arrays(
    heights: Sizes, widths: Sizes, factor: int, min_pixels: int, max_pixels: int
) -> Sizes:
    """State the same in NumPy's doubles; ratios above 200:1 give (0, 0)."""
    area = heights * widths
    h, w = (np.rint(side / factor) * factor for side in (heights, widths))
    shrink = h * w > max_pixels
    enlarge = ~shrink & (h * w < min_pixels)
    beta = np.sqrt(area / max_pixels)
    h = np.where(shrink, np.floor(heights / beta / factor) * factor, h)
    w = np.where(shrink, np.floor(widths / beta / factor) * factor, w)
    beta = np.sqrt(min_pixels / area)
    h = np.where(enlarge, np.ceil(heights * beta / factor) * factor, h)
    w = np.where(enlarge, np.ceil(widths * beta / factor) * factor, w)
    sizes = np.stack([h, w], axis=1).astype(np.int64)
    longest, shortest = np.maximum(heights, widths), np.minimum(heights, widths)
    sizes[longest > 200 * shortest] = 0
    return sizes


def all_pairs(sides: range) -> tuple[Sizes, Sizes]:
    values = np.array(sides, np.int64)
    return np.repeat(values, len(values)), np.tile(values, len(values))


def caps_of(rule: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("factor", "min_pixels", "max_pixels"), rule, strict=True))


@st.composite
def sizes_up_to(draw, largest: int) -> tuple[int, int]:
    """Draw two sides with a legal ratio, in either order."""
    short = draw(st.integers(1, largest))
    long = draw(st.integers(short, min(200 * short, largest)))
    return draw(st.sampled_from([(short, long), (long, short)]))


@st.composite
def own_rules(draw) -> tuple[int, int, int]:
    """Draw factor, min_pixels and max_pixels with room for at least one token."""
    factor = draw(st.sampled_from([1, 2, 7, 14, 28, 32]))
    tokens = draw(st.integers(1, 2000))
    max_pixels = tokens * factor**2 + draw(st.integers(0, factor**2 - 1))
    return factor, draw(st.integers(1, max_pixels)), max_pixels


@pytest.mark.parametrize("rule", PUBLISHED + OWN, ids=str)
def test_every_small_size_is_the_published_one(rule):
    """Prove that all pairs 1..600 come out as the published rule gives them."""
    heights, widths = all_pairs(range(1, 601))
    native = qp.smart_resize_many(heights, widths, **caps_of(rule))
    expected = published_rule_of_arrays(heights, widths, *rule)
    different = np.flatnonzero((native != expected).any(axis=1))
    assert [(heights[i], widths[i]) for i in different[:5]] == []
    # The statement in arrays is the one in plain Python.
    for i in range(0, len(heights), 997):
        size = (int(heights[i]), int(widths[i]))
        if is_above_ratio(*size):
            assert expected[i].tolist() == [0, 0]
        else:
            assert tuple(expected[i].tolist()) == published_rule(*size, *rule)


@pytest.mark.parametrize("rule", PUBLISHED, ids=str)
def test_a_grid_of_large_sizes_is_the_published_one(rule):
    """Prove the same where published caps shrink: pairs of every 19th side to 9,000."""
    heights, widths = all_pairs(range(5, 9_000, 19))
    native = qp.smart_resize_many(heights, widths, **caps_of(rule))
    expected = published_rule_of_arrays(heights, widths, *rule)
    different = np.flatnonzero((native != expected).any(axis=1))
    assert [(heights[i], widths[i]) for i in different[:5]] == []
    assert (native < np.stack([heights, widths], axis=1)).all(axis=1).any()
    for i in range(0, len(heights), 997):
        size = (int(heights[i]), int(widths[i]))
        if not is_above_ratio(*size):
            assert tuple(expected[i].tolist()) == published_rule(*size, *rule)


@settings(max_examples=300)
@given(size=sizes_up_to(100_000), rule=st.sampled_from(PUBLISHED))
@example(size=(720, 720), rule=(32, 65_536, 2_621_440))
@example(size=(29, 5615), rule=(28, 3_136, 1_003_520))
@example(size=(11, 98), rule=(28, 3_136, 1_003_520))
def test_server_is_the_published_rule(size, rule):
    """Prove that sides up to 100,000 come out as the published rule gives them."""
    assert qp.smart_resize(*size, **caps_of(rule)) == published_rule(*size, *rule)


@settings(max_examples=300)
@given(size=sizes_up_to(100_000), rule=own_rules())
def test_server_is_the_published_rule_for_caps_of_ones_own(size, rule):
    """Prove that drawn factors and caps change nothing about that."""
    assert qp.smart_resize(*size, **caps_of(rule)) == published_rule(*size, *rule)


@settings(max_examples=500)
@given(
    size=sizes_up_to(2**35),
    factor=st.integers(1, 2**16),
    caps=st.tuples(st.integers(1, 2**52), st.integers(1, 2**52)).map(sorted),
)
@example(size=(3_037_000_400, 3_037_000_400), factor=28, caps=[3_136, 1_003_520])
@example(size=(94_906_267, 94_906_267), factor=1, caps=[1, 3])  # just above 2^53
@example(size=(94_906_265, 94_906_265), factor=1, caps=[1, 3])  # just below
@example(size=(2_147_483_647, 2_147_483_649), factor=3, caps=[1, 2**52])
def test_server_is_exact_beyond_doubles(size, factor, caps):
    """Prove that products beyond 2^53 come out as Python's ints and division do."""
    height, width = size
    assume((height + factor) * (width + factor) < 2**63)
    rule = (factor, *caps)
    assert qp.smart_resize(*size, **caps_of(rule)) == published_rule(*size, *rule)


@settings(max_examples=300)
@given(height=st.integers(1, 2**62), width=st.integers(1, 2**62))
@example(height=1, width=200)
@example(height=1, width=201)
@example(height=2**40, width=200 * 2**40 + 1)
def test_ratio_above_200_is_refused(height, width):
    """Prove that a size is refused for its ratio exactly where it is above 200:1."""
    if (height + 28) * (width + 28) >= 2**63:
        with pytest.raises(ValueError, match="64 bits"):
            qp.smart_resize(height, width)
    elif max(height, width) > 200 * min(height, width):
        with pytest.raises(AspectRatioError):
            qp.smart_resize(height, width)
    else:
        assert max(qp.smart_resize(height, width)) >= 28


@pytest.mark.parametrize(
    ("side", "max_pixels", "expected"),
    [
        # Converting the area to a double first gives 64,433,040 and 52,864,223.
        (1_337_462_520, 4_151_616_643_641_600, 64_433_039),
        (1_711_383_415, 2_794_626_179_122_176, 52_864_224),
        # Forgetting the rest of the integer division gives one more.
        (1_574_014_899, 63_797_536_376_896, 7_987_335),
        (2_798_400_446, 3_782_701_792_490_929, 61_503_672),
    ],
)
def test_division_of_huge_areas_rounds_once(side, max_pixels, expected):
    """Prove sizes that differ where a quotient of huge areas is rounded twice."""
    rule = (1, 1, max_pixels)
    assert published_rule(side, side, *rule) == (expected, expected)
    assert qp.smart_resize(side, side, **caps_of(rule)) == (expected, expected)


@pytest.mark.parametrize("root", [2**13, 2**20 + 3, 2**25 + 1, 2**26 - 1, 2**26])
def test_strict_square_of_a_large_cap(root):
    """Prove that the root of a cap near a large square is not rounded up."""
    side = 3_000_000_000
    for cap, expected in ((root**2 - 1, root - 1), (root**2, root)):
        size = qp.smart_resize(
            side, side, factor=1, min_pixels=1, max_pixels=cap, rule="strict"
        )
        assert size == (expected, expected)


# The strict rule


@settings(max_examples=500)
@given(size=sizes_up_to(20_000), rule=own_rules())
@example(size=(15, 575), rule=(28, 3_136, 20 * 784))
@example(size=(100, 100), rule=(28, 1280 * 784, 1280 * 784))
@example(size=(10, 2000), rule=(28, 3_136, 4 * 784))
def test_strict_is_legal(size, rule):
    """Prove that strict gives multiples of the factor, never 0, never above the cap."""
    factor, _, max_pixels = rule
    height, width = qp.smart_resize(*size, rule="strict", **caps_of(rule))
    assert (height % factor, width % factor) == (0, 0)
    assert min(height, width) >= factor
    assert height * width <= max_pixels


@settings(max_examples=500)
@given(size=sizes_up_to(20_000), rule=own_rules())
def test_strict_is_server_where_server_is_legal(size, rule):
    """Prove that strict only departs from the server where the server's is illegal."""
    server = qp.smart_resize(*size, **caps_of(rule))
    strict = qp.smart_resize(*size, rule="strict", **caps_of(rule))
    is_legal = min(server) > 0 and server[0] * server[1] <= rule[2]
    assert (strict == server) == is_legal


@pytest.mark.parametrize("rule", PUBLISHED, ids=str)
def test_strict_is_server_for_published_caps(rule):
    """Prove that with published limits the two rules are one."""
    heights, widths = all_pairs(range(3, 6_000, 17))
    server = qp.smart_resize_many(heights, widths, **caps_of(rule))
    strict = qp.smart_resize_many(heights, widths, rule="strict", **caps_of(rule))
    assert np.array_equal(server, strict)


@settings(max_examples=300)
@given(
    size=sizes_up_to(5_000),
    factor=st.sampled_from([1, 14, 28, 32]),
    tokens=st.tuples(st.integers(1, 3000), st.integers(1, 3000)).map(sorted),
    minimum=st.integers(1, 3000),
)
def test_strict_area_never_falls_as_the_cap_rises(size, factor, tokens, minimum):
    """Prove that a larger cap never gives a smaller picture."""
    caps = [count * factor**2 for count in tokens]
    min_pixels = min(minimum * factor**2, caps[0])
    areas = [
        math.prod(
            qp.smart_resize(
                *size,
                factor=factor,
                min_pixels=min_pixels,
                max_pixels=cap,
                rule="strict",
            )
        )
        for cap in caps
    ]
    assert areas[0] <= areas[1]


@settings(max_examples=400)
@given(size=sizes_up_to(3_000), tokens=st.integers(1, 60), near=st.booleans())
@example(size=(15, 575), tokens=20, near=False)
@example(size=(100, 101), tokens=60, near=True)
def test_strict_is_the_largest_in_the_servers_box(size, tokens, near):
    """Prove by trying all that nothing larger fits the server's lifted box and cap."""
    height, width = size
    assume(height != width)
    caps = {"min_pixels": tokens * 784 if near else 1, "max_pixels": tokens * 784}
    server = qp.smart_resize(height, width, **caps)
    box = [max(side // 28, 1) for side in server]
    strict = [side // 28 for side in qp.smart_resize(*size, rule="strict", **caps)]
    largest = max(
        min(w, tokens // h) * h
        for h in range(1, min(box[0], tokens) + 1)
        for w in [box[1]]
    )
    assert strict[0] <= box[0]
    assert strict[1] <= box[1]
    assert strict[0] * strict[1] == largest


@given(side=st.integers(1, 5_000), tokens=st.integers(1, 5_000), near=st.booleans())
def test_strict_keeps_a_square_square(side, tokens, near):
    """Prove that a square becomes the largest square that the cap and the box hold."""
    caps = {"min_pixels": tokens * 784 if near else 1, "max_pixels": tokens * 784}
    server = qp.smart_resize(side, side, **caps)[0] // 28
    strict = qp.smart_resize(side, side, rule="strict", **caps)
    expected = min(max(server, 1), math.isqrt(tokens)) * 28
    assert strict == (expected, expected)


@settings(max_examples=300)
@given(
    size=sizes_up_to(50_000),
    rule=own_rules(),
    name=st.sampled_from(["server", "strict"]),
)
def test_turning_the_image_turns_the_size(size, rule, name):
    """Prove that height and width are treated alike by both rules."""
    lying = qp.smart_resize(*size, rule=name, **caps_of(rule))
    standing = qp.smart_resize(*size[::-1], rule=name, **caps_of(rule))
    assert standing == lying[::-1]


# Twice, many and at once


@pytest.mark.parametrize("rule", PUBLISHED, ids=str)
@pytest.mark.parametrize("sides", [range(1, 601), range(1, 9_000, 23)], ids=str)
def test_applying_published_caps_twice_changes_nothing(rule, sides):
    """Prove that the server's resize of a size on its own grid is the identity."""
    once = qp.smart_resize_many(*all_pairs(sides), **caps_of(rule))
    longest, shortest = once.max(axis=1), once.min(axis=1)
    # What became too long by resizing is refused the second time; see 29 × 5615.
    legal = once[(shortest > 0) & (longest <= 200 * shortest)]
    assert len(legal) > len(once) // 2
    twice = qp.smart_resize_many(legal[:, 0], legal[:, 1], **caps_of(rule))
    assert np.array_equal(twice, legal)


@settings(max_examples=100)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), max_size=8),
    rule=own_rules(),
    name=st.sampled_from(["server", "strict"]),
)
def test_many_are_each_one(sizes, rule, name):
    """Prove that the array call gives what the call for one size gives."""
    heights, widths = [h for h, _ in sizes], [w for _, w in sizes]
    rows = qp.smart_resize_many(heights, widths, rule=name, **caps_of(rule))
    assert rows.shape == (len(sizes), 2)
    for size, row in zip(sizes, rows.tolist(), strict=True):
        if is_above_ratio(*size):
            assert row == [0, 0]
        else:
            assert tuple(row) == qp.smart_resize(*size, rule=name, **caps_of(rule))


@settings(max_examples=100)
@given(size=sizes_up_to(30_000), model=st.sampled_from(qp.list_models()))
def test_counts_are_area_over_factor_squared_and_two(size, model):
    """Prove that the billed count is the resized area in squares and two markers."""
    resized = published_rule(*size, model.factor, model.min_pixels, model.max_pixels)
    expected = resized[0] * resized[1] // model.factor**2 + 2
    counts = qp.count_tokens_many([size[0]], [size[1]], model=model)
    assert counts.tolist() == [expected]


def test_threads_give_the_same():
    """Prove that four threads at once, without the GIL, give what one gives."""
    heights, widths = all_pairs(range(1, 1_200, 3))
    rules = [(rule, name) for rule in OWN for name in ("server", "strict")]
    alone = [
        qp.smart_resize_many(heights, widths, rule=name, **caps_of(rule))
        for rule, name in rules
    ]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(
                lambda job: qp.smart_resize_many(
                    heights, widths, rule=job[1], **caps_of(job[0])
                ),
                rules,
            )
        )
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
