"""Boxes on their way between the model's numbers and the original image."""

from __future__ import annotations

import io
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.answers import parse_boxes
from qwenvl_prep.coordinates import Box, CoordinateMap
from qwenvl_prep.errors import UnreadableBoxesError

ABSOLUTE = qp.get_model("qwen-vl-max").replace(boxes="absolute-resized")
RELATIVE = qp.get_model("qwen3-vl-plus")
SILENT = qp.get_model("qwen-vl-max").replace(boxes=None)

# An original of 400 x 1000 (height x width) that is seen at 200 x 500.
HALF = CoordinateMap(
    height=400,
    width=1000,
    region_height=400,
    region_width=1000,
    seen_height=200,
    seen_width=500,
    convention="absolute-resized",
    model="some-model",
)


def turned(orientation: int, **more) -> CoordinateMap:
    """Give the map of a whole picture of 400 x 1000 upright, seen at its size."""
    return CoordinateMap(
        height=400,
        width=1000,
        orientation=orientation,
        region_height=400,
        region_width=1000,
        seen_height=400,
        seen_width=1000,
        convention="absolute-resized",
        **more,
    )


# ------------------------------------------------------------------ conventions


def test_absolute_boxes_are_scaled_edge_to_edge():
    """Pixels of the resized picture become pixels of the original, without a shift."""
    assert HALF.to_original((10, 20, 30.25, 200)) == (20, 40, 60.5, 400)
    assert HALF.to_sent((20, 40, 60.5, 400)) == (10, 20, 30.25, 200)


def test_relative_boxes_do_not_depend_on_the_resized_size():
    """0 to 1000 means the whole side."""
    box = HALF.to_original((0, 500, 250, 1000), convention="relative-1000")
    assert box == (0, 200, 250, 400)
    assert HALF.to_sent(box, convention="relative-1000") == (0, 500, 250, 1000)


@pytest.mark.parametrize("model", [ABSOLUTE, RELATIVE], ids=lambda one: one.name)
def test_the_profile_says_the_convention(model):
    """Without a word, boxes are read as the model's family answers."""
    plan = qp.plan(np.zeros((600, 800, 3), np.uint8), model=model)
    where = plan.coordinates()
    assert where.convention == model.boxes
    corner = (where.seen_width, where.seen_height)
    if model is RELATIVE:
        corner = (1000, 1000)
    assert plan.to_original((0, 0, *corner)) == (0, 0, 800, 600)
    assert plan.to_sent((0, 0, 800, 600)) == (0, 0, *corner)


def test_an_unknown_convention_has_to_be_told():
    """Where nobody knows how a model answers, guessing would move the boxes."""
    plan = qp.plan(np.zeros((600, 800, 3), np.uint8), model=SILENT)
    with pytest.raises(ValueError, match="not known how qwen-vl-max answers boxes"):
        plan.to_original((0, 0, 1, 1))
    box = plan.to_original((0, 0, 1000, 1000), convention="relative-1000")
    assert box == (0, 0, 800, 600)
    with pytest.raises(ValueError, match="'absolute-resized' for convention but"):
        plan.to_original((0, 0, 1, 1), convention="pixels")


def test_kept_bytes_are_seen_as_the_server_resizes_them():
    """What is sent off the grid is measured on the grid, where the model sees it."""
    file = io.BytesIO()
    Image.new("RGB", (150, 100)).save(file, "PNG")
    image = qp.prepare(file.getvalue(), model=ABSOLUTE)
    assert image.plan.is_kept
    assert (image.height, image.width) == (100, 150)
    where = image.plan.coordinates()
    assert (where.seen_height, where.seen_width) == (112, 140)
    assert image.to_original((70, 56, 140, 112)) == (75, 50, 150, 100)
    assert image.to_sent((75, 50, 150, 100)) == (70, 56, 140, 112)


def test_high_resolution_is_seen_larger():
    """The cap of the request decides at which size the model measures."""
    picture = np.zeros((2800, 2800), np.uint8)
    sizes = [
        qp.plan(picture, model=ABSOLUTE, high_resolution=high).coordinates().seen_height
        for high in (False, True)
    ]
    assert sizes == [980, 2800]


# --------------------------------------------------------------------- the turn

