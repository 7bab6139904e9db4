"""Which size an image becomes: the published records, the traps, and the refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep.errors import AspectRatioError, ModelFeatureError
from qwenvl_prep.geometry import (
    MAX_RATIO,
    billed_tokens,
    billed_tokens_many,
    is_above_ratio,
    vision_tokens,
)

INT_TYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u2", ">i8"]


@pytest.mark.parametrize(
    ("model", "high_resolution", "size", "resized", "billed"),
    [
        ("qwen-vl-max", False, (512, 512), (504, 504), 326),
        ("qwen-vl-max", False, (1280, 1280), (980, 980), 1227),
        ("qwen-vl-max", True, (1280, 1280), (1288, 1288), 2118),
        ("qwen-vl-max", False, (1365, 2048), (812, 1204), 1249),
        ("qwen3-vl-plus", False, (1365, 2048), (1312, 1952), 2503),
    ],
)
def test_published_records_come_out(model, high_resolution, size, resized, billed):
    """Prove that every record of the provider comes out: size and billed tokens."""
    profile = qp.get_model(model)
    cap = profile.cap_pixels(high_resolution=high_resolution)
    given = qp.smart_resize(
        *size,
        factor=profile.factor,
        min_pixels=profile.min_pixels,
        max_pixels=cap,
    )
    assert given == resized
    assert billed_tokens(*size, profile, high_resolution=high_resolution) == billed
    assert vision_tokens(*size, profile, high_resolution=high_resolution) == billed - 2
    counts = qp.count_tokens_many(
        [size[0]], [size[1]], model=model, high_resolution=high_resolution
    )
    assert counts.tolist() == [billed]


@pytest.mark.parametrize(
    ("side", "factor", "expected"),
    [
        (720, 32, 704),  # 22.5
        (14, 28, 0),  # 0.5
        (42, 28, 56),  # 1.5
        (70, 28, 56),  # 2.5
        (98, 28, 112),  # 3.5
        (48, 32, 64),  # 1.5
        (80, 32, 64),  # 2.5
    ],
)
def test_ties_go_to_the_even_multiple(side, factor, expected):
    """Prove that half a factor is rounded to the even multiple, on either side."""
    caps = {"factor": factor, "min_pixels": 1, "max_pixels": 2**40}
    # The other side is long enough that no area is below the minimum.
    if expected:
        assert qp.smart_resize(side, factor * 100, **caps) == (expected, factor * 100)
        assert qp.smart_resize(factor * 100, side, **caps) == (factor * 100, expected)
    else:
        # A side of 0 has no area, so the image is enlarged until both are 1 factor.
        assert qp.smart_resize(side, side, **caps) == (factor, factor)
        assert qp.smart_resize(side, side + 14, **caps) == (factor, factor)


def test_a_legal_image_can_become_too_long():
    """Prove that 29 × 5615 (193.6:1) becomes 28 × 5628 (201:1), as is published."""
    assert qp.smart_resize(29, 5615) == (28, 5628)
    assert qp.smart_resize(5615, 29) == (5628, 28)
    assert not is_above_ratio(29, 5615)
    assert is_above_ratio(28, 5628)


@pytest.mark.parametrize(
    ("size", "min_pixels", "max_pixels", "server", "strict"),
    [
        # A small cap floors a side to 0.
        ((15, 575), 3_136, 20 * 784, (0, 756), (28, 560)),
        ((575, 15), 3_136, 20 * 784, (756, 0), (560, 28)),
        # A minimum near the cap enlarges beyond it: 1296 tokens of 1280, 36 × 36.
        ((100, 100), 1280 * 784, 1280 * 784, (1008, 1008), (980, 980)),
        # Where the server's choice is legal, both are the same.
        ((1280, 1280), 3_136, 1280 * 784, (980, 980), (980, 980)),
        ((2, 2), 3_136, 1280 * 784, (56, 56), (56, 56)),
    ],
)
def test_server_and_strict_rule(size, min_pixels, max_pixels, server, strict):
    """Prove what the two rules give where a cap of one's own makes them differ."""
    caps = {"min_pixels": min_pixels, "max_pixels": max_pixels}
    assert qp.smart_resize(*size, **caps) == server
    assert qp.smart_resize(*size, rule="server", **caps) == server
    assert qp.smart_resize(*size, rule="strict", **caps) == strict
    assert strict[0] * strict[1] <= max_pixels


