"""What is decided before a pixel is decoded: keep or make, which size, what cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageCms

from qwenvl_prep import (
    ImageInfo,
    PlanOptions,
    count_tokens,
    count_tokens_many,
    get_model,
    plan,
)
from qwenvl_prep.errors import (
    AspectRatioError,
    DamagedImageError,
    IllegalImageError,
    ModelFeatureError,
    NotAnImageError,
    QwenVLPrepError,
    SourceError,
    UnknownModelError,
)
from qwenvl_prep.geometry import billed_tokens
from qwenvl_prep.plan import plan_image

MAX = get_model("qwen-vl-max")
FIRST = get_model("qwen-vl-plus")
PLUS3 = get_model("qwen3-vl-plus")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Red and green change places, whatever its name says.
SWAPPED = (
    SRGB.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")
)


def info(height=100, width=140, **fields) -> ImageInfo:
    values = {"format": "PNG", "media_type": "image/png", "encoded_size": 1_000}
    return ImageInfo(height=height, width=width, **{**values, **fields})


def planned(height=100, width=140, *, model=MAX, options=None, **fields):
    header = info(height, width, **fields)
    return plan_image(header, model, PlanOptions(**options or {}))


# ------------------------------------------------------------------- keep the bytes


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"colour": "grey", "channels": 1},
        {"colour": "grey", "channels": 1, "bit_depth": 1},
        {"colour": "palette", "bit_depth": 4},
        {"is_progressive": True},
        {"has_icc": True, "icc_profile": SRGB},
        {"has_icc": True, "icc_profile": b"broken"},
        {"has_icc": True},
        {"encoded_size": 7_864_302},
        *({"format": name} for name in ("BMP", "DIB", "ICNS", "ICO", "JPEG2000")),
        *({"format": name} for name in ("JPEG", "SGI", "TIFF", "WEBP")),
    ],
    ids=str,
)
def test_plain_legal_bytes_are_kept(fields):
    """Legal, upright, opaque and small enough: the bytes go as they are."""
    made = planned(**fields)
    assert made.is_kept
    assert (made.height, made.width) == (100, 140)
    assert (made.steps, made.is_resized) == ((), False)


@pytest.mark.parametrize(
    ("fields", "options", "step"),
    [
        ({"format": "GIF"}, {}, None),
        ({"format": "HEIF"}, {}, None),
        ({"format": "AVIF"}, {}, None),
        ({"encoded_size": 7_864_303}, {}, None),
        ({"encoded_size": 12_000_000}, {}, None),
        ({"orientation": 2}, {}, "mirrored"),
        ({"orientation": 3}, {}, "turned 180°"),
        ({"orientation": 4}, {}, "flipped"),
        ({"orientation": 5}, {}, "turned 90° and mirrored"),
        ({"orientation": 6}, {}, "turned 90°"),
        ({"orientation": 7}, {}, "turned 270° and mirrored"),
        ({"orientation": 8}, {}, "turned 270°"),
        ({"has_alpha": True, "channels": 4}, {}, "flattened on white"),
        ({"n_frames": 2}, {}, "first of 2 frames"),
        ({"n_frames": 3, "format": "TIFF"}, {}, "first of 3 pages"),
        ({"n_frames": 3, "format": "ICO"}, {}, "largest of 3 pictures"),
        ({"n_frames": 12, "frame": 2}, {}, "frame 2 of 12 frames, counted from 0"),
        ({"has_icc": True, "icc_profile": SWAPPED}, {}, "sRGB built-in → sRGB"),
        ({"bit_depth": 16}, {}, "16 → 8 bit"),
        ({"colour": "cmyk", "channels": 4}, {}, "CMYK → RGB"),
        ({"colour": "other"}, {}, None),
        ({"format": "JPEG"}, {"encoding": "png"}, None),
        ({}, {"encoding": "jpeg"}, None),
        ({"format": "WEBP"}, {"encoding": "jpeg"}, None),
        ({}, {"max_bytes": 1_357}, None),
    ],
)
def test_what_prevents_keeping(fields, options, step):
    """Each single reason has the picture made anew, and is told where it is a step."""
    made = planned(options=options, **fields)
    assert not made.is_kept
    if step is not None:
        assert step in made.steps


def test_asked_type_that_is_there_already_is_kept():
    """Asking for the type that the file has changes nothing."""
    assert planned(options={"encoding": "png"}).is_kept
    assert planned(format="JPEG", options={"encoding": "jpeg"}).is_kept


def test_profile_that_does_not_count_prevents_nothing():
    """With color="keep" the numbers are sent as they are."""
    made = planned(has_icc=True, icc_profile=SWAPPED, options={"color": "keep"})
    assert made.is_kept


@pytest.mark.parametrize(
    ("fields", "options", "is_kept"),
    [
        ({"format": "WEBP"}, {"encoding": "webp"}, True),
        ({"format": "WEBP", "is_lossless": True}, {"encoding": "webp-lossless"}, True),
        ({"format": "WEBP"}, {"encoding": "webp-lossless"}, False),
        ({"format": "JPEG"}, {"strip_metadata": True}, True),
        ({"format": "TIFF"}, {"strip_metadata": True}, False),
    ],
)
def test_wanted_type_and_bare_bytes(fields, options, is_kept):
    """What is asked for is kept where the bytes are that already, or can be made so."""
    assert planned(options=options, **fields).is_kept is is_kept


def test_stripped_metadata_is_a_step():
    """Bytes that are kept but for their metadata are not untouched."""
    made = planned(options={"strip_metadata": True})
    assert (made.is_kept, made.steps) == (True, ("metadata removed",))


@pytest.mark.parametrize(
    "fields",
    [
        {"orientation": 6},
        {"has_alpha": True, "channels": 4},
        {"n_frames": 3},
        {"bit_depth": 16},
        {"colour": "cmyk", "channels": 4, "format": "JPEG"},
        {"has_icc": True, "icc_profile": SWAPPED},
    ],
    ids=str,
)
def test_keep_keeps_what_auto_would_mend(fields):
    """What is legal goes as it is, above the cap too: the server shrinks by itself."""
    made = planned(2_000, 3_000, options={"encoding": "keep"}, **fields)
    assert made.is_kept
    # On its side, if that is how it is stored: the API would not turn it.
    assert (made.height, made.width, made.steps) == (2_000, 3_000, ())
    assert not made.is_resized
    expected = planned(2_000, 3_000, **fields)
    assert made.tokens == expected.tokens == billed_tokens(2_000, 3_000, MAX)


@pytest.mark.parametrize(
    ("fields", "options", "reason"),
    [
        ({"format": "GIF"}, {}, "Expected one of BMP"),
        ({"encoded_size": 12_000_000}, {}, "Expected a file of at most"),
        ({}, {"max_bytes": 1_357}, "its data URI has 1,358 bytes where 1,357"),
        ({"n_frames": 3, "frame": 1}, {}, "one of 3 frames cannot be sent alone"),
        ({"format": "TIFF"}, {"strip_metadata": True}, "metadata of TIFF"),
        ({"format": "PIXELS", "media_type": ""}, {}, "no bytes that could be kept"),
    ],
)
def test_keep_refuses_what_it_would_have_to_change(fields, options, reason):
    """Nothing is mended behind the back of who asked for the original."""
    with pytest.raises(IllegalImageError, match=reason) as caught:
        planned(options={"encoding": "keep", **options}, **fields)
    assert "cannot be kept as it is" in str(caught.value)
    assert any(f.severity == "error" for f in caught.value.findings)


def test_keep_does_not_exceed_the_callers_own_cap():
    """A cap that the server does not know would be broken by sending all pixels."""
    with pytest.raises(IllegalImageError, match="at most 100 vision tokens"):
        planned(980, 980, options={"encoding": "keep", "max_tokens": 100})


@pytest.mark.parametrize(
    ("size", "fields", "shrink"),
    [
        ((3_024, 4_032), {}, 2),
        ((4_032, 3_024), {"orientation": 6}, 2),
        ((2_360, 3_150), {}, 1),
        ((2_408, 3_211), {}, 2),
        ((8_000, 8_000), {}, 4),
        ((12_000, 12_000), {}, 8),
        ((3_024, 4_032), {"colour": "cmyk", "channels": 4}, 1),
        ((3_024, 4_032), {"format": "PNG"}, 1),
        ((500, 500), {}, 1),
    ],
    ids=str,
)
def test_fast_leaves_twice_the_pixels_of_the_target(size, fields, shrink):
    """Only a JPEG is decoded smaller, and never to less than 1.4 times each side."""
    fields = {"format": "JPEG", **fields}
    made = planned(*size, options={"fidelity": "fast"}, **fields)
    assert made.shrink == shrink
    told = f"decoded at 1/{shrink}"
    assert (told in made.steps) is (shrink > 1)
    if shrink > 1:
        left = (size[0] // shrink) * (size[1] // shrink)
        assert left >= 2 * made.height * made.width
    assert planned(*size, **fields).shrink == 1


def test_max_bytes_is_held_against_the_data_uri():
    """1,000 bytes of PNG are a data URI of 22 + 1,336 characters."""
    assert planned(options={"max_bytes": 1_358}).is_kept
    assert not planned(options={"max_bytes": 1_357}).is_kept
    assert planned(options={"max_bytes": 99_000_000}).max_data_uri_bytes == 10_485_760
    assert planned(options={"max_bytes": 5_000}).max_data_uri_bytes == 5_000


@pytest.mark.parametrize(
    ("file_format", "seed", "later"),
    [("HEIF", False, True), ("ICNS", True, False), ("ICO", True, False)],
)
def test_kept_types_depend_on_the_model(file_format, seed, later):
    """HEIC goes as it is to qwen3-vl-plus only, ICNS to the seed's models only."""
    assert planned(format=file_format).is_kept is seed
    assert planned(format=file_format, model=PLUS3).is_kept is later