# Where the upper left pixel of 400 x 1000 upright lies on the stored axes (x, y).
STORED_CORNER = {
    1: (0, 0, 1, 1),
    2: (999, 0, 1000, 1),
    3: (999, 399, 1000, 400),
    4: (0, 399, 1, 400),
    5: (0, 0, 1, 1),
    6: (0, 999, 1, 1000),
    7: (399, 999, 400, 1000),
    8: (399, 0, 400, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_axes(orientation):
    """Both ways, and upright by default."""
    where = turned(orientation)
    corner = (0, 0, 1, 1)
    assert where.to_original(corner) == corner
    stored = where.to_original(corner, stored=True)
    assert stored == STORED_CORNER[orientation]
    assert where.to_sent(stored, stored=True) == corner


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turn_is_that_of_the_pixels(orientation):
    """A pixel marked in the stored picture is where Pillow's own turn puts it."""
    from PIL import ImageOps

    stored = np.zeros((40, 100) if orientation < 5 else (100, 40), np.uint8)
    stored[7, 30] = 255
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    row, column = map(int, np.argwhere(upright)[0])
    where = qp.plan(image, model=RELATIVE).coordinates()
    assert (where.height, where.width) == upright.shape == (40, 100)
    sent = where.to_sent((30, 7, 31, 8), stored=True)
    found = where.to_original(sent)
    assert np.allclose(found, (column, row, column + 1, row + 1))
    assert np.allclose(where.to_original(sent, stored=True), (30, 7, 31, 8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_kept_bytes_are_not_turned_for_the_model(orientation):
    """With encoding="keep" the API sees the stored axes; the person does not."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (280, 112)).save(file, "PNG", exif=exif)
    plan = qp.plan(file.getvalue(), model=ABSOLUTE, encoding="keep")
    box = (28, 14, 56, 42)
    assert plan.to_original(box, stored=True) == box
    upright = plan.to_original(box)
    assert plan.to_sent(upright) == box
    turned_plan = qp.plan(file.getvalue(), model=ABSOLUTE, encoding="png")
    assert np.allclose(turned_plan.to_original(box), box)
    again = turned_plan.to_original(turned_plan.to_sent(upright), stored=True)
    assert np.allclose(again, box)


# ------------------------------------------------------------------------ crops


def test_a_crop_is_moved_to_its_place():
    """A tile's boxes lie on the whole picture, and cannot leave the tile."""
    tile = qp.plan(np.zeros((280, 560), np.uint8), model=ABSOLUTE).coordinates()
    where = tile.as_crop(100, 40, original_height=2000, original_width=600)
    assert (
        repr(where) == "<CoordinateMap 280x560 seen of 280x560 at 100,40 of 2000x600>"
    )
    assert where.to_original((0, 0, 560, 280)) == (40, 100, 600, 380)
    assert where.to_original((-5, 5, 700, 300)) == (40, 105, 600, 380)
    assert where.to_original((-5, 5, 0, 9), clamp=False) == (35, 105, 40, 109)
    assert where.to_sent((40, 100, 600, 380)) == (0, 0, 560, 280)
    assert where.to_sent((0, 0, 600, 2000)) == (0, 0, 560, 280)


def test_a_resized_crop_of_a_turned_picture():
    """The cut may have been resized, and its original stored on other axes."""
    tile = qp.plan(np.zeros((280, 560), np.uint8), model=ABSOLUTE).coordinates()
    where = tile.as_crop(
        100,
        40,
        height=140,
        width=280,
        original_height=2000,
        original_width=600,
        orientation=6,
    )
    assert where.to_original((0, 0, 560, 280)) == (40, 100, 320, 240)
    stored = where.to_original((0, 0, 560, 280), stored=True)
    assert stored == (100, 600 - 320, 240, 600 - 40)
    assert where.to_sent(stored, stored=True) == (0, 0, 560, 280)


@pytest.mark.parametrize(
    ("top", "left", "height"), [(-1, 0, 28), (0, 30, 28), (0, 0, 0), (40, 0, 28)]
)
def test_a_crop_lies_inside(top, left, height):
    """An offset that does not fit is a mistake in the call."""
    tile = qp.plan(np.zeros((28, 28), np.uint8)).coordinates()
    with pytest.raises(ValueError, match="Expected a cut inside a"):
        tile.as_crop(top, left, height=height, original_height=50, original_width=50)


def test_a_crop_of_a_crop_is_refused():
    """Offsets are those of the original; a second place would lose the first."""
    tile = qp.plan(np.zeros((28, 28), np.uint8)).coordinates()
    placed = tile.as_crop(1, 1, original_height=50, original_width=50)
    with pytest.raises(ValueError, match="whole and upright"):
        placed.as_crop(1, 1, original_height=50, original_width=50)
    with pytest.raises(ValueError, match=r"orientation of 1\.\.8"):
        tile.as_crop(0, 0, original_height=50, original_width=50, orientation=9)
    with pytest.raises(TypeError, match="Expected an int for offset"):
        tile.as_crop(0.5, 0, original_height=50, original_width=50)


# ------------------------------------------------------------------------ forms


def test_points_lists_and_labelled_boxes():
    """Everything comes back in the form in which it came."""
    assert HALF.to_original((10, 20)) == (20, 40)
    assert HALF.to_original([10, 20, 30, 40]) == (20, 40, 60, 80)
    assert HALF.to_original([(1, 2), [3, 4]]) == [(2, 4), (6, 8)]
    assert HALF.to_original([]) == []
    cat = Box("cat", (1.0, 2.0, 3.0, 4.0))
    assert HALF.to_original((cat,)) == [Box("cat", (2.0, 4.0, 6.0, 8.0))]
    numbers = tuple(np.float32([1, 2, 3, 4]))
    assert HALF.to_original(numbers) == (2, 4, 6, 8)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_arrays(dtype):
    """A column of boxes is mapped at once, to float64, and is not written to."""
    boxes = np.array([[1, 2, 3, 4], [500, 200, 900, -7]], dtype)
    before = boxes.copy()
    mapped = HALF.to_original(boxes)
    assert mapped.dtype == np.float64
    assert mapped.tolist() == [[2, 4, 6, 8], [1000, 400, 1000, 0]]
    assert np.array_equal(boxes, before)
    assert HALF.to_original(boxes[0]).tolist() == [2, 4, 6, 8]
    assert HALF.to_original(boxes[:, :2]).tolist() == [[2, 4], [1000, 400]]
    assert HALF.to_original(np.empty((0, 4))).shape == (0, 4)
    one_by_one = [HALF.to_original(row.tolist()) for row in boxes]
    assert np.array_equal(mapped, one_by_one)


@pytest.mark.parametrize(
    "boxes",
    [
        (1, 2, 3),
        (1, 2, 3, 4, 5),
        (1, 2, 3, math.nan),
        (1, math.inf),
        np.zeros((2, 3)),
        np.array([1.0, np.nan]),
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(boxes):
    """Three numbers are no box, and infinity lies in no picture."""
    with pytest.raises(ValueError, match="Expected"):
        HALF.to_original(boxes)


@pytest.mark.parametrize(
    "boxes",
    [
        "1,2,3,4",
        None,
        7,
        (1, 2, "3", 4),
        (1, 2, True, 4),
        np.array(["a", "b"]),
        np.zeros((1, 2, 4)),
        {"bbox_2d": [1, 2, 3, 4]},
    ],
    ids=str,
)
def test_no_boxes_are_refused(boxes):
    """What is no box is a mistake in the call."""
    with pytest.raises(TypeError, match="Expected"):
        HALF.to_original(boxes)


def test_outward_keeps_every_touched_pixel():
    """Whole pixels for a crop: down at the low corner, up at the high one."""
    where = turned(1)
    assert where.to_original((1.2, 2.9, 3.1, 4.0), outward=True) == (1, 2, 4, 4)
    assert where.to_original((3.1, 4.0, 1.2, 2.9), outward=True) == (1, 2, 4, 4)
    boxes = where.to_original(np.array([[1.2, 2.9, 3.1, 4.0]]), outward=True)
    assert boxes.dtype == np.int64
    assert boxes.tolist() == [[1, 2, 4, 4]]
    third = where.to_sent((100, 100, 200, 200), convention="relative-1000")
    # 100 · 1000 / 400 and back need not be 100 in floats.
    back = where.to_original(third, convention="relative-1000", outward=True)
    assert back == (100, 100, 200, 200)
    with pytest.raises(ValueError, match="4 numbers of a box but"):
        where.to_original((1, 2), outward=True)


def test_clamping_is_on_unless_switched_off():
    """A model's box that leaves the picture is moved onto its edge."""
    assert HALF.to_original((-9, -9, 600, 300)) == (0, 0, 1000, 400)
    assert HALF.to_original((-9, 0, 600, 300), clamp=False) == (-18, 0, 1200, 600)
    assert HALF.to_sent((-9, 0, 2000, 400)) == (0, 0, 500, 200)
    assert HALF.to_sent((-9, 0, 2000, 400), clamp=False) == (-4.5, 0, 1000, 200)


def test_clamped_coordinates_are_floats():
    """What lies on the edge is no other kind of number than the rest."""
    for where in (HALF, turned(6), turned(3)):
        for moved in (
            where.to_original((-9, -9, 6000, 6000)),
            where.to_sent((-9, -9, 6000, 6000)),
            where.to_original((-9, 6000), stored=True),
        ):
            assert set(map(type, moved)) == {float}


ITSELF: list = []
ITSELF.append(ITSELF)
DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("boxes", "how"),
    [
        ((10**400, 1, 2, 3), {}),
        ((10**6000, 1, 2, 3), {}),
        (ITSELF, {}),
        (DEEP, {}),
        ((1.7e308, 1, 2, 3), {"clamp": False}),
        ((1.7e308, 1, 2, 3), {"clamp": False, "outward": True}),
        ((1e300, 1, 2, 3), {"clamp": False, "outward": True}),
        (np.array([[1.7e308, 1, 2, 3]]), {"clamp": False}),
        (np.array([[1e300, 1, 2, 3]]), {"clamp": False, "outward": True}),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_no_number_holds_is_refused(boxes, how, orientation):
    """Numbers beyond floats and lists without an end are told in our words."""
    where = replace(turned(orientation), seen_height=7, seen_width=7)
    with pytest.raises(ValueError, match="Expected"):
        where.to_original(boxes, **how)


def test_far_numbers_are_clamped():
    """Where everything is moved onto the edge, no size is too large."""
    far = (-1.7e308, 0, 1.7e308, 1e300)
    assert HALF.to_original(far) == (0, 0, 1000, 400)
    assert HALF.to_original(np.array([far])).tolist() == [[0, 0, 1000, 400]]
    assert HALF.to_sent(np.array([far])).tolist() == [[0, 0, 500, 200]]
    assert HALF.to_original(far, outward=True) == (0, 0, 1000, 400)


@pytest.mark.parametrize(
    "inside", [Box("", (1, 2)), [(1, 2, 3, 4)], (), None, np.zeros((1, 4))], ids=str
)
def test_a_box_holds_one_box(inside):
    """What a Box holds is the numbers of one, not a list of more."""
    with pytest.raises(TypeError, match="in a Box but received"):
        HALF.to_original([Box("cat", inside)])


def test_small_integers_of_numpy_place_a_crop():
    """Sums of eight bits do not overflow."""
    where = HALF.as_crop(
        np.uint8(200),
        np.uint8(0),
        height=3000,
        width=np.uint16(1000),
        original_height=np.int32(3200),
        original_width=1000,
    )
    assert where.to_original((0, 0, 500, 200)) == (0.0, 200.0, 1000.0, 3200.0)
    with pytest.raises(ValueError, match="height of at most"):
        HALF.as_crop(0, 0, original_height=10**400, original_width=1000)


def test_corners_keep_their_order():
    """A wrong answer is not silently made a right one."""
    assert HALF.to_original((30, 40, 10, 20)) == (60, 80, 20, 40)


# ------------------------------------------------------------------ from a picture

EDGES = (0.31, 0.22, 0.68, 0.57)  # x1, y1, x2, y2 of the rectangle, of its sides


def drawn(height: int, width: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Draw a red rectangle on grey, and tell where, upright."""
    picture = np.full((height, width, 3), 200, np.uint8)
    x1, x2 = (round(EDGES[i] * width) for i in (0, 2))
    y1, y2 = (round(EDGES[i] * height) for i in (1, 3))
    picture[y1:y2, x1:x2] = (255, 0, 0)
    return picture, (x1, y1, x2, y2)


def seen_by_the_model(image: qp.PreparedImage) -> np.ndarray:
    """Decode what is sent, and resize it as the server does."""
    sent = Image.open(io.BytesIO(image.data)).convert("RGB")
    model = image.plan.model
    height, width = qp.smart_resize(
        sent.height,
        sent.width,
        factor=model.factor,
        min_pixels=model.min_pixels,
        max_pixels=model.max_pixels,
    )
    return np.asarray(sent.resize((width, height), Image.Resampling.BICUBIC))


def found_in(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Find the rectangle as a detector would: whole pixels that are mostly red."""
    rows, columns = np.nonzero(pixels[:, :, 1] < 100)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


STORE = {  # upright -> stored, so that the tag turns it back
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 3),
}


@pytest.mark.parametrize("convention", ["absolute-resized", "relative-1000"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("height", "width", "options"),
    [
        (900, 1300, {}),  # shrunk here
        (90, 131, {}),  # kept where upright, and enlarged by the server
        (61, 40, {"encoding": "jpeg"}),
        (900, 1300, {"max_tokens": 60}),
        (300, 2000, {"encoding": "keep"}),  # turned by nobody
    ],
    ids=["large", "small", "tiny jpeg", "few tokens", "keep"],
)
def test_a_drawn_rectangle_comes_back(height, width, options, orientation, convention):
    """What is found in the model's picture lies where it was drawn.

    Half a pixel of the model's picture is what a detector of whole pixels can err,
    and a tenth more is what blurring moves.
    """
    picture, box = drawn(height, width)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(STORE[orientation](picture))).save(
        file, "PNG", exif=exif
    )
    image = qp.prepare(file.getvalue(), model=ABSOLUTE, **options)
    pixels = seen_by_the_model(image)
    answer = found_in(pixels)
    if convention == "relative-1000":
        answer = np.array(answer) * 1000 / np.tile(pixels.shape[1::-1], 2)
        answer = tuple(answer.tolist())
    back = image.to_original(answer, convention=convention)
    sides = sorted(pixels.shape[:2]), sorted((height, width))
    scale = max(sides[1][0] / sides[0][0], sides[1][1] / sides[0][1])
    assert np.abs(np.subtract(back, box)).max() <= 0.6 * scale
    again = image.to_sent(back, convention=convention)
    assert np.allclose(again, answer, atol=1e-6)


# ---------------------------------------------------------------------- replies

FENCED = """Here they are:
```json
[
\t{"bbox_2d": [341, 258, 397, 360], "label": "a {round} cake"},
\t{"label": "plate", "bbox_2d": [1.5, -2, 3e1, 40]}
]
```"""


def test_json_replies():
    """Qwen2.5-VL and later: a list in a fence, with text around it."""
    assert parse_boxes(FENCED) == (
        Box("a {round} cake", (341, 258, 397, 360)),
        Box("plate", (1.5, -2, 30, 40)),
    )


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("", ()),
        ("There is no cat.", ()),
        ("[]", ()),
        ('{"answer": 1}', ()),
        ('{"bbox_2d": [1,2,3,4]}', (Box("", (1, 2, 3, 4)),)),
        ('{"bbox": [1,2,3,4], "label": 5}', (Box("5", (1, 2, 3, 4)),)),
        ('{"bbox_2d":[1,2,3,4],"text_content":"A\\"B"}', (Box('A"B', (1, 2, 3, 4)),)),
        ('{"point_2d": [7, 8], "label": "eye"}', (Box("eye", (7, 8)),)),
        ('{"all": [{"bbox_2d": [1, 2, 3, 4]}]}', (Box("", (1, 2, 3, 4)),)),
        ("<box>(1,2),(3,4)</box>", (Box("", (1, 2, 3, 4)),)),
        (
            "<ref>two dogs</ref><box>(1,2),(3,4)</box><box>( 5, 6 ) , (7.5,8)</box>",
            (Box("two dogs", (1, 2, 3, 4)), Box("two dogs", (5, 6, 7.5, 8))),
        ),
        (
            "<|object_ref_start|>图<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>",
            (Box("图", (1, 2, 3, 4)),),
        ),
    ],
)
def test_replies(text, boxes):
    """Each form that the families write, and replies that name nothing."""
    assert parse_boxes(text) == boxes


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6, 7]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": "5, 6, 7, 8"}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6, 7, true]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6, 7, NaN]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6, 7, 1e999]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": null}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [[1, 2, 3, 4]]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {\'bbox_2d\': [1, 2, 3, 4]}]',
        "<ref>cat</ref><box>(1,2),(3,4)</box><box>(5,6)</box>",
        "<ref>cat</ref><box>(1,2),(3,4)</box><box>(5,6),(7,",
        "<ref>cat</ref><box>(1,2),(3,4)</box><box>(5,6),(7,__import__('os'))</box>",
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": ' + "9" * 5000 + "}]",
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [9'
        + "9" * 400
        + ", 1, 1, 1]}]",
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": '
        + "[" * 100_000
        + "]" * 100_000
        + "}]",
    ],
    ids=range(15),
)
def test_broken_replies(text):
    """A broken box is told, and the whole ones are not lost."""
    whole = (Box("cat", (1, 2, 3, 4)),)
    with pytest.raises(
        UnreadableBoxesError, match=r"2 whole boxes .* 1 cannot"
    ) as told:
        parse_boxes(text)
    assert (told.value.boxes, told.value.promised) == (whole, 2)
    assert parse_boxes(text, on_broken="skip") == whole


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (
            '{"objects":[{"bbox_2d":[1,2,3,4],"attrs":{"c":1}}]}',
            (Box("", (1, 2, 3, 4)),),
        ),
        (
            '{"attrs":{"c":{}},"bbox_2d":[1,2,3,4],"x":[{},{}],"label":"cat"}',
            (Box("cat", (1, 2, 3, 4)),),
        ),
        (
            '{"bbox":[1,2,3,4],"label":"}{","x":[{"bbox":[5,6,7,8],"label":"eye"}]}',
            (Box("}{", (1, 2, 3, 4)), Box("eye", (5, 6, 7, 8))),
        ),
        # What is broken around or inside does not hide what is whole.
        ('use {x\n{"bbox":[1,2,3,4],"a":{}}', (Box("", (1, 2, 3, 4)),)),
        ('{"a":"{\n{"bbox":[1,2,3,4],"a":{}}', (Box("", (1, 2, 3, 4)),)),
        ('{"bbox":[1,2,3,4],"a":{oops}}', (Box("", (1, 2, 3, 4)),)),
        ('{"a":' * 20_000 + '{"bbox":[1,2,3,4]}', (Box("", (1, 2, 3, 4)),)),
        (
            '{"a":' * 20_000 + '{"bbox":[1,2,3,4],"b":{}}' + "}" * 20_000,
            (Box("", (1, 2, 3, 4)),),
        ),
    ],
    ids=range(8),
)
def test_objects_inside_each_other(text, boxes):
    """A box is read however deep it lies, also where others lie in its object."""
    assert parse_boxes(text) == boxes