def test_defaults_are_the_published_ones():
    """Prove that without options factor 28, 3,136 and 1,003,520 pixels hold."""
    given = qp.smart_resize(1365, 2048)
    assert given == (812, 1204)
    assert given == qp.smart_resize(
        1365, 2048, factor=28, min_pixels=3_136, max_pixels=1_003_520, rule="server"
    )
    assert qp.smart_resize(1, 1) == (56, 56)


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (11, 2200), (2200, 11)])
def test_200_to_1_is_allowed(size):
    """Prove that a ratio of exactly 200:1 has a size, lying and standing."""
    assert MAX_RATIO == 200
    assert not is_above_ratio(*size)
    assert min(qp.smart_resize(*size)) >= 28


@pytest.mark.parametrize("size", [(1, 201), (201, 1), (11, 2201), (2201, 11)])
def test_above_200_to_1_is_refused(size):
    """Prove that the least step above 200:1 is refused, with its numbers."""
    assert is_above_ratio(*size)
    with pytest.raises(AspectRatioError, match="Expected") as caught:
        qp.smart_resize(*size)
    assert (caught.value.height, caught.value.width) == size
    assert caught.value.limit == 200
    assert isinstance(caught.value, ValueError)


def test_ratio_of_huge_sides_does_not_wrap_around():
    """Prove that 200 times a side may leave 64 bits without changing the answer."""
    long_side = 2**61
    with pytest.raises(AspectRatioError):
        qp.smart_resize(1, long_side, factor=1, min_pixels=1, max_pixels=4)
    assert is_above_ratio(1, long_side)
    sizes = qp.smart_resize_many([1], [long_side], factor=1, min_pixels=1)
    assert sizes.tolist() == [[0, 0]]


BAD_INTS: list[Any] = [True, False, 5.0, float("nan"), float("inf"), "5", None, 5j]


@pytest.mark.parametrize("value", BAD_INTS, ids=repr)
@pytest.mark.parametrize(
    "name", ["height", "width", "factor", "min_pixels", "max_pixels"]
)
def test_what_is_no_int_is_refused(name, value):
    """Prove that a bool, float, NaN, string or None is refused for every number."""
    arguments: dict[str, Any] = {"height": 100, "width": 100, name: value}
    with pytest.raises(TypeError, match=f"Expected an int for {name} "):
        qp.smart_resize(**arguments)


