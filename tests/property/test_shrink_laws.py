"""Laws of shrinking: the largest common scale, and nothing left that could be used."""

from __future__ import annotations

import bisect
import functools
import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep import ImageInfo, PlanOptions, get_model
from qwenvl_prep.errors import BudgetError, IllegalImageError
from qwenvl_prep.plan import lowered_plan, plan_image
from qwenvl_prep.sizes import least_tokens, tokens_under_caps

MAX = get_model("qwen-vl-max")
PLUS3 = get_model("qwen3-vl-plus").replace(max_images=None, max_data_uris=None)
MODELS = [MAX, PLUS3, get_model("qwen-vl-ocr-2025-11-20")]

sides = st.one_of(st.integers(1, 60), st.integers(60, 700), st.integers(700, 9_000))


@st.composite
def a_size(draw) -> tuple[int, int]:
    """Draw a size, thin as often as square."""
    height = draw(sides)
    width = draw(st.one_of(sides, st.integers(height, 200 * height)))
    if draw(st.booleans()):
        height, width = width, height
    assume(max(height, width) <= 200 * min(height, width))
    return height, width


@dataclass(frozen=True)
class Case:
    """Some images, and what they are held against."""

    sizes: list[tuple[int, int]]
    model: qp.ModelProfile
    weights: list[float] | None = None
    floor: int | list[int] | None = None

    def fit(self, room: int, order=None, **changes) -> qp.SizesFit:
        """Fit the sizes where billed image tokens are at most *room*."""
        order = range(len(self.sizes)) if order is None else order
        model = self.model.replace(
            max_input_tokens=room + 1 + self.model.template_tokens
        )
        values = {"weights": self.weights, "floor": self.floor, **changes}
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = [value[i] for i in order]
        return qp.fit_sizes(
            [self.sizes[i][0] for i in order],
            [self.sizes[i][1] for i in order],
            model=model,
            **values,
        )

    def natural(self) -> int:
        """Give the billed tokens where nothing is shrunk."""
        return sum(ladder(*size, self.model).natural for size in self.sizes) + (
            len(self.sizes) * self.model.marker_tokens
        )


@dataclass(frozen=True)
class Ladder:
    """The caps at which an image is billed more than at any cap below, and the bill."""

    caps: list[int]
    areas: list[int]
    natural: int

    def at(self, cap: int, floor: int) -> tuple[int, int]:
        """Give the step under a cap, or the lowest that keeps the floor."""
        if cap >= self.natural:
            return len(self.caps), self.natural
        step = bisect.bisect_right(self.caps, cap) - 1
        lowest = bisect.bisect_left(self.areas, floor)
        step = max(step, lowest)
        return step, self.area(step)

    def area(self, step: int) -> int:
        """Give what is billed on a step; behind the last one, nothing is shrunk."""
        return self.areas[step] if step < len(self.areas) else self.natural


@functools.cache
def ladder(height: int, width: int, model: qp.ModelProfile) -> Ladder:
    """Try every cap below what the image is billed without one."""
    natural = qp.count_tokens_many([height], [width], model=model)[0]
    natural = int(natural) - model.marker_tokens
    tried = np.arange(least_tokens(model), natural)
    sides = np.full_like(tried, height), np.full_like(tried, width)
    counts = tokens_under_caps(*sides, tried, model) - model.marker_tokens
    caps, areas = [], []
    for cap, area in zip(tried.tolist(), counts.tolist(), strict=True):
        if area <= cap and (not areas or area > areas[-1]):
            caps.append(cap)
            areas.append(area)
    return Ladder(caps, areas, natural)


