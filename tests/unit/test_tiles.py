"""Pictures that are cut: which tiles, which bytes, and whose boxes."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

import qwenvl_prep as qp
from qwenvl_prep.coordinates import Box
from qwenvl_prep.errors import (
    DecodeLimitError,
    IllegalImageError,
    LegibilityError,
    ModelFeatureError,
    UnknownModelError,
)

MODEL = "qwen3-vl-plus"


def png(image: Image.Image, **how) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **how)
    return out.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def cut_by_pillow(image: Image.Image, tile: qp.Tile) -> np.ndarray:
    """Give what Pillow makes of a tile."""
    part = image.crop(
        (tile.left, tile.top, tile.left + tile.width, tile.top + tile.height)
    )
    if tile.is_resized:
        size = (tile.sent_width, tile.sent_height)
        part = part.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(part.convert("RGB"))


@pytest.fixture(scope="module")
def page() -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """Draw a long page of numbered lines; with the box of each."""
    image = Image.new("RGB", (600, 20_000), "white")
    draw = ImageDraw.Draw(image)
    lines = []
    for number in range(20_000 // 25):
        place = (8, 25 * number + 4)
        text = f"{number:04d} the quick brown fox jumps over the lazy dog"
        draw.text(place, text, fill=(number % 250, 0, 80))
        lines.append(tuple(map(int, draw.textbbox(place, text))))
    return image, lines


@pytest.fixture(scope="module")
def noise() -> Image.Image:
    """Give a picture without two equal neighbours, larger than one image may be."""
    rng = np.random.default_rng(5)
    return Image.fromarray(rng.integers(0, 256, (924, 2_400, 3), np.uint8))


# ------------------------------------------------------------------ what is planned


def test_a_long_page_becomes_a_column():
    plan = qp.plan_tiles(np.zeros((30_000, 1_080), np.uint8), model=MODEL)
    assert (plan.rows, plan.columns, plan.scale) == (13, 1, 1.0)
    assert {(tile.height, tile.width) for tile in plan.tiles} == {(2_400, 1_080)}
    # 2400 lies on the grid of 32, and 1080 is left for the server to enlarge.
    assert plan.tokens == 13 * (75 * 34 + 2)
    assert plan.image is None
    assert repr(plan) == (
        "<TilePlan pixels: 13 tiles (13 × 1), 33,176 tokens, scale 1.00>"
    )
    assert repr(plan.tiles[1]) == (
        "<Tile 1: 2400x1080 at 2300, 0, sent 2400x1080, 2552 tokens>"
    )


def test_a_large_page_becomes_rows_and_columns():
    plan = qp.plan_tiles(np.zeros((9_933, 7_016), np.uint8), model=MODEL)
    assert plan.rows > 1
    assert plan.columns > 1
    assert plan.rows * plan.columns == len(plan.tiles)
    assert not any(tile.is_resized for tile in plan.tiles)


def test_what_needs_no_tiles_gets_one():
    picture = np.zeros((1_280, 1_280, 3), np.uint8)
    plan = qp.plan_tiles(picture, model=MODEL)
    assert plan.image == qp.plan(picture, model=MODEL)
    (tile,) = plan.tiles
    assert tile.crop == (0, 0, 1_280, 1_280)
    assert plan.tokens == plan.image.tokens
    assert repr(plan) == "<TilePlan pixels: 1 tile (1 × 1), 1,602 tokens, scale 1.00>"


def test_a_ratio_above_the_limit_becomes_legal():
    strip = np.zeros((100, 30_000), np.uint8)
    with pytest.raises(IllegalImageError, match=r"300\.0:1"):
        qp.plan(strip, model=MODEL)
    plan = qp.plan_tiles(strip, model=MODEL)
    assert plan.rows == 1
    assert plan.columns > 1
    assert all(
        qp.validate(tile.data, model=MODEL).is_legal
        for tile in qp.prepare_tiles(strip, model=MODEL)
    )


def test_a_budget_takes_the_scale_down_and_then_refuses():
    picture = np.zeros((20_000, 1_080), np.uint8)
    free = qp.plan_tiles(picture, model=MODEL)
    tight = qp.plan_tiles(picture, model=MODEL, max_tokens=16_000)
    assert free.tokens > 16_000 >= tight.tokens - 2 * len(tight.tiles)
    # The markers come on top, as for one image: exactly the vision tokens are enough.
    vision = free.tokens - 2 * len(free.tiles)
    assert qp.plan_tiles(picture, model=MODEL, max_tokens=vision) == (
        dataclasses.replace(
            free, options=dataclasses.replace(free.options, max_tokens=vision)
        )
    )
    less = qp.plan_tiles(picture, model=MODEL, max_tokens=vision - 1)
    assert less.tokens - 2 * len(less.tiles) < vision
    assert 0.75 <= tight.scale < 1
    with pytest.raises(LegibilityError, match=r"at 0\.75 of its size") as caught:
        qp.plan_tiles(picture, model=MODEL, max_tokens=9_000)
    refusal = caught.value
    assert refusal.limit == 9_000
    assert refusal.needed > 9_000
    assert 0.6 < refusal.scale < refusal.min_scale == 0.75
    lower = qp.plan_tiles(picture, model=MODEL, max_tokens=9_000, min_scale=0.6)
    assert lower.scale == pytest.approx(refusal.scale, abs=0.01)


def test_too_few_tiles_are_refused_with_the_way_out():
    picture = np.zeros((20_000, 1_080), np.uint8)
    with pytest.raises(LegibilityError, match="raise max_tiles") as caught:
        qp.plan_tiles(picture, model=MODEL, max_tiles=2)
    assert caught.value.needed is None
    with pytest.raises(LegibilityError, match="nothing fits") as caught:
        qp.plan_tiles(picture, model=MODEL, max_tokens=10)
    assert caught.value.scale == 0.0


def test_too_long_a_tile_is_shrunk_before_it_is_refused():
    """One tile of 200:1 shows 32 · 200 of these 6,836 rows' pixels."""
    strip = np.zeros((6_836, 21), np.uint8)
    (tile,) = qp.plan_tiles(strip, model=MODEL, max_tiles=1).tiles
    assert (tile.sent_height, tile.sent_width) == (6_400, 32)
    assert tile.scale == pytest.approx(6_400 / 6_836)
    with pytest.raises(LegibilityError, match="raise max_tiles") as caught:
        qp.plan_tiles(strip, model=MODEL, max_tiles=1, min_scale=0.95)
    assert caught.value.scale == pytest.approx(tile.scale)


