"""Images shrunk until they fit: records, refusals and what is handed back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep import PlanOptions
from qwenvl_prep.errors import (
    AspectRatioError,
    BudgetError,
    ImagesRefusedError,
    UnknownModelError,
)

# 1,227 tokens: 35 × 35 and the markers.
SQUARE = np.broadcast_to(np.uint8(0), (1280, 1280))
# 1,249 tokens: 29 × 43 and the markers.
PHOTO = np.broadcast_to(np.uint8(0), (1365, 2048))


def jpeg(height: int, width: int) -> bytes:
    """Give a small file that is legal as it is."""
    return qp.prepare(np.zeros((height, width, 3), np.uint8), encoding="jpeg").data


# -------------------------------------------------------------------------- records


def test_what_fits_is_left_alone():
    """Prove that 25 squares fit as they are, and the plans are the same objects."""
    plans = [qp.plan(SQUARE)] * 25
    request = qp.fit(plans, policy="shrink")
    assert request.scale == 1.0
    assert request.caps == (1280,) * 25
    assert all(image is plans[0] for image in request.images)
    assert request.total == qp.fit(plans).total == 30_694
    fitted = qp.fit_sizes([1280] * 25, [1280] * 25)
    assert (fitted.scale, fitted.total, fitted.remaining) == (1.0, 30_694, 25)
    assert fitted.caps.tolist() == [1280] * 25


def test_one_image_too_many_shrinks():
    """
    Prove the arithmetic of 26 squares by hand.

    30,719 - 19 leave 30,700 for 26 × 2 markers and 30,648 squares.  34 × 34 are 1,156
    and 26 of them 30,056; each next step, to 35 × 35 and no shrinking, takes 69 more,
    and eight of those fit: 40 squares are left.
    """
    request = qp.fit([SQUARE] * 26, policy="shrink")
    tokens = [count for _, count in request.items]
    assert tokens == [1227] * 8 + [1158] * 18
    assert request.remaining == 40
    assert [image.is_resized for image in request.images] == [True] * 26
    assert {(image.height, image.width) for image in request.images[8:]} == {(952, 952)}
    # The largest scale below that of 35 × 35, which the natural size alone has.
    assert request.scale == np.nextafter(1.0, 0.0)
    assert [image.tokens for image in request.images] == tokens


def test_caps_are_reproduced_by_planning():
    """Prove that each image planned under its cap costs what was told."""
    pictures = [SQUARE, PHOTO] * 20
    request = qp.fit(pictures, policy="shrink")
    assert request.total < request.limit
    for picture, cap, image in zip(pictures, request.caps, request.images, strict=True):
        assert qp.plan(picture, max_tokens=cap).tokens == image.tokens
        assert image.options.max_tokens in (cap, None)


def test_weights_and_floors_decide_who_gives():
    """Prove that a heavier image keeps more, and that a floor holds."""
    even = qp.fit([PHOTO] * 40, policy="shrink")
    weights = [4.0] + [1.0] * 39
    heavy = qp.fit([PHOTO] * 40, policy="shrink", weights=weights)
    assert heavy.items[0][1] == 1_249
    assert sum(count for _, count in heavy.items[1:]) < even.image_tokens * 39 / 40
    floors = [0] + [1_000] * 20 + [0] * 19
    held = qp.fit([PHOTO] * 40, policy="shrink", weights=weights, floor=floors)
    assert min(count for _, count in held.items[1:21]) >= 1_002
    assert max(count for _, count in held.items[21:]) < 600


def test_scale_is_1_where_everything_fits_by_weights_too():
    """Prove that the scale of what fits is the least at which nothing is shrunk."""
    fitted = qp.fit_sizes([500, 500], [500, 500], weights=[1, 4])
    assert fitted.scale == 4.0
    assert fitted.tokens.tolist() == [326, 326]


def test_high_resolution_and_caps_of_ones_own_are_the_start():
    """Prove that shrinking begins below the caller's cap, or the higher one."""
    high = qp.fit_sizes([4000], [6000], high_resolution=True)
    assert high.tokens.tolist() == [
        qp.count_tokens_many([4000], [6000], high_resolution=True)[0]
    ]
    own = qp.fit_sizes([1280] * 3, [1280] * 3, max_tokens=100)
    assert own.tokens.tolist() == [102] * 3
    assert own.caps.tolist() == [100] * 3
    request = qp.fit([SQUARE] * 3, policy="shrink", max_tokens=100, text=30_500)
    fitted = qp.fit_sizes([1280] * 3, [1280] * 3, max_tokens=100, text=30_500)
    assert [count for _, count in request.items] == fitted.tokens.tolist()
    assert request.caps == tuple(fitted.caps.tolist())
    assert max(request.caps) < 100
    assert request.total <= 30_719


