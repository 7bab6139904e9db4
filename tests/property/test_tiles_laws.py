"""Laws that every plan of tiles keeps, whatever the picture, model and budget."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from qwenvl_prep import Limits, get_model, list_models, merge_boxes
from qwenvl_prep.coordinates import Box
from qwenvl_prep.errors import LegibilityError
from qwenvl_prep.geometry import billed_tokens, smart_resize
from qwenvl_prep.headers import ImageInfo
from qwenvl_prep.sources import Source
from qwenvl_prep.tile_grid import GridRules, best_grid, least_length, starts
from qwenvl_prep.tiles import TilePlan, TileWishes, tile_plan

models = st.sampled_from(list_models())
sides = st.one_of(
    st.integers(11, 300), st.integers(300, 5_000), st.integers(5_000, 40_000)
)
overlaps = st.sampled_from([0, 1, 64, 96, 300])


def planned(height: int, width: int, model, orientation: int = 1, **asked) -> TilePlan:
    """Plan the tiles of a picture that is only a header."""
    info = ImageInfo(
        "PNG", "image/png", height, width, orientation=orientation, encoded_size=100
    )
    wanted = TileWishes.of(
        model,
        asked.pop("overlap", 96),
        asked.pop("min_scale", 0.75),
        asked.pop("max_tiles", 256),
        asked,
    )
    large = Limits(max_pixels=2**40, max_streamed_pixels=2**40, max_decoded_bytes=2**50)
    return tile_plan(info, wanted, Source(name="page.png"), large)


def attempt(*args, **asked) -> TilePlan:
    """Plan, and leave out what cannot be read within the budget."""
    try:
        return planned(*args, **asked)
    except LegibilityError:
        assume(False)
        raise


def assert_covers(plan: TilePlan) -> None:
    """The tiles of a grid cover every pixel, and neighbours overlap as asked."""
    height, width = plan.info.upright_height, plan.info.upright_width
    tops = sorted({tile.top for tile in plan.tiles})
    lefts = sorted({tile.left for tile in plan.tiles})
    assert (len(tops), len(lefts)) == (plan.rows, plan.columns)
    assert [(tile.top, tile.left) for tile in plan.tiles] == [
        (top, left) for top in tops for left in lefts
    ]
    assert len({(tile.height, tile.width) for tile in plan.tiles}) == 1
    first = plan.tiles[0]
    for found, length, whole in (
        (tops, first.height, height),
        (lefts, first.width, width),
    ):
        assert found[0] == 0
        assert found[-1] + length == whole
        for one, other in itertools.pairwise(found):
            assert one < other
            assert one + length - other >= plan.overlap


@settings(max_examples=300, deadline=None)
@given(sides, sides, models, overlaps, st.integers(1, 8), st.booleans())
@example(30_000, 1_080, get_model("qwen-vl-max"), 96, 1, False)
@example(2_300, 11, get_model("qwen-vl-max"), 96, 6, False)
@example(30_000, 40, get_model("qwen3-vl-plus"), 96, 1, True)
def test_tiles_cover_and_are_legal(height, width, model, overlap, orientation, is_high):
    """Every pixel is in a tile, and the server takes each tile and resizes none."""
    assume(height * width <= 60_000_000)
    assume(not is_high or model.high_resolution_pixels)
    plan = attempt(
        height,
        width,
        model,
        orientation,
        overlap=overlap,
        high_resolution=is_high,
        max_tiles=4_096,
    )
    assert_covers(plan)
    assert plan.tokens == sum(tile.tokens for tile in plan.tiles)
    cap = model.cap_pixels(high_resolution=is_high)
    for tile in plan.tiles:
        sent = tile.sent_height, tile.sent_width
        assert min(sent) >= model.min_side
        assert max(sent) <= model.max_ratio * min(sent)
        assert tile.tokens == billed_tokens(*sent, model, high_resolution=is_high)
        if plan.image is not None:
            continue
        seen = smart_resize(
            *sent, factor=model.factor, min_pixels=model.min_pixels, max_pixels=cap
        )
        # Where it is not on the grid, the pixels are the picture's own, and the
        # server only enlarges them.
        assert seen == sent or not tile.is_resized
        assert seen[0] >= sent[0]
        assert seen[1] >= sent[1]
        assert tile.scale >= 0.95


def vision_tokens(plan) -> int:
    """Give what a budget counts: the tokens without the markers of each tile."""
    return plan.tokens - len(plan.tiles) * plan.model.marker_tokens


@settings(max_examples=200, deadline=None)
@given(sides, sides, models, overlaps, st.integers(60, 60_000), st.floats(0.05, 1.0))
def test_budget_and_scale_are_kept(height, width, model, overlap, budget, min_scale):
    """What is planned fits the budget at the least scale; what is refused does not."""
    assume(height * width <= 60_000_000)
    asked = {"overlap": overlap, "min_scale": min_scale}
    refusal = None
    try:
        plan = planned(height, width, model, max_tokens=budget, **asked)
    except LegibilityError as exc:
        refusal = exc
    if refusal is not None:
        assert refusal.scale < min_scale
        assert refusal.limit == budget
        if refusal.needed is None:
            return
        assert refusal.needed > budget
        # What it says is needed is enough, and not less.
        enough = planned(height, width, model, max_tokens=refusal.needed, **asked)
        assert vision_tokens(enough) <= refusal.needed
        with pytest.raises(LegibilityError):
            planned(height, width, model, max_tokens=refusal.needed - 1, **asked)
        return
    assert vision_tokens(plan) <= budget
    assert plan.scale >= min(min_scale, 0.95)
    assert_covers(plan)


@settings(max_examples=100, deadline=None)
@given(sides, sides, models, st.integers(100, 60_000))
def test_a_larger_budget_never_shows_less(height, width, model, budget):
    """More tokens never lead to a smaller scale."""
    assume(height * width <= 60_000_000)
    rules = [
        GridRules(
            model=model,
            cap_pixels=model.max_pixels,
            overlap=64,
            max_tiles=256,
            max_tokens=tokens,
        )
        for tokens in (budget, budget + 777)
    ]
    less, more = (best_grid(height, width, one) for one in rules)
    if less is not None:
        assert more is not None
        assert more.scale >= less.scale


def fewest(length: int, factor: int, count: int) -> int:
    """Give the squares that show a tile's side in full, stated anew."""
    nearest = max(round(length / factor), 1)
    if count == 1 and nearest * factor >= 0.95 * length:
        return nearest
    return max(math.ceil(length / factor), 1)