def test_a_higher_cap_needs_fewer_tiles():
    picture = np.zeros((20_000, 1_080), np.uint8)
    usual = qp.plan_tiles(picture)
    high = qp.plan_tiles(picture, high_resolution=True)
    assert len(high.tiles) < len(usual.tiles)
    with pytest.raises(ModelFeatureError):
        qp.plan_tiles(picture, model="qwen-vl-plus", high_resolution=True)


def test_overlap_is_kept_and_costs():
    picture = np.zeros((20_000, 1_080), np.uint8)
    for overlap in (0, 96, 500):
        plan = qp.plan_tiles(picture, model=MODEL, overlap=overlap)
        for one, other in zip(plan.tiles, plan.tiles[1:], strict=False):
            assert one.top + one.height - other.top >= overlap
    assert (
        qp.plan_tiles(picture, model=MODEL, overlap=500).tokens
        > qp.plan_tiles(picture, model=MODEL, overlap=0).tokens
    )


def test_only_the_header_is_read(tmp_path):
    """A file of which only the head is there can be planned."""
    whole = png(Image.new("L", (1_000, 9_000)))
    path = tmp_path / "page.png"
    path.write_bytes(whole[:100])
    assert len(qp.plan_tiles(path, model=MODEL).tiles) > 1
    with pytest.raises(qp.errors.DamagedImageError):
        qp.prepare_tiles(path, model=MODEL)