def test_kept_only_below_the_cap():
    """36 × 35 squares are 1,260 tokens and kept; 36 × 36 are 1,296 and shrunk."""
    assert planned(980, 980).is_kept
    assert planned(1008, 993).is_kept
    # 994 / 28 is 35.5, which is tied to the even 36.
    assert not planned(1008, 994).is_kept


# ---------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("model", "options", "size", "sent", "tokens"),
    [
        # The worked examples of the provider's page.
        ("qwen-vl-max", {}, (512, 512), (512, 512), 326),
        ("qwen-vl-max", {}, (1280, 1280), (980, 980), 1227),
        ("qwen-vl-max", {"high_resolution": True}, (1280, 1280), (1280, 1280), 2118),
        # Live records of the provider.
        ("qwen-vl-max", {}, (1365, 2048), (812, 1204), 1249),
        ("qwen3-vl-plus", {}, (1365, 2048), (1312, 1952), 2503),
        ("qwen3-vl-plus", {}, (3024, 4032), (1376, 1856), 2496),
        ("qwen-vl-plus", {}, (1280, 1280), (980, 980), 1227),
        # Small ones are left to the server, which enlarges them.
        ("qwen-vl-max", {}, (11, 11), (11, 11), 6),
        ("qwen3-vl-plus", {}, (11, 11), (11, 11), 66),
        ("qwen3-vl-plus", {}, (100, 100), (100, 100), 66),
        # Thin ones that would leave the ratio on the grid are sent as they are.
        ("qwen-vl-max", {}, (29, 5_615), (29, 5_615), 203),
        ("qwen-vl-max", {}, (75, 14_900), (75, 14_900), None),
        ("qwen-vl-max", {}, (11, 2_200), (11, 2_200), None),
    ],
)
def test_sizes_of_legal_bytes(model, options, size, sent, tokens):
    """The size that is sent and its tokens, from the published examples on."""
    made = planned(*size, model=get_model(model), options=options)
    assert (made.height, made.width) == sent
    if tokens is not None:
        assert made.tokens == tokens
    assert made.tokens == billed_tokens(*size, made.model, **options)