def test_kept_bytes_cost_what_they_cost():
    """Prove that encoding="keep" is a fixed cost, and the others make room for it."""
    kept = qp.plan(jpeg(900, 900), encoding="keep")
    request = qp.fit([SQUARE, kept] * 15, policy="shrink")
    assert request.images[1] is kept
    assert all(count == kept.tokens for _, count in request.items[1::2])
    assert all(count < 1_227 for _, count in request.items[::2])
    with pytest.raises(BudgetError, match="30 with encoding='keep' cannot"):
        qp.fit([kept] * 30, policy="shrink")


def test_legal_bytes_are_encoded_anew_where_they_shrink():
    """Prove that bytes that would be kept are not where a cap is lowered."""
    plan = qp.plan(jpeg(900, 900))
    assert plan.is_kept
    request = qp.fit([plan] * 40, policy="shrink")
    for image in request.images:
        assert not image.is_kept
        assert image.is_resized
        assert (image.name, image.warnings) == (plan.name, plan.warnings)
        assert image.options == dataclasses.replace(
            plan.options, max_tokens=image.options.max_tokens
        )
    made = qp.prepare(jpeg(900, 900), max_tokens=request.caps[0])
    assert (made.height, made.width) == (
        request.images[0].height,
        request.images[0].width,
    )


def test_prepared_images_are_planned_anew():
    """Prove that a prepared image is handed back as a plan under a lower cap."""
    image = qp.prepare(np.zeros((1280, 1280, 3), np.uint8))
    request = qp.fit([image] * 30, policy="shrink")
    assert request.images[-1].tokens < image.plan.tokens


# ------------------------------------------------------------------------- refusals


def test_floors_that_do_not_fit_are_told():
    """Prove the arithmetic of a refusal, and how many would fit."""
    with pytest.raises(BudgetError) as caught:
        qp.fit_sizes([1280] * 100, [1280] * 100, floor=400, text=100)
    error = caught.value
    # 20 × 20 and the markers are 402; 30,719 - 119 hold 76 of them.
    assert error.needed == 100 * 402 + 119
    assert error.fits == 76
    assert error.limit == 30_720
    assert error.items == (("1280×1280", 402),) * 100
    for part in ("100 images take 40,200", "40,319", "floors", "first 76"):
        assert part in str(error)
    with pytest.raises(BudgetError) as caught:
        qp.fit([SQUARE] * 100, policy="shrink", floor=400, text=100)
    assert (caught.value.needed, caught.value.fits) == (error.needed, error.fits)
    assert caught.value.items == (("pixels", 402),) * 100


def test_floor_is_kept_from_above():
    """Prove that a floor between two sizes is kept by the larger one."""
    with pytest.raises(BudgetError) as caught:
        qp.fit_sizes([1280] * 100, [1280] * 100, floor=401)
    assert caught.value.items[0][1] == 21 * 21 + 2