def test_planning_loads_no_heavy_library(tmp_path):
    """A plan is arithmetic over a header."""
    path = tmp_path / "page.png"
    path.write_bytes(png(Image.new("L", (1_000, 9_000))))
    code = (
        f"import sys, qwenvl_prep\nplan = qwenvl_prep.plan_tiles({str(path)!r})\n"
        "plan.to_original(0, (0, 0, 9, 9), convention='relative-1000')\n"
        "print([x for x in ('numpy', 'PIL', 'pyvips', 'click') if x in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"overlap": -1}, ValueError, "at least 0 for overlap"),
        ({"overlap": 0.1}, TypeError, "an int for overlap"),
        ({"min_scale": 0}, ValueError, "above 0 and up to 1"),
        ({"min_scale": 1.1}, ValueError, "above 0 and up to 1"),
        ({"min_scale": True}, TypeError, "a number for min_scale"),
        ({"max_tiles": 0}, ValueError, "1 to 4096"),
        ({"max_tiles": 5_000}, ValueError, "1 to 4096"),
        ({"max_tokens": 0}, ValueError, "at least 1 for max_tokens"),
        ({"encoding": "keep"}, ValueError, "'keep'"),
        ({"colour": "srgb"}, TypeError, "colour"),
        ({"model": "qwen-nothing"}, UnknownModelError, "qwen-nothing"),
    ],
)
@pytest.mark.parametrize("do", [qp.plan_tiles, qp.prepare_tiles])
def test_mistakes_are_told_at_once(do, asked, error, words):
    with pytest.raises(error, match=words):
        do(np.zeros((5_000, 500), np.uint8), **asked)


def test_what_cutting_does_not_mend_is_refused():
    with pytest.raises(IllegalImageError, match="above 10 px") as caught:
        qp.plan_tiles(np.zeros((10, 9_000), np.uint8))
    codes = {finding.code for finding in caught.value.findings}
    assert codes == {"side-too-small", "aspect-ratio"}


def test_limits_hold():
    picture = np.zeros((5_000, 1_000), np.uint8)
    small = qp.Limits(max_pixels=4_000_000)
    for do in (qp.plan_tiles, qp.prepare_tiles):
        with pytest.raises(DecodeLimitError):
            do(picture, limits=small)


# ----------------------------------------------------------------- what is prepared


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("qwen-vl-max", {}),
        (MODEL, {}),
        (MODEL, {"max_tokens": 9_500}),
        ("qwen-vl-max", {"max_tokens": 9_000, "min_scale": 0.5, "overlap": 40}),
    ],
)
def test_every_line_of_a_page_is_whole_somewhere(page, model, asked):
    """No line is only seen in parts, and its pixels are Pillow's."""
    image, lines = page
    tiles = qp.prepare_tiles(image, model=model, encoding="png", **asked)
    assert len(tiles) > 1
    vision = sum(one.tokens - 2 for one in tiles)  # without the two markers
    assert vision <= asked.get("max_tokens", 10**9)
    for one in tiles:
        assert one.tile.scale >= asked.get("min_scale", 0.75)
        assert (one.height, one.width) == (one.tile.sent_height, one.tile.sent_width)
        assert qp.validate(one.data, model=model).findings == ()
        assert qp.count_tokens(one.data, model=model) == one.tokens
        assert np.array_equal(pixels_of(one.data), cut_by_pillow(image, one.tile))
    for left, top, right, bottom in lines:
        assert any(
            one.tile.top <= top
            and bottom <= one.tile.top + one.tile.height
            and one.tile.left <= left
            and right <= one.tile.left + one.tile.width
            for one in tiles
        )


def test_a_grid_of_columns_is_pillows_too(noise):
    tiles = qp.prepare_tiles(
        noise, encoding="png", max_tokens=2_500, min_scale=0.5, overlap=33
    )
    assert len({one.tile.left for one in tiles}) > 1
    for one in tiles:
        assert one.tile.is_resized
        assert np.array_equal(pixels_of(one.data), cut_by_pillow(noise, one.tile))