def test_orientation_turns_the_size():
    """A photo on its side is planned by its upright sides."""
    made = planned(2_000, 1_000, orientation=6)
    assert (made.height, made.width) == (700, 1_400)
    assert made.steps == ("turned 90°", "resized 1000×2000 → 700×1400")


def test_made_anew_lands_on_the_grid_without_growing():
    """Pixels that are encoded anyway are rounded to the grid, downwards only."""
    alpha = {"has_alpha": True, "channels": 4}
    down = planned(100, 141, **alpha)  # 100 / 28 is 3.57: the side would grow
    assert (down.height, down.width) == (100, 141)
    both = planned(90, 120, **alpha)
    assert (both.height, both.width) == (84, 112)
    assert both.is_resized
    small = planned(20, 20, **alpha)
    assert (small.height, small.width) == (20, 20)


def test_thin_pixels_made_anew_stay_legal():
    """29 × 5615 becomes 28 × 5628 on the grid, 201:1; so the original size is sent."""
    made = planned(29, 5_615, has_alpha=True, channels=4)
    assert (made.height, made.width) == (29, 5_615)


@pytest.mark.parametrize("model", [MAX, FIRST, PLUS3], ids=lambda model: model.name)
@pytest.mark.parametrize(
    "size",
    [(75, 14_900), (14_900, 75), (29, 5_615), (75, 15_000), (101, 20_200), (50, 9_990)],
)
def test_thin_images_stay_legal_at_every_cap(model, size):
    """Near 200:1, whatever the cap, the size that is sent is legal and below it."""
    for cap in (None, 128, 200, 300, 512, 530, 600, 800, 1_000, 1_280):
        made = planned(*size, model=model, options={"max_tokens": cap})
        assert min(made.height, made.width) >= 11
        assert max(made.height, made.width) <= 200 * min(made.height, made.width)
        if cap is not None:
            assert made.vision_tokens <= cap