def test_text_alone_is_told():
    """Prove that shrinking images is not advised where text takes everything."""
    for images in ([], [SQUARE]):
        with pytest.raises(BudgetError, match="Text, template and reserve alone"):
            qp.fit(images, policy="shrink", text=30_701)
    assert qp.fit([], policy="shrink", text=30_700).remaining == 0
    assert len(qp.fit_sizes([], []).tokens) == 0
    with pytest.raises(BudgetError, match="Not even the first image"):
        qp.fit([SQUARE], policy="shrink", text=30_695)
    # The smallest it can be: 2 × 2 and the markers.
    assert qp.fit([SQUARE], policy="shrink", text=30_694).remaining == 0


def test_too_many_images_are_not_mended_by_shrinking():
    """Prove that a model's number of images holds, and of ours that of data URIs."""
    model = "qwen3-vl-plus"
    with pytest.raises(BudgetError, match=r"at most 256 images a request\.") as caught:
        qp.fit_sizes([64] * 257, [64] * 257, model=model, as_addresses=True)
    assert caught.value.fits == 256
    assert caught.value.needed == 257 * 66 + 17
    fitted = qp.fit_sizes([64] * 256, [64] * 256, model=model, as_addresses=True)
    assert fitted.scale == 1.0
    with pytest.raises(BudgetError, match="at most 250 images a request as") as caught:
        qp.fit_sizes([64] * 251, [64] * 251, model=model)
    assert caught.value.fits == 250
    assert qp.fit_sizes([64] * 250, [64] * 250, model=model).scale == 1.0
    tiny = np.broadcast_to(np.uint8(0), (64, 64))
    with pytest.raises(BudgetError, match="at most 250 images a request"):
        qp.fit([tiny] * 251, model="qwen3-vl-plus", policy="shrink")
    assert qp.fit([tiny] * 250, model="qwen3-vl-plus", policy="shrink").scale == 1.0


def test_images_without_any_token_are_left_as_they_are():
    """Prove that a model whose cap leaves a shape nothing is searched all the same."""
    model = qp.get_model("qwen-vl-max").replace(
        factor=32, min_pixels=10_240, max_pixels=15_360, high_resolution_pixels=None
    )
    thin = np.broadcast_to(np.uint8(0), (24_219, 623))
    assert qp.plan(thin, model=model).vision_tokens == 0
    fitted = qp.fit_sizes([24_219], [623], model=model)
    assert (fitted.tokens.tolist(), fitted.scale) == ([2], 1.0)
    # The same of 150:1, beside others that have to shrink.
    model = model.replace(max_pixels=102_400)
    heights, widths = [15_000] + [1_280] * 500, [100] + [1_280] * 500
    text = 3_000
    others = qp.fit_sizes(heights[1:], widths[1:], model=model, text=text + 2)
    mixed = qp.fit_sizes(heights, widths, model=model, text=text)
    assert others.scale < 1
    assert mixed.scale == others.scale
    assert mixed.tokens.tolist() == [2, *others.tokens.tolist()]
    assert mixed.caps.tolist() == [100, *others.caps.tolist()]
    with pytest.raises(AspectRatioError, match="11 × 2300 at index 1"):
        qp.fit_sizes([15_000, 11], [100, 2_300], model=model)


def test_refused_images_are_carried_all_the_same():
    """Prove that an image that cannot be sent is not shrunk but refused."""
    long = np.broadcast_to(np.uint8(0), (11, 2_300))
    with pytest.raises(ImagesRefusedError):
        qp.fit([SQUARE, long], policy="shrink")
    with pytest.raises(AspectRatioError, match="11 × 2300 at index 1"):
        qp.fit_sizes([50, 11], [50, 2_300])


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": [1, 0]},
        {"weights": [1, -1]},
        {"weights": [1, float("nan")]},
        {"weights": [1, float("inf")]},
        {"weights": [1, 1e10]},
        {"weights": [1]},
        {"weights": 3},
        {"weights": ["a", "b"]},
        {"weights": [True, True]},
        {"floor": -1},
        {"floor": [-1, 5]},
        {"floor": [5]},
        {"floor": 1.5},
        {"floor": "5"},
        {"floor": True},
        {"floor": [1.5, 2.5]},
        {"reserve": -1},
        {"reserve": 1.5},
        {"text": -1},
        {"text": None},
        {"max_tokens": 3},
        {"max_tokens": 50.5},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(changes):
    """Prove that what is no weight, floor or number of tokens is a plain mistake."""
    with pytest.raises((TypeError, ValueError), match="Expected"):
        qp.fit_sizes([500, 500], [500, 500], **changes)
    if changes != {"max_tokens": 3}:
        with pytest.raises(
            (TypeError, ValueError, ImagesRefusedError), match="Expected"
        ):
            qp.fit([SQUARE] * 2, policy="shrink", **changes)