@pytest.mark.parametrize("value", [np.float64(5), np.bool_(True)], ids=repr)
def test_numpy_scalars_that_are_no_ints_are_refused(value):
    """Prove that NumPy's floats and bools are refused like Python's."""
    with pytest.raises(TypeError, match="Expected an int for height "):
        qp.smart_resize(value, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 0}, "Expected at least 1 for height but received 0"),
        ({"width": 0}, "Expected at least 1 for width but received 0"),
        ({"height": -7}, "Expected at least 1 for height but received -7"),
        ({"width": -(2**70)}, "Expected at least 1 for width but received -"),
        ({"factor": 0}, "Expected 1 to 65536 for factor but received 0"),
        ({"factor": -28}, "Expected 1 to 65536 for factor but received -28"),
        ({"factor": 65_537}, "Expected 1 to 65536 for factor but received 65537"),
        ({"min_pixels": 0}, "Expected 1 <= min_pixels <= max_pixels"),
        ({"max_pixels": 0}, "Expected 1 <= min_pixels <= max_pixels"),
        ({"max_pixels": -1}, "Expected 1 <= min_pixels <= max_pixels"),
        ({"min_pixels": 101, "max_pixels": 100}, "but received 101 and 100"),
        ({"max_pixels": 2**52 + 1}, "max_pixels <= 4503599627370496 but"),
        ({"max_pixels": 2**70}, "max_pixels <= 4503599627370496 but"),
        ({"height": 2**32, "width": 2**32}, "Expected an area inside 64 bits"),
        ({"height": 2**63, "width": 1}, "Expected an area inside 64 bits"),
        ({"height": 2**64, "width": 2**64}, "Expected an area inside 64 bits"),
        ({"rule": "Strict"}, "Expected 'server' or 'strict' for rule but received"),
        ({"rule": ""}, "Expected 'server' or 'strict' for rule but received"),
        ({"rule": None}, "Expected 'server' or 'strict' for rule but received None"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    """Prove that each number out of its range is refused, naming it and the range."""
    arguments = {"height": 100, "width": 100, **arguments}
    with pytest.raises(ValueError, match="Expected") as caught:
        qp.smart_resize(**arguments)
    assert message in str(caught.value)


def test_unhashable_rule_is_refused_alike():
    """Prove that a rule of a wrong type is refused in the same words."""
    with pytest.raises((TypeError, ValueError), match="Expected 'server' or 'strict'"):
        qp.smart_resize(100, 100, rule=["strict"])  # type: ignore[arg-type]


def test_strict_needs_room_for_one_token():
    """Prove that strict refuses a cap below one square, and takes exactly one."""
    with pytest.raises(ValueError, match="Expected max_pixels of at least 784"):
        qp.smart_resize(50, 50, min_pixels=1, max_pixels=783, rule="strict")
    with pytest.raises(ValueError, match="Expected max_pixels of at least 784"):
        qp.smart_resize_many([50], [50], min_pixels=1, max_pixels=783, rule="strict")
    one = qp.smart_resize(50, 5000, min_pixels=1, max_pixels=784, rule="strict")
    assert one == (28, 28)


def test_largest_area_that_is_counted():
    """Prove that the last product inside 64 bits is taken and the next refused."""
    # (h + 1) * (w + 1) has to stay below 2^63.
    side = 3_037_000_498
    caps = {"factor": 1, "min_pixels": 1, "max_pixels": 100}
    assert qp.smart_resize(side, side, **caps) == (10, 10)
    with pytest.raises(ValueError, match="Expected an area inside 64 bits"):
        qp.smart_resize(side + 1, side + 1, **caps)
    assert qp.smart_resize_many([side], [side], **caps).tolist() == [[10, 10]]
    with pytest.raises(ValueError, match=r"area inside 64 bits .* at index 1"):
        qp.smart_resize_many([1, side + 1], [1, side + 1], **caps)


@pytest.mark.parametrize(
    "kind",
    [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64],
)
def test_numpy_ints_are_ints(kind):
    """Prove that NumPy's ints are taken and the answer is Python's ints."""
    size = qp.smart_resize(kind(100), kind(120), factor=kind(28))
    assert size == (112, 112)
    assert [type(side) for side in size] == [int, int]


# Arrays


@pytest.mark.parametrize("dtype", INT_TYPES)
def test_arrays_of_every_int_type(dtype):
    """Prove that every int type gives the same int64 rows."""
    heights = np.array([100, 50, 1], dtype)
    widths = np.array([120, 50, 127], dtype)
    sizes = qp.smart_resize_many(heights, widths)
    assert sizes.dtype == np.int64
    assert sizes.shape == (3, 2)
    assert sizes.tolist() == [[112, 112], [56, 56], [28, 644]]


def test_int_types_may_be_mixed():
    """Prove that heights and widths may have different int types."""
    sizes = qp.smart_resize_many(np.array([512], "u2"), np.array([512], "i8"))
    assert sizes.tolist() == [[504, 504]]


def test_lists_tuples_and_ranges():
    """Prove that plain sequences of ints are taken."""
    assert qp.smart_resize_many([512], (512,)).tolist() == [[504, 504]]
    assert qp.smart_resize_many(range(11, 13), range(11, 13)).tolist() == [
        [56, 56],
        [56, 56],
    ]


def test_arrays_that_are_not_contiguous():
    """Prove that columns, steps and reversed views are read where they lie."""
    table = np.array([[512, 512], [1280, 1280], [1365, 2048]])
    assert qp.smart_resize_many(table[:, 0], table[:, 1]).tolist() == [
        [504, 504],
        [980, 980],
        [812, 1204],
    ]
    assert qp.smart_resize_many(table[::-2, 0], table[::-2, 1]).tolist() == [
        [812, 1204],
        [504, 504],
    ]


def test_arrays_that_are_not_aligned_are_taken():
    """Prove that a column of packed records is taken: C reads only aligned int64."""
    records = np.array([(7, 512, 1280)], "u1, i8, i8")
    heights, widths = records["f1"], records["f2"]
    assert not heights.flags.aligned
    assert heights.flags.c_contiguous
    assert qp.smart_resize_many(heights, widths).tolist() == [[504, 1288]]
    assert qp.count_tokens_many(heights, widths).tolist() == [830]


def test_read_only_arrays_are_not_written():
    """Prove that read-only arrays are taken and inputs keep their values."""
    heights = np.array([512, 1280])
    heights.flags.writeable = False
    assert qp.smart_resize_many(heights, heights).tolist() == [[504, 504], [980, 980]]
    assert qp.count_tokens_many(heights, heights).tolist() == [326, 1227]
    assert heights.tolist() == [512, 1280]


@pytest.mark.parametrize(
    "empty", [[], (), np.empty(0, np.int64), np.empty(0, np.uint8)]
)
def test_no_sizes_give_no_rows(empty):
    """Prove that no sizes give an int64 array of shape (0, 2), and no counts."""
    sizes = qp.smart_resize_many(empty, empty)
    assert (sizes.shape, sizes.dtype) == ((0, 2), np.int64)
    counts = qp.count_tokens_many(empty, empty)
    assert (counts.shape, counts.dtype) == ((0,), np.int64)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0],
        [float("nan"), 1.0],
        [True, False],
        ["1", "2"],
        [None, 1],
        [2**64, 1],
        np.array([1, 2], "f4"),
        np.array([1, 2], bool),
        np.array([1, 2], "m8[s]"),
        np.array([1, 2], object),
    ],
    ids=repr,
)
def test_arrays_that_hold_no_ints_are_refused(values):
    """Prove that floats, bools, text and objects are refused on either side."""
    with pytest.raises(TypeError, match="Expected ints for heights "):
        qp.smart_resize_many(values, [1, 2])
    with pytest.raises(TypeError, match="Expected ints for widths "):
        qp.count_tokens_many([1, 2], values)