def test_high_resolution_raises_the_cap():
    """The flag moves the cap from 1,280 to 16,384 tokens, and the count with it."""
    default = planned(6_000, 8_000)
    high = planned(6_000, 8_000, options={"high_resolution": True})
    assert default.vision_tokens <= 1_280 < high.vision_tokens <= 16_384
    with pytest.raises(ModelFeatureError) as caught:
        planned(model=FIRST, options={"high_resolution": True})
    assert (caught.value.model, caught.value.feature) == (
        "qwen-vl-plus",
        "high_resolution",
    )


# ----------------------------------------------------------------------- max_tokens


@pytest.mark.parametrize("cap", [29, 30, 64, 100, 500, 1_000, 1_279])
def test_max_tokens_is_never_exceeded(cap):
    """The caller's cap holds for every shape."""
    for size in ((512, 512), (1280, 1280), (4000, 30), (15, 2900), (31, 31), (700, 20)):
        assert planned(*size, options={"max_tokens": cap}).vision_tokens <= cap


def test_max_tokens_above_the_models_cap_changes_nothing():
    """A cap that the model does not reach is no cap."""
    assert planned(1280, 1280, options={"max_tokens": 5_000}).tokens == 1_227


def test_cap_that_the_server_would_exceed_is_refused():
    """The server enlarges 476 × 13 to 13 tokens; once a cap of 10 was ignored there."""
    assert planned(476, 13).vision_tokens == 13
    with pytest.raises(IllegalImageError):
        planned(476, 13, options={"max_tokens": 10})
    assert planned(476, 13, options={"max_tokens": 13}).vision_tokens == 13