def test_cap_that_a_shape_exceeds_is_refused():
    """Prove that a cap below what the server enlarges to names the image."""
    with pytest.raises(ValueError, match="at least 13 for 476 × 13 at index 1"):
        qp.fit_sizes([500, 476], [500, 13], max_tokens=10)
    assert qp.fit_sizes([500, 476], [500, 13]).tokens.tolist() == [326, 15]


def test_unknown_models_and_policies_are_refused():
    """Prove that nothing is made up for either."""
    with pytest.raises(UnknownModelError):
        qp.fit_sizes([5], [5], model="qwen-vl-mx")
    with pytest.raises(ValueError, match=r"Expected one of 'error', .*'shrink'"):
        qp.fit([], policy="squeeze")
    for changes in ({"weights": [1.0]}, {"floor": 5}):
        with pytest.raises(ValueError, match="policy='shrink' alone"):
            qp.fit([SQUARE], **changes)


# ------------------------------------------------------------------------ the result


def test_result_is_frozen_and_short():
    """Prove that the arrays cannot be written, and the whole is shown in one line."""
    fitted = qp.fit_sizes([1280] * 50, [1280] * 50)
    assert repr(fitted) == (
        "<SizesFit 50 images at 0.5102, 30,683 tokens, 36 left for qwen-vl-max>"
    )
    for array in (fitted.caps, fitted.tokens):
        assert array.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.scale = 1.0  # type: ignore[misc]


def test_inputs_are_not_written_to():
    """Prove that the caller's arrays stay as they are, whatever their type."""
    heights = np.full(30, 2_000, np.uint16)
    widths = heights[::-1]
    weights = np.full(30, 2.0, np.float32)
    fitted = qp.fit_sizes(heights, widths, weights=weights, floor=np.full(30, 9))
    assert (heights == 2_000).all()
    assert (weights == 2.0).all()
    assert fitted.tokens.tolist() == (
        qp.fit_sizes([2_000] * 30, [2_000] * 30).tokens.tolist()
    )


def test_plans_with_caps_of_their_own_start_there():
    """Prove that each plan's own cap is where its shrinking begins."""
    plans = [qp.plan(SQUARE, max_tokens=200), qp.plan(SQUARE)] * 22
    request = qp.fit(plans, policy="shrink")
    assert request.total < request.limit
    for before, cap, after in zip(plans, request.caps, request.images, strict=True):
        assert cap <= (before.options.max_tokens or 1_280)
        assert after.tokens <= before.tokens
        assert after == qp.plan(SQUARE, max_tokens=after.options.max_tokens)
    assert PlanOptions(max_tokens=200) in {image.options for image in plans}


def test_caps_hold_where_the_server_enlarges_above_its_own():
    """Between a least and a largest area near each other, some shapes miss both."""
    model = qp.get_model("qwen-vl-max").replace(
        min_pixels=70 * 28**2, max_pixels=70 * 28**2, high_resolution_pixels=None
    )
    made = qp.fit_sizes([61], [98], model=model)
    picture = np.zeros((61, 98), np.uint8)
    planned = qp.plan(picture, model=model, max_tokens=int(made.caps[0]))
    assert planned.tokens == made.tokens[0] > 70 + model.marker_tokens
    request = qp.fit([picture], model=model, policy="shrink")
    assert request.caps == tuple(made.caps)