@pytest.mark.parametrize(
    "piece",
    ['{\\"', '{"', '{"{ " "', '{"a":', '{"{"  ', '{"\\', '{"a":{}', '{"x":[{},', "{"],
)
@pytest.mark.parametrize("end", ["", "}"])
def test_no_reply_takes_long(piece, end):
    """One pass: what is repeated a hundred thousand times is read in a moment."""
    start = time.process_time()
    assert parse_boxes(piece * 100_000 + end * 100_000) == ()
    assert time.process_time() - start < 5


def test_parse_boxes_takes_text_only():
    """A wrong type or choice is a mistake in the call."""
    with pytest.raises(TypeError, match="Expected a str but received bytes"):
        parse_boxes(b"[]")
    with pytest.raises(ValueError, match="'error' or 'skip'"):
        parse_boxes("", on_broken="ignore")


def test_reply_to_original():
    """What is parsed is mapped as it is, and keeps its labels."""
    boxes = HALF.to_original(parse_boxes(FENCED), convention="relative-1000")
    assert boxes[0] == Box("a {round} cake", (341, 103.2, 397, 144))


def test_a_label_of_null_is_none():
    assert parse_boxes('{"bbox_2d": [1, 2, 3, 4], "label": null}')[0].label == ""
    text = '{"bbox_2d": [1, 2, 3, 4], "label": null, "text_content": "cat"}'
    assert parse_boxes(text)[0].label == "cat"