def test_cap_below_the_models_least_is_a_mistake():
    """Nothing can cost less than the size that the model enlarges everything to."""
    assert planned(200, 200, options={"max_tokens": 4}).vision_tokens == 4
    with pytest.raises(ValueError, match="at least 4"):
        planned(options={"max_tokens": 3})
    with pytest.raises(ValueError, match="at least 64"):
        planned(model=PLUS3, options={"max_tokens": 63})


# -------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "gif"},
        {"encoding": "JPEG"},
        {"encoding": None},
        {"quality": 0},
        {"quality": 96},
        {"max_tokens": 0},
        {"max_tokens": -5},
        {"max_bytes": 0},
        {"chroma": "4:1:1"},
        {"color": "adobe"},
        {"fidelity": "slow"},
        {"on_truncated": "ignore"},
        {"frame": -1},
        {"background": "red"},
        {"background": "#12345"},
        {"background": (0, 0, 256)},
        {"background": (0, 0)},
    ],
)
def test_bad_options_are_a_mistake_of_the_caller(options):
    """An option out of range is a ValueError that names what is allowed."""
    with pytest.raises(ValueError, match="Expected"):
        PlanOptions(**options)
    with pytest.raises(ValueError, match="Expected"):
        plan(np.zeros((50, 50), np.uint8), **options)


def test_options_and_plans_are_values():
    """Both are frozen and compare by value."""
    assert PlanOptions() == PlanOptions()
    assert planned() == planned()
    for value, field in ((PlanOptions(), "quality"), (planned(), "height")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, 1)


# ------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("size", "codes"),
    [
        ((10, 50), ["side-too-small"]),
        ((11, 2_201), ["aspect-ratio"]),
        ((5, 3_000), ["side-too-small", "aspect-ratio"]),
    ],
)
def test_what_cannot_be_mended_is_refused_with_all_findings(size, codes):
    """Too small and too thin are refused; the error carries every finding."""
    with pytest.raises(IllegalImageError) as caught:
        planned(*size, orientation=6)
    found = [finding.code for finding in caught.value.findings]
    assert found == [*codes, "not-upright"]
    assert "What helps" in str(caught.value)