def brute_force(height: int, width: int, rules: GridRules) -> tuple[float, int, int]:
    """Try every grid and every size of tile; give scale, -tiles, -tokens."""
    model, found = rules.model, []
    most = rules.cap_pixels // model.factor**2
    for rows in range(1, rules.max_tiles + 1):
        for columns in range(1, rules.max_tiles // rows + 1):
            if (rows > 1 and rules.overlap >= height) or (
                columns > 1 and rules.overlap >= width
            ):
                continue
            tall = least_length(height, rows, rules.overlap)
            wide = least_length(width, columns, rules.overlap)
            if (rows > 1 and tall < 11) or (columns > 1 and wide < 11):
                continue
            full = fewest(tall, model.factor, rows), fewest(wide, model.factor, columns)
            for down in range(1, full[0] + 1):
                for across in range(1, full[1] + 1):
                    tokens = rows * columns * (down * across + model.marker_tokens)
                    if (
                        down * across > most
                        or rows * columns * down * across
                        > (rules.max_tokens or math.inf)
                        or down * across * model.factor**2 < model.min_pixels
                        or max(down, across) > 200 * min(down, across)
                    ):
                        continue
                    scale = min(
                        1 if down == full[0] else down * model.factor / tall,
                        1 if across == full[1] else across * model.factor / wide,
                    )
                    found.append((scale, -rows * columns, -tokens))
    return max(found, default=(0.0, 0, 0))


@settings(max_examples=120, deadline=None)
@given(
    st.integers(11, 700),
    st.integers(11, 700),
    st.sampled_from([(28, 4), (32, 4), (32, 9)]),
    st.integers(9, 30),
    st.sampled_from([0, 20, 64]),
    st.integers(1, 12),
    st.one_of(st.none(), st.integers(6, 300)),
)
@example(700, 61, (28, 4), 9, 20, 12, 200)
@example(102, 129, (32, 9), 9, 0, 2, None)
def test_no_grid_shows_more(height, width, kind, cap, overlap, max_tiles, budget):
    """Of all grids and sizes, none shows more, nor as much in fewer tiles or tokens."""
    factor, least = kind
    model = get_model("qwen-vl-max").replace(
        factor=factor, min_pixels=least * factor**2, max_pixels=cap * factor**2
    )
    rules = GridRules(
        model=model,
        cap_pixels=model.max_pixels,
        overlap=overlap,
        max_tiles=max_tiles,
        max_tokens=budget,
    )
    grid = best_grid(height, width, rules)
    best = brute_force(height, width, rules)
    if grid is None:
        assert best == (0.0, 0, 0)
        return
    assert grid.scale == pytest.approx(best[0])
    assert grid.rows * grid.columns == -best[1]
    assert grid.tokens == -best[2]


@given(st.integers(1, 100_000), st.integers(1, 50), st.integers(0, 500))
def test_starts_leave_no_hole(length, count, overlap):
    """Tiles of the least length cover it, each overlapping the last by enough."""
    assume(overlap < length)
    tile = least_length(length, count, overlap)
    found = starts(length, tile, count)
    assert found[0] == 0
    assert found[-1] + tile >= length
    for one, other in itertools.pairwise(found):
        assert one + tile - other >= overlap


@settings(max_examples=100, deadline=None)
@given(
    sides,
    sides,
    models.filter(lambda model: model.boxes is not None),
    st.integers(1, 8),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.randoms(),
)
def test_boxes_come_back(height, width, model, orientation, corners, random):
    """A box in a tile is found again in the picture within half a pixel."""
    assume(height * width <= 60_000_000)
    plan = attempt(height, width, model, orientation)
    tile = random.choice(plan.tiles)
    box = (
        tile.left + corners[0] * tile.width,
        tile.top + corners[1] * tile.height,
        tile.left + corners[2] * tile.width,
        tile.top + corners[3] * tile.height,
    )
    sent = plan.to_sent(tile.index, box)
    assert plan.to_original(tile.index, sent) == pytest.approx(box, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9_800), st.integers(0, 700), st.integers(20, 200)),
        min_size=1,
        max_size=8,
    )
)
def test_things_seen_whole_or_in_parts_come_back_once(found):
    """What an exact model would answer gives each thing back, once and whole."""
    plan = planned(10_000, 1_000, get_model("qwen3-vl-plus"))
    things = {
        f"thing {number}": (left, top, left + side, top + side)
        for number, (top, left, side) in enumerate(found)
    }
    answers = []
    for tile in plan.tiles:
        bottom, right = tile.top + tile.height, tile.left + tile.width
        answers.append(
            [
                Box(label, plan.to_sent(tile.index, box))
                for label, box in things.items()
                if box[1] < bottom and box[3] > tile.top
                if box[0] < right and box[2] > tile.left
            ]
        )
    merged = {box.label: box.box for box in merge_boxes(plan, answers)}
    assert len(merged) == len(things)
    for label, box in merged.items():
        left, top, right, bottom = things[label]
        expected = (left, top, min(right, 1_000), min(bottom, 10_000))
        assert box == pytest.approx(expected, abs=1e-6)