def stated(case: Case, room: int) -> tuple[float, list[int]] | None:
    """Say it again: try every scale at which a cap changes; None where none fits."""
    ladders = [ladder(*size, case.model) for size in case.sizes]
    count = len(ladders)
    room -= count * case.model.marker_tokens
    weights = np.array(case.weights or [1.0] * count)
    shares = [
        float(w * one.natural)
        for w, one in zip(weights / weights.max(), ladders, strict=True)
    ]
    floor = case.floor or 0
    floors = floor if isinstance(floor, list) else [floor] * count

    def steps(scale: float) -> list[tuple[int, int]]:
        return [
            one.at(math.floor(scale * share), keep)
            for one, share, keep in zip(ladders, shares, floors, strict=True)
        ]

    def fits(scale: float) -> bool:
        return sum(area for _, area in steps(scale)) <= room

    if not fits(0.0):
        return None
    changes = {0.0}
    for one, share in zip(ladders, shares, strict=True):
        for cap in range(1, one.natural + 1):
            scale = cap / share
            # The quotient may be one off: the last before, and the first at the cap.
            while math.floor(scale * share) >= cap:
                scale = math.nextafter(scale, 0)
            changes |= {scale, math.nextafter(scale, math.inf)}
    best = max(filter(fits, changes))
    assert all(fits(scale) for scale in changes if scale < best), "not monotone"
    held = steps(best)
    left = room - sum(area for _, area in held)
    at = [step for step, _ in held]
    while True:
        able = [
            (one.area(step) / share, *size, -share, i)
            for i, (one, step, share, size) in enumerate(
                zip(ladders, at, shares, case.sizes, strict=True)
            )
            if step < len(one.caps) and one.area(step + 1) - one.area(step) <= left
        ]
        if not able:
            break
        first = min(able)[-1]
        left -= ladders[first].area(at[first] + 1) - ladders[first].area(at[first])
        at[first] += 1
    return best, [one.area(step) for one, step in zip(ladders, at, strict=True)]


@st.composite
def cases(draw, *, most_images=5, most_tokens=300) -> Case:
    """Draw images of which none is billed more than *most_tokens*."""
    model = draw(st.sampled_from(MODELS))
    model = model.replace(max_pixels=most_tokens * model.factor**2)
    sizes = draw(st.lists(a_size(), min_size=1, max_size=most_images))
    if draw(st.booleans()):
        sizes = sizes + sizes[:1]
    count = len(sizes)
    weight = st.sampled_from([0.1, 0.5, 1.0, 1.0, 2.0, 3.0, 7.0])
    one_floor = st.integers(0, most_tokens + 50)
    return Case(
        sizes,
        model,
        weights=draw(st.none() | st.lists(weight, min_size=count, max_size=count)),
        floor=draw(
            st.none() | one_floor | st.lists(one_floor, min_size=count, max_size=count)
        ),
    )


fractions = st.floats(0.02, 1.02)


@given(cases(), fractions)
@settings(max_examples=300)
@example(Case([(1280, 1280)] * 4, MAX), 0.5)
@example(Case([(29, 5_615), (1280, 1280)], MAX), 0.3)
@example(Case([(2_000, 2_500)] * 3, PLUS3), 0.1)
def test_scale_is_the_best_and_nothing_is_left(case, fraction):
    """Every scale at which anything changes is tried; no larger one fits."""
    room = int(case.natural() * fraction)
    expected = stated(case, room)
    if expected is None:
        with pytest.raises(BudgetError):
            case.fit(room)
        return
    made = case.fit(room)
    markers = case.model.marker_tokens
    scale, areas = expected
    assert (made.tokens - markers).tolist() == areas
    if made.image_tokens < case.natural():
        assert made.scale == scale
    else:
        # Nothing is shrunk, at this scale or by what the best one left.
        assert made.scale <= scale or sum(areas) + len(areas) * markers <= room


@given(cases(), fractions)
def test_caps_are_the_plans_own(case, fraction):
    """Planned under its cap, each image is legal, within it and billed as told."""
    room = int(case.natural() * fraction)
    try:
        made = case.fit(room)
    except BudgetError:
        return
    markers = case.model.marker_tokens
    assert made.image_tokens <= room
    assert made.remaining == room - made.image_tokens
    for size, cap, tokens in zip(
        case.sizes, made.caps.tolist(), made.tokens.tolist(), strict=True
    ):
        assert tokens - markers <= max(cap, ladder(*size, case.model).natural)
        if min(size) >= 11:
            image = planned(size, case.model, cap)
            assert image.tokens == tokens
            assert min(image.height, image.width) >= 11
            longest = max(image.height, image.width)
            assert longest <= 200 * min(image.height, image.width)


def planned(size, model, cap, **options) -> qp.ImagePlan:
    """Plan an image of which only the size matters."""
    header = ImageInfo("PNG", "image/png", *size, encoded_size=1_000)
    return plan_image(header, model, PlanOptions(max_tokens=cap, **options))


