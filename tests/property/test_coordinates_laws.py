"""Laws of boxes: there and back again, in every turn, size and convention."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep import ImageInfo, PlanOptions
from qwenvl_prep.answers import parse_boxes
from qwenvl_prep.plan import plan_image

if TYPE_CHECKING:
    from qwenvl_prep.coordinates import CoordinateMap

SIDES = st.integers(11, 20_000)
CONVENTIONS = st.sampled_from(["absolute-resized", "relative-1000"])
FRACTIONS = st.floats(0, 1)


@st.composite
def maps(draw) -> CoordinateMap:
    """Draw the map of a whole picture or a tile, for any model."""
    height = draw(SIDES)
    width = draw(st.integers(max(11, -(-height // 200)), min(20_000, height * 200)))
    model = draw(st.sampled_from(qp.list_models()))
    info = ImageInfo(
        "PNG",
        "image/png",
        height,
        width,
        orientation=draw(st.integers(1, 8)),
        encoded_size=1000,
    )
    encoding = draw(st.sampled_from(["auto", "png", "keep"]))
    where = plan_image(info, model, PlanOptions(encoding=encoding)).coordinates()
    if encoding == "keep" or draw(st.booleans()):
        return where
    top, left = draw(st.integers(0, 5000)), draw(st.integers(0, 5000))
    plain = plan_image(
        ImageInfo("PNG", "image/png", where.height, where.width, encoded_size=1000),
        model,
        PlanOptions(),
    )
    return plain.coordinates().as_crop(
        top,
        left,
        original_height=top + where.height + draw(st.integers(0, 999)),
        original_width=left + where.width + draw(st.integers(0, 999)),
        orientation=draw(st.integers(1, 8)),
    )


@st.composite
def boxes_on(draw, where: CoordinateMap) -> tuple[float, float, float, float]:
    """Draw a box on the part of the original that was sent, upright."""
    xs = sorted(where.left + draw(FRACTIONS) * where.region_width for _ in range(2))
    ys = sorted(where.top + draw(FRACTIONS) * where.region_height for _ in range(2))
    return xs[0], ys[0], xs[1], ys[1]


@given(where=maps(), convention=CONVENTIONS, stored=st.booleans(), data=st.data())
def test_boxes_round_trip(where, convention, stored, data):
    """Prove that nothing is lost on the way but a float's last digits."""
    box = data.draw(boxes_on(where))
    if stored:
        sent = where.to_sent(box, convention=convention)
        box = where.to_original(sent, convention=convention, stored=True)
    how = {"convention": convention, "stored": stored}
    back = where.to_original(where.to_sent(box, **how), **how)
    assert np.abs(np.subtract(back, box)).max() < 1e-6


@given(where=maps(), convention=CONVENTIONS, data=st.data())
def test_whole_numbers_move_boxes_by_half_a_step(where, convention, data):
    """Prove that a model that answers in whole numbers errs by half of one at most."""
    box = data.draw(boxes_on(where))
    sent = [round(value) for value in where.to_sent(box, convention=convention)]
    back = where.to_original(sent, convention=convention)
    corners = where.to_sent(
        (0, 0, where.width, where.height), convention=convention, clamp=True
    )
    sides = [where.region_width, where.region_height] * 2
    steps = [corners[2] - corners[0], corners[3] - corners[1]] * 2
    if not where.is_seen_upright and where.orientation >= 5:
        steps = steps[1::-1] * 2
    for moved, side, step in zip(np.subtract(back, box), sides, steps, strict=True):
        assert abs(moved) <= 0.5 * side / step + 1e-6


@given(where=maps(), stored=st.booleans())
def test_the_corners_are_exact(where, stored):
    """Prove that 0 to 1000 is the whole of what was sent, to the last bit."""
    box = where.to_original((0, 0, 1000, 1000), convention="relative-1000")
    region = (
        where.left,
        where.top,
        where.left + where.region_width,
        where.top + where.region_height,
    )
    assert box == region
    how = {"convention": "absolute-resized", "stored": stored}
    seen = where.to_sent(where.to_original((0, 0, 10**6, 10**6), **how), **how)
    sides = where.seen_width, where.seen_height
    assert seen == (0, 0, *sides)


@given(
    where=maps(),
    convention=CONVENTIONS,
    box=st.tuples(*[st.floats(-1e6, 1e6)] * 4),
    stored=st.booleans(),
)
def test_clamping_twice_is_clamping_once(where, convention, box, stored):
    """Prove that what was clamped lies on the original and stays where it is."""
    how = {"convention": convention, "stored": stored}
    once = where.to_original(box, **how)
    sides = [where.width, where.height] * 2
    if stored and where.orientation >= 5:
        sides = [where.height, where.width] * 2
    assert all(0 <= value <= side for value, side in zip(once, sides, strict=True))
    twice = where.to_original(where.to_sent(once, **how), **how)
    assert np.abs(np.subtract(twice, once)).max() < 1e-6


@given(where=maps(), convention=CONVENTIONS, data=st.data())
def test_outward_loses_nothing(where, convention, data):
    """Prove that a crop by whole pixels holds the box and less than one pixel more."""
    box = data.draw(boxes_on(where))
    sent = where.to_sent(box, convention=convention)
    exact = where.to_original(sent, convention=convention)
    crop = where.to_original(sent, convention=convention, outward=True)
    assert all(isinstance(value, int) for value in crop)
    grown = np.subtract(exact, crop) * (1, 1, -1, -1)
    assert (grown >= -1e-5).all()
    assert (grown < 1 + 1e-5).all()


@given(where=maps(), convention=CONVENTIONS, data=st.data())
def test_arrays_are_boxes_one_by_one(where, convention, data):
    """Prove that an array gives the same floats as its rows."""
    boxes = data.draw(st.lists(boxes_on(where), min_size=1, max_size=5))
    for move in (where.to_sent, where.to_original):
        rows = move(np.array(boxes), convention=convention)
        assert rows.tolist() == [
            list(box) for box in move(boxes, convention=convention)
        ]


WORDS = ("bbox_2d", "label", "1", "1e9", "NaN", "(1,2)", '{"bbox_2d": [1,2,3,4]}')
TAGS = ("<box>", "</box>", "<ref>", "</ref>", "<|box_start|>", "<|box_end|>")
PIECES = st.lists(
    st.sampled_from([*"{}[]()\"'\\:,-. \n", *WORDS, *TAGS]), max_size=60
).map("".join)


@given(text=st.one_of(st.text(max_size=200), PIECES))
def test_no_reply_breaks_the_parser(text):
    """Prove that any text gives boxes of finite numbers, quickly."""
    begun = time.perf_counter()
    boxes = parse_boxes(text, on_broken="skip")
    assert time.perf_counter() - begun < 1
    for box in boxes:
        assert len(box.box) in {2, 4}
        assert np.isfinite(box.box).all()
