"""Laws that every plan keeps, whatever the picture, the model and the cap."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from qwenvl_prep import ImageInfo, PlanOptions, list_models, smart_resize
from qwenvl_prep.errors import IllegalImageError
from qwenvl_prep.geometry import billed_tokens
from qwenvl_prep.plan import plan_image

FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "TIFF": "image/tiff",
    "ICNS": "image/icns",
    "HEIF": "image/heic",
    "GIF": "image/gif",
    "PIXELS": "",
}

# Sides by their order of magnitude, so that thin pictures are as common as square.
sides = st.one_of(
    st.integers(11, 200),
    st.integers(200, 3_000),
    st.integers(3_000, 40_000),
)
models = st.sampled_from(list_models())


@st.composite
def infos(draw) -> ImageInfo:
    """Draw the header of a picture that the API would take, legal in its sides."""
    height = draw(sides)
    width = draw(
        st.one_of(sides, st.sampled_from([height * 200, height * 199, height * 150]))
    )
    if draw(st.booleans()):
        height, width = width, height
    assume(max(height, width) <= 200 * min(height, width))
    file_format = draw(st.sampled_from(sorted(FORMATS)))
    return ImageInfo(
        format=file_format,
        media_type=FORMATS[file_format],
        height=height,
        width=width,
        orientation=draw(st.integers(1, 8)),
        bit_depth=draw(st.sampled_from([1, 8, 16])),
        has_alpha=draw(st.booleans()),
        colour=draw(st.sampled_from(["rgb", "grey", "palette", "cmyk", "other"])),
        n_frames=draw(st.sampled_from([1, 1, 1, 5])),
        encoded_size=draw(st.integers(0, 20_000_000)),
    )


def thin(height: int, width: int) -> ImageInfo:
    return ImageInfo("PNG", "image/png", height, width, encoded_size=100)


def planned(info, model, **options):
    return plan_image(info, model, PlanOptions(**options))


def is_legal(height: int, width: int) -> bool:
    return min(height, width) > 10 and max(height, width) <= 200 * min(height, width)


@given(infos(), models)
@example(thin(29, 5_615), list_models()[0])
@example(thin(75, 14_900), list_models()[0])
def test_without_a_cap_nothing_grows(info, model):
    """Enlarging is the server's business: no side that is sent is above its own."""
    made = planned(info, model)
    assert made.height <= info.upright_height
    assert made.width <= info.upright_width


@given(infos(), models)
@example(thin(29, 5_615), list_models()[0])
@example(thin(75, 14_900), list_models()[0])
def test_size_that_is_sent_is_legal_again(info, model):
    """What is sent obeys the rules that the original was held against."""
    made = planned(info, model)
    assert is_legal(made.height, made.width)


@given(infos(), models)
@example(thin(29, 5_615), list_models()[0])
@example(thin(75, 14_900), list_models()[0])
def test_preparing_does_not_change_the_bill(info, model):
    """The tokens planned are those of the original, which the server would count."""
    made = planned(info, model)
    original = billed_tokens(info.upright_height, info.upright_width, model)
    assert made.tokens == original


@given(infos(), models, st.booleans())
def test_tokens_are_those_of_the_size_that_is_sent(info, model, high_resolution):
    """The prediction is made for what the server receives, not for the original."""
    assume(not high_resolution or model.high_resolution_pixels)
    made = planned(info, model, high_resolution=high_resolution)
    assert made.tokens == billed_tokens(
        made.height, made.width, model, high_resolution=high_resolution
    )
    assert made.vision_tokens == made.tokens - 2


@given(infos(), models)
def test_resized_means_the_servers_size(info, model):
    """Where the client resizes, the server's own resize changes nothing more."""
    made = planned(info, model)
    assume(made.is_resized)
    size = (made.height, made.width)
    assert size == smart_resize(
        *size,
        factor=model.factor,
        min_pixels=model.min_pixels,
        max_pixels=model.max_pixels,
    )


@given(infos(), models, st.integers(1, 1_500))
@example(thin(15, 2_900), list_models()[0], 29)
@example(thin(476, 13), list_models()[0], 10)
@settings(max_examples=400)
def test_max_tokens_is_never_exceeded(info, model, cap):
    """A cap of the caller's own is kept, or the image is refused; it stays legal."""
    assume(cap * model.factor**2 >= model.min_pixels)
    try:
        made = planned(info, model, max_tokens=cap)
    except IllegalImageError:
        # Only where the server itself enlarges: at most twice its least size on the
        # short side, or one row of 200:1.
        assert cap < max(2 * model.min_pixels // model.factor**2, 29)
        return
    assert made.vision_tokens <= cap
    assert is_legal(made.height, made.width)
    # A side under one square of the grid is the one that a cap may lift to it.
    for sent, own in (
        (made.height, info.upright_height),
        (made.width, info.upright_width),
    ):
        assert sent <= max(own, model.factor * -(-own // model.factor))


@given(infos(), models, st.sampled_from([100, 640, 1_280]))
def test_kept_bytes_are_legal_bytes(info, model, cap):
    """Bytes that go untouched are of a legal type, upright, opaque and one frame."""
    try:
        made = planned(info, model, max_tokens=cap)
    except IllegalImageError:
        return
    if not made.is_kept:
        return
    assert info.format in model.formats
    assert info.orientation == 1
    assert not info.has_alpha
    assert (info.n_frames, made.steps) == (1, ())
    assert info.bit_depth <= 8
    assert (made.height, made.width) == (info.height, info.width)
    assert info.encoded_size * 4 // 3 < 10_485_760


@given(infos(), models, models)
def test_plans_are_made_for_one_model(info, first, second):
    """The same header gives the same plan each time, and names its model."""
    assert planned(info, first) == planned(info, first)
    assert planned(info, second).model is second


@given(st.integers(1, 10), st.integers(1, 2_000))
def test_small_sides_are_always_refused(small, other):
    """A side of 10 pixels or fewer is refused in either direction."""
    for size in ((small, other), (other, small)):
        with pytest.raises(IllegalImageError):
            planned(thin(*size), list_models()[0])