def test_plan_hands_on_what_probing_refuses(tmp_path):
    """Missing, foreign, damaged and unknown are told as by probe."""
    with pytest.raises(SourceError):
        plan(tmp_path / "none.png")
    with pytest.raises(NotAnImageError):
        plan(b"%PDF-1.4\n")
    with pytest.raises(DamagedImageError):
        plan(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(UnknownModelError):
        plan(np.zeros((50, 50), np.uint8), model="qwen-vl-mega")


def test_warnings_are_carried():
    """What is worth knowing, but no error, comes with the plan."""
    made = planned(4_000, 4_000, orientation=8, n_frames=2)
    assert [finding.code for finding in made.warnings] == [
        "above-recommended-pixels",
        "not-upright",
        "many-frames",
    ]


# -------------------------------------------------------------------------- sources


def test_plan_reads_the_header_only(tmp_path, photo, encoded):
    """A PNG whose pixels are cut off is planned; only preparing would notice."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(photo, "PNG")[:200])
    made = plan(path)
    assert (made.name, made.height, made.width) == (str(path), 90, 120)


def test_plan_sees_suffix_and_label(tmp_path, photo, encoded):
    """A misleading suffix comes as a warning of the plan."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(photo, "PNG"))
    assert [finding.code for finding in plan(path).warnings] == ["suffix-mismatch"]


def test_pixels_are_never_kept(photo):
    """An array and a Pillow image have no bytes to keep."""
    for pixels in (photo, np.asarray(photo)):
        made = plan(pixels)
        assert not made.is_kept
        assert (made.height, made.width) == (84, 112)


def test_repr_is_one_line():
    """The repr tells size, tokens and what is done."""
    assert repr(planned()) == "<ImagePlan image: 100x140, 22 tokens, kept>"
    text = repr(plan(np.zeros((1280, 1280, 4), np.uint8), encoding="png"))
    assert text == (
        "<ImagePlan pixels: 980x980, 1227 tokens, flattened on white, "
        "resized 1280×1280 → 980×980>"
    )
    again = repr(planned(112, 140, options={"encoding": "jpeg"}))
    assert again == "<ImagePlan image: 112x140, 22 tokens, encoded again>"


# --------------------------------------------------------------------------- counts


def test_count_tokens_reads_the_header_of_anything(photo, encoded):
    """Bytes, pixels and orientation are counted by their upright size."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for source in (photo, np.asarray(photo), encoded(photo, "JPEG", exif=turned)):
        assert count_tokens(source) == 14  # 3 × 4 squares and two markers
    assert count_tokens(photo, model="qwen3-vl-plus") == 2 + 7 * 10
    with pytest.raises(AspectRatioError):
        count_tokens(np.zeros((11, 2_201), np.uint8))


def test_count_many_equals_count_one():
    """The counts of many sizes are those of each one, and 0 where none is legal."""
    heights, widths = [512, 1280, 11, 1365], [512, 1280, 2201, 2048]
    assert count_tokens_many(heights, widths).tolist() == [326, 1227, 0, 1249]
    later = count_tokens_many(heights, widths, model="qwen3-vl-plus")
    assert later.tolist() == [258, 1602, 0, 2503]
    high = count_tokens_many([1280], [1280], high_resolution=True)
    assert high.tolist() == [2118]


def test_least_cap_keeps_the_pixels_that_the_server_would_invent():
    """A square at the least cap once lost a grid step, and was enlarged again."""
    made = plan(np.zeros((300, 300, 3), np.uint8), max_tokens=4)
    assert (made.height, made.width, made.vision_tokens) == (56, 56, 4)


@pytest.mark.parametrize("model", ["qwen-vl-max", "qwen3-vl-plus"])
@pytest.mark.parametrize("cap", [200, 777, 1280, 99_999])
def test_counts_under_a_cap_are_those_of_the_plan(model, cap):
    """One image and arrays of them count alike, with one cap or one cap each."""
    sides = [(64, 64), (640, 480), (1280, 1280), (3000, 400), (29, 5615)]
    heights, widths = zip(*sides, strict=True)
    pictures = [np.zeros(side, np.uint8) for side in sides]
    planned = [plan(one, model=model, max_tokens=cap).tokens for one in pictures]
    counted = [count_tokens(one, model=model, max_tokens=cap) for one in pictures]
    assert counted == planned
    for caps in (cap, [cap] * len(sides), np.int64(cap)):
        many = count_tokens_many(heights, widths, model=model, max_tokens=caps)
        assert many.tolist() == planned


def test_a_cap_that_is_none_is_refused():
    """What is no cap is refused, for one image as for many."""
    picture = np.zeros((640, 480), np.uint8)
    for cap in (0, 3, -1):
        with pytest.raises(ValueError, match="Expected"):
            count_tokens(picture, max_tokens=cap)
        with pytest.raises(ValueError, match="Expected"):
            count_tokens_many([640], [480], max_tokens=cap)
    with pytest.raises(TypeError, match="Expected"):
        count_tokens_many([640], [480], max_tokens=400.0)


def test_least_cap_that_is_named_is_taken():
    """Used to name one less where the least area is no whole number of squares."""
    model = get_model("qwen-vl-max").replace(min_pixels=3137)
    picture = np.zeros((28, 140), np.uint8)
    with pytest.raises(ValueError, match="max_tokens of at least 5 for") as caught:
        plan(picture, model=model, max_tokens=4)
    assert not isinstance(caught.value, QwenVLPrepError)
    assert plan(picture, model=model, max_tokens=5).vision_tokens == 5