@given(a_size(), st.sampled_from(MODELS), st.integers(4, 3_000), st.booleans())
@settings(max_examples=500)
@example((476, 13), MAX, 10, False)
@example((15, 575), MAX, 20, False)
@example((75, 14_900), MAX, 530, False)
@example((29, 5_615), PLUS3, 80, False)
def test_counts_under_caps_are_the_plans(size, model, cap, is_high):
    """The array form counts what the plan does, and exceeds a cap where it refuses."""
    assume(min(size) >= 11)
    cap = max(cap, least_tokens(model))
    counted = tokens_under_caps(
        [size[0]], [size[1]], [cap], model, high_resolution=is_high
    )[0]
    try:
        expected = planned(size, model, cap, high_resolution=is_high).tokens
    except IllegalImageError as exc:
        expected = exc.findings[0].actual + model.marker_tokens
        assert expected - model.marker_tokens > cap
    assert counted == expected


@given(a_size(), st.sampled_from(qp.list_models()))
@settings(max_examples=200)
def test_tokens_never_fall_as_the_cap_rises(size, model):
    """What makes the best scale findable holds for every cap that is kept."""
    natural = int(qp.count_tokens_many([size[0]], [size[1]], model=model)[0])
    caps = np.arange(least_tokens(model), max(natural, least_tokens(model)) + 2)
    counts = tokens_under_caps(
        np.full_like(caps, size[0]), np.full_like(caps, size[1]), caps, model
    )
    kept = counts - model.marker_tokens <= caps
    # From the first cap that is kept, every later one is.
    assert not kept[:-1][kept[:-1] > kept[1:]].any()
    assert (np.diff(counts[kept]) >= 0).all()
    assert (counts[kept] <= natural).all()


@given(cases(), fractions)
def test_floors_are_kept(case, fraction):
    """No image has less than its floor, unless it never had as much."""
    try:
        made = case.fit(int(case.natural() * fraction))
    except BudgetError:
        return
    floor = case.floor or 0
    floors = floor if isinstance(floor, list) else [floor] * len(case.sizes)
    for size, keep, tokens in zip(case.sizes, floors, made.tokens, strict=True):
        natural = ladder(*size, case.model).natural
        assert tokens - case.model.marker_tokens >= min(keep, natural)


@given(cases(most_images=8), fractions, st.integers(0, 99))
def test_order_does_not_matter(case, fraction, seed):
    """Images in another order are given the same, but for exact doubles."""
    room = int(case.natural() * fraction)
    order = random.Random(seed).sample(range(len(case.sizes)), len(case.sizes))
    try:
        made = case.fit(room)
    except BudgetError:
        with pytest.raises(BudgetError):
            case.fit(room, order)
        return
    other = case.fit(room, order)
    assert other.scale == made.scale
    assert other.total == made.total
    if isinstance(case.floor, list):
        return  # equal images may differ in their floors
    told = [
        sorted(
            (case.sizes[i], (case.weights or [1] * len(order))[i], tokens)
            for i, tokens in zip(places, fitted.tokens.tolist(), strict=True)
        )
        for places, fitted in ((range(len(order)), made), (order, other))
    ]
    assert told[0] == told[1]


@given(cases(), fractions, st.sampled_from([0.125, 2.0, 3.0, 1024.0]))
def test_only_the_ratio_of_weights_counts(case, fraction, times):
    """Weights that are all larger by one factor change nothing."""
    weights = [float(round(16 * w)) for w in case.weights or [1.0] * len(case.sizes)]
    room = int(case.natural() * fraction)
    try:
        made = case.fit(room, weights=weights)
    except BudgetError:
        return
    other = case.fit(room, weights=[times * w for w in weights])
    assert other.scale == made.scale
    assert other.caps.tolist() == made.caps.tolist()


@given(cases(), fractions, st.integers(0, 200))
def test_more_room_never_lowers_the_scale(case, fraction, more):
    """A larger budget shrinks no more than a smaller one, and never fails instead."""
    room = int(case.natural() * fraction)
    try:
        made = case.fit(room)
    except BudgetError:
        return
    assert case.fit(room + more).scale >= made.scale


@given(a_size(), st.sampled_from(MODELS), st.data())
def test_lowered_plan_is_the_plan_under_that_cap(size, model, data):
    """Planning anew under a lower cap gives the same as lowering the plan."""
    assume(min(size) >= 11)
    before = planned(size, model, None)
    steps = ladder(*size, model).caps
    assume(steps)
    cap = data.draw(st.integers(steps[0], before.vision_tokens - 1))
    expected = planned(size, model, cap)
    assert lowered_plan(before, PlanOptions(max_tokens=cap)) == expected