@pytest.mark.parametrize("dtype", ["u8", ">u8"])
def test_unsigned_ints_above_64_bits_are_refused(dtype):
    """Prove that a uint64 beyond int64 is refused, naming the true number."""
    large = np.array([1, 2**63], dtype)
    with pytest.raises(ValueError, match=r"Expected .*64 bits.* 9223372036854775808"):
        qp.smart_resize_many(large, [1, 1])
    with pytest.raises(ValueError, match=r"Expected .*64 bits.* 9223372036854775808"):
        qp.count_tokens_many([1, 1], large)


@pytest.mark.parametrize("shape", [(), (1, 1), (2, 2), (0, 2)])
def test_arrays_of_other_dimensions_are_refused(shape):
    """Prove that a number and a table are refused with their shape."""
    array = np.ones(shape, np.int64)
    with pytest.raises(ValueError, match="Expected one dimension for heights "):
        qp.smart_resize_many(array, [1])


def test_arrays_of_different_lengths_are_refused():
    """Prove that lengths that differ are refused, both named."""
    with pytest.raises(ValueError, match=r"Expected .* one length .* 2 and 3"):
        qp.smart_resize_many([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"Expected .* one length .* 0 and 1"):
        qp.count_tokens_many([], [1])


@pytest.mark.parametrize("bad", [0, -1, -(2**63), 2**63 - 1])
def test_a_bad_side_in_an_array_names_its_index(bad):
    """Prove that the first side out of range is named with its index and size."""
    message = rf"Expected sides .* {bad} × 9 at index 2$"
    with pytest.raises(ValueError, match=message):
        qp.smart_resize_many([5, 6, bad, 0], [7, 8, 9, 0])
    with pytest.raises(ValueError, match=message):
        qp.count_tokens_many([5, 6, bad, 0], [7, 8, 9, 0])
    with pytest.raises(ValueError, match=rf"9 × {bad} at index 0$"):
        qp.smart_resize_many([9], [bad])


def test_a_ratio_above_200_gives_zeros_and_hides_nothing():
    """Prove that too long an image gives (0, 0) and 0, and its neighbours theirs."""
    heights, widths = [512, 1, 201, 1, 1280], [512, 201, 1, 200, 1280]
    assert qp.smart_resize_many(heights, widths).tolist() == [
        [504, 504],
        [0, 0],
        [0, 0],
        [28, 812],
        [980, 980],
    ]
    counts = qp.count_tokens_many(heights, widths)
    assert counts.tolist() == [326, 0, 0, 31, 1227]
    assert counts.dtype == np.int64
    billed = billed_tokens_many(heights, widths, qp.get_model("qwen-vl-max"))
    assert billed.tolist() == [326, 0, 0, 31, 1227]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"factor": 0}, ValueError),
        ({"factor": 28.0}, TypeError),
        ({"min_pixels": True}, TypeError),
        ({"min_pixels": 5, "max_pixels": 4}, ValueError),
        ({"max_pixels": 2**63}, ValueError),
        ({"rule": "exact"}, ValueError),
    ],
    ids=repr,
)
def test_bad_caps_are_refused_for_arrays_too(arguments, error):
    """Prove that the caps of the array call are checked like those of one size."""
    with pytest.raises(error, match="Expected"):
        qp.smart_resize_many([100], [100], **arguments)
    with pytest.raises(error, match="Expected"):
        qp.smart_resize_many([], [], **arguments)