def test_a_file_is_turned_flattened_and_cut(noise):
    """Orientation, alpha and background are dealt with before cutting."""
    clear = noise.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(noise.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    tiles = qp.prepare_tiles(
        png(clear, exif=exif), encoding="png", background="#204060"
    )
    ground = Image.new("RGBA", noise.size, "#204060")
    flat = Image.alpha_composite(ground, clear).convert("RGB")
    upright = flat.transpose(Image.Transpose.ROTATE_270)
    assert len(tiles) > 1
    for one in tiles:
        expected = cut_by_pillow(upright, one.tile).astype(int)
        assert np.abs(pixels_of(one.data) - expected).max() <= 1
        assert one.original.orientation == 6
        assert one.changes[:2] == ("turned 90°", "flattened on #204060")
        assert one.changes[2].startswith(f"{one.tile.height}×{one.tile.width} cut out")
        assert one.changes[-1] == "encoded PNG"


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_other_kinds_of_pixels(noise, mode):
    image = noise.convert(mode)
    tiles = qp.prepare_tiles(image, encoding="png")
    whole = np.asarray(image.convert("RGB"))
    for one in tiles:
        top, left, height, width = one.crop
        assert not one.tile.is_resized
        part = whole[top : top + height, left : left + width]
        assert np.array_equal(pixels_of(one.data), part)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_files_are_cut_alike_however_they_are_read(noise, kind, mode):
    """Row by row where rows come one after another, as a whole elsewhere."""
    out = io.BytesIO()
    noise.convert(mode).save(out, kind)
    read = Image.open(io.BytesIO(out.getvalue())).convert("RGB")
    tiles = qp.prepare_tiles(out.getvalue(), encoding="png", overlap=40)
    assert len({one.tile.left for one in tiles}) > 1
    for one in tiles:
        assert np.array_equal(pixels_of(one.data), cut_by_pillow(read, one.tile))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_that_ends_early_is_refused_or_accepted(page, kind):
    out = io.BytesIO()
    page[0].save(out, kind)
    cut = out.getvalue()[: int(out.tell() * 0.9)]
    with pytest.raises(qp.errors.DamagedImageError):
        qp.prepare_tiles(cut, model=MODEL)
    tiles = qp.prepare_tiles(cut, model=MODEL, on_truncated="accept")
    assert tiles[0].changes[0].startswith("cut off")
    assert pixels_of(tiles[-1].data)[-100:].min() == 255


def test_what_is_read_in_rows_may_be_larger(page):
    """Nothing holds the whole of it, so the limit on whole pictures does not count."""
    small = qp.Limits(max_pixels=4_000_000)
    data = png(page[0])
    tiles = qp.prepare_tiles(data, model=MODEL, limits=small)
    assert [one.tile for one in tiles] == list(
        qp.plan_tiles(data, model=MODEL, limits=small).tiles
    )
    with pytest.raises(DecodeLimitError):
        qp.prepare_tiles(page[0], model=MODEL, limits=small)
    least = qp.Limits(max_streamed_pixels=4_000_000)
    with pytest.raises(DecodeLimitError):
        qp.plan_tiles(data, model=MODEL, limits=least)


def test_a_frame_of_several(tmp_path):
    path = tmp_path / "pages.tif"
    pages = [Image.new("L", (600, 5_000), level) for level in (10, 200)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    tiles = qp.prepare_tiles(path, frame=1, encoding="png")
    assert len(tiles) > 1
    assert {int(pixels_of(one.data).mean()) for one in tiles} == {200}
    assert tiles[0].changes[0] == "frame 1 of 2 pages, counted from 0"


def test_what_needs_no_tiles_is_prepared_as_ever():
    """Also its bytes are kept, where they can be."""
    data = png(Image.new("RGB", (1_280, 1_280), "white"))
    (one,) = qp.prepare_tiles(data, model=MODEL, max_tokens=5_000)
    assert one.data == data
    assert one.changes == ()
    assert one.tile.crop == (0, 0, 1_280, 1_280)


def test_one_tile_may_be_shrunk_by_the_budget(noise):
    (one,) = qp.prepare_tiles(
        noise, model=MODEL, encoding="png", max_tokens=1_400, min_scale=0.5
    )
    assert one.tokens - 2 <= 1_400
    assert one.changes[0].startswith("resized 924×2400 → ")
    assert np.array_equal(pixels_of(one.data), cut_by_pillow(noise, one.tile))


def test_a_binary_file_is_read_once(noise):
    file = io.BytesIO(png(noise))
    tiles = qp.prepare_tiles(file)
    assert [one.name for one in tiles] == [
        f"file [{number} of {len(tiles)}]" for number in range(1, len(tiles) + 1)
    ]
    assert repr(tiles[0]).startswith("<PreparedTile file [1 of ")


def test_tiles_go_where_images_go(noise):
    tiles = qp.prepare_tiles(noise)
    request = qp.fit(tiles, text="What is it?")
    assert request.image_tokens == qp.plan_tiles(noise).tokens
    made = qp.chat_request(tiles, text="What is it?")
    assert str(made).count("data:image/") == len(tiles)


def test_workers_change_nothing(noise):
    one, many = (qp.prepare_tiles(noise, workers=n) for n in (1, 4))
    assert [tile.data for tile in one] == [tile.data for tile in many]
    with pytest.raises(ValueError, match="at least 1 for workers"):
        qp.prepare_tiles(noise, workers=0)


def test_bytes_that_do_not_fit_shrink_a_tile_or_refuse_it(noise):
    """The plan's size is given up only as far as text stays readable."""
    asked = {"model": MODEL, "encoding": "jpeg", "overlap": 0}
    wide = noise.resize((5_000, 1_000))
    free = qp.prepare_tiles(wide, **asked)
    least = min(len(one.data_uri) for one in free)
    shrunk = qp.prepare_tiles(wide, max_bytes=least // 5, min_scale=0.1, **asked)
    assert len(shrunk) == len(free)
    for one in shrunk:
        assert len(one.data_uri) <= least // 5
        assert (one.height, one.width) == (one.tile.sent_height, one.tile.sent_width)
        assert one.tile.scale < 0.95
        assert one.tokens == one.tile.tokens == qp.count_tokens(one.data, model=MODEL)
    with pytest.raises(LegibilityError, match="raise max_bytes") as caught:
        qp.prepare_tiles(wide, max_bytes=least // 5, min_scale=0.95, **asked)
    assert caught.value.scale < 0.95


def test_a_report_is_made_for_each(noise):
    tiles = qp.prepare_tiles(noise, encoding="png", report=True)
    assert all(str(one.report.psnr) == "inf" for one in tiles)


# ------------------------------------------------------------------ boxes joined back


@pytest.fixture(scope="module")
def two() -> qp.TilePlan:
    """Plan two tiles, one above the other: rows 0 to 1568 and 1432 to 3000."""
    plan = qp.plan_tiles(np.zeros((3_000, 1_000), np.uint8), model=MODEL)
    assert [tile.crop for tile in plan.tiles] == [
        (0, 0, 1_568, 1_000),
        (1_432, 0, 1_568, 1_000),
    ]
    return plan


def answered(plan: qp.TilePlan, *found) -> list[list[Box]]:
    """Give what a model would answer for boxes on the picture, tile by tile."""
    return [
        [Box(label, plan.to_sent(index, box)) for label, *box in boxes]
        for index, boxes in enumerate(found)
    ]


def merged(plan: qp.TilePlan, *found, **how) -> list[tuple]:
    boxes = qp.merge_boxes(plan, answered(plan, *found), **how)
    return [(one.label, *(round(value, 6) for value in one.box)) for one in boxes]


def test_a_box_in_a_tile_lies_on_the_picture(two):
    assert two.to_original(0, (0, 0, 1_000, 1_000)) == (0, 0, 1_000, 1_568)
    assert two.to_original(1, (0, 0, 1_000, 1_000)) == (0, 1_432, 1_000, 3_000)
    assert two.to_sent(1, (500, 1_432, 1_000, 2_216)) == (500, 0, 1_000, 500)
    one, other = qp.prepare_tiles(
        np.zeros((3_000, 1_000), np.uint8), model=MODEL, workers=1
    )
    assert one.to_original((10, 10, 20, 20)) == two.to_original(0, (10, 10, 20, 20))
    assert other.to_sent((0, 1_432, 10, 3_000)) == (0, 0, 10, 1_000)


def test_absolute_boxes_count_in_what_the_server_sees():
    """A tile of 1080 columns is enlarged to 1092 by the server."""
    plan = qp.plan_tiles(np.zeros((5_000, 1_080), np.uint8))
    box = plan.to_original(1, (0, 0, 1_092, 28), convention="absolute-resized")
    tile = plan.tiles[1]
    assert not tile.is_resized
    assert box == pytest.approx((0, tile.top, 1_080, tile.top + 28))


def test_a_thing_seen_twice_comes_back_once(two):
    seen = ("cat", 100, 1_450, 300, 1_550)
    moved = ("cat", 102, 1_452, 302, 1_552)
    assert merged(two, [seen], [moved]) == [("cat", 100, 1_450, 302, 1_552)]


def test_a_thing_that_borders_cut_is_put_together(two):
    upper = ("cat", 100, 1_300, 300, 1_568)
    lower = ("cat", 100, 1_432, 300, 1_700)
    assert merged(two, [upper], [lower]) == [("cat", 100, 1_300, 300, 1_700)]


def test_a_part_joins_the_whole(two):
    """The lower tile sees only the feet of what the upper one shows whole."""
    whole = ("cat", 100, 1_300, 300, 1_500)
    feet = ("cat", 100, 1_432, 300, 1_500)
    assert merged(two, [whole], [feet]) == [whole]


def test_what_is_not_alike_stays_apart(two):
    cat, dog = ("cat", 100, 1_450, 300, 1_550), ("dog", 100, 1_450, 300, 1_550)
    beside = ("cat", 320, 1_450, 500, 1_550)
    above = ("cat", 100, 1_200, 300, 1_430)
    assert merged(two, [cat], [dog]) == [cat, dog]
    assert merged(two, [cat], [beside]) == [cat, beside]
    # Where it lies, the lower tile cannot have seen it.
    assert merged(two, [above], [cat]) == [above, cat]


def test_two_boxes_of_one_tile_never_become_one(two):
    one = ("row", 100, 1_450, 300, 1_550)
    near = ("row", 100, 1_455, 300, 1_555)
    assert merged(two, [one, near], []) == [one, near]
    # Each finds the partner that is most like it.
    assert merged(two, [one, near], [near, one]) == [one, near]
    assert merged(two, [one, near], [near]) == [one, near]


def test_the_threshold_decides(two):
    one = ("cat", 100, 1_450, 300, 1_550)
    half = ("cat", 100, 1_450, 240, 1_550)
    assert len(merged(two, [one], [half])) == 1
    assert len(merged(two, [one], [half], min_iou=0.8)) == 2


def test_a_thing_over_three_tiles():
    plan = qp.plan_tiles(
        np.zeros((3_000, 980), np.uint8), overlap=64, model="qwen-vl-max"
    )
    assert len(plan.tiles) > 3
    whole = (100, 500, 200, 2_500)
    how = {"convention": "relative-1000"}
    found = [
        [Box("column", plan.to_sent(tile.index, whole, **how))]
        if tile.top < 2_500 and tile.top + tile.height > 500
        else []
        for tile in plan.tiles
    ]
    (column,) = qp.merge_boxes(plan, found, **how)
    assert column.box == pytest.approx(whole)


def test_points_and_turned_corners(two):
    point = Box("tip", (10, 1_000))
    turned = Box("cat", two.to_sent(1, (300, 1_550, 100, 1_450)))
    straight = Box("cat", two.to_sent(0, (100, 1_450, 300, 1_550)))
    found = qp.merge_boxes(two, [[point, straight], [turned]])
    assert [one.label for one in found] == ["tip", "cat"]
    assert found[0].box == (10, 1_568)
    assert found[1].box == pytest.approx((100, 1_450, 300, 1_550))


def test_prepared_tiles_serve_as_well(two):
    tiles = qp.prepare_tiles(np.zeros((3_000, 1_000), np.uint8), model=MODEL)
    found = answered(two, [("cat", 0, 1_440, 9, 1_500)], [("cat", 0, 1_440, 9, 1_500)])
    assert qp.merge_boxes(tiles, found) == qp.merge_boxes(two, found)


def test_answers_that_do_not_belong_are_refused(two):
    with pytest.raises(ValueError, match="2 tiles but received 1 answer"):
        qp.merge_boxes(two, [[]])
    for wrong in ([[(1, 2, 3, 4)]] * 2, [None, []], None, [7, []], ["a", []]):
        with pytest.raises(TypeError, match="Expected"):
            qp.merge_boxes(two, wrong)
    with pytest.raises(TypeError, match="min_iou"):
        qp.merge_boxes(two, [[], []], min_iou="0.5")
    for threshold in (0, 1.5, True):
        with pytest.raises(ValueError, match="min_iou"):
            qp.merge_boxes(two, [[], []], min_iou=threshold)