def test_arrays_take_the_strict_rule():
    """Prove that the rule reaches the array call."""
    caps = {"max_pixels": 20 * 784}
    assert qp.smart_resize_many([15], [575], **caps).tolist() == [[0, 756]]
    strict = qp.smart_resize_many([15], [575], rule="strict", **caps)
    assert strict.tolist() == [[28, 560]]


def test_counts_of_one_and_of_many_agree_on_a_side_of_zero():
    """Prove that a cap of one's own that floors a side to 0 is billed alike."""
    own = qp.get_model("qwen-vl-max").replace(max_pixels=20 * 784)
    assert vision_tokens(15, 575, own) == 0
    one = billed_tokens(15, 575, own)
    assert qp.count_tokens_many([15], [575], model=own).tolist() == [one]


def test_high_resolution_is_refused_where_there_is_none():
    """Prove that counting in high resolution is refused for a model without it."""
    model = qp.get_model("qwen-vl-plus")
    with pytest.raises(ModelFeatureError, match="Expected a model with"):
        billed_tokens(100, 100, model, high_resolution=True)
    with pytest.raises(ModelFeatureError, match="Expected a model with"):
        qp.count_tokens_many([100], [100], model=model, high_resolution=True)


@pytest.mark.parametrize("bad", [0, -1])
@pytest.mark.parametrize("index", [0, 7, 8, 30, 36])
def test_index_of_a_bad_side_is_told_among_many(index, bad):
    """Prove that one bad side among those that are taken together is still named."""
    heights, widths = np.full(37, 1280), np.full(37, 1280)
    widths[index] = bad
    for count in (qp.count_tokens_many, qp.smart_resize_many):
        with pytest.raises(ValueError, match=f"1280 × {bad} at index {index}$"):
            count(heights, widths)


def test_arrays_with_gaps_are_counted_as_they_stand():
    """Prove that every second side of an array, or one read backwards, is meant."""
    heights = np.array([512, -1, 1280, -1] * 10)[::2]
    widths = np.array([1280, 512] * 10)[::-1]
    assert qp.count_tokens_many(heights, widths).tolist() == [326, 1227] * 10
    assert qp.count_tokens_many(heights[:0], widths[:0]).tolist() == []
    assert qp.smart_resize_many(heights, widths)[:2].tolist() == [
        [504, 504],
        [980, 980],
    ]
