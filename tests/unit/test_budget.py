"""Whether images and text fit one request: the seed's numbers and the refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep.budget import fit_items
from qwenvl_prep.errors import (
    BudgetError,
    IllegalImageError,
    ImagesRefusedError,
    SourceError,
    UnknownModelError,
)
from qwenvl_prep.text_tokens import text_token_bound

# 1227 tokens by default, 2118 in high resolution.
SQUARE = np.broadcast_to(np.uint8(0), (1280, 1280))


def test_25_images_of_the_seed_fit():
    """Prove that 25 squares of 1280 fit 30,720 tokens and the 26th does not."""
    request = qp.fit([SQUARE] * 25)
    assert len(request.items) == 25
    assert request.image_tokens == 30_675
    assert request.template_tokens == 19
    assert request.total == 30_694
    assert request.limit == 30_720
    assert request.remaining == 25
    with pytest.raises(BudgetError) as caught:
        qp.fit([SQUARE] * 26)
    assert caught.value.needed == 31_921
    assert caught.value.limit == 30_720
    assert caught.value.fits == 25
    assert qp.count_fitting([1227] * 100) == 25


def test_14_images_in_high_resolution_fit():
    """Prove that 14 squares of 1280 fit in high resolution and the 15th does not."""
    request = qp.fit([SQUARE] * 14, high_resolution=True)
    assert request.total == 29_671
    with pytest.raises(BudgetError) as caught:
        qp.fit([SQUARE] * 15, high_resolution=True)
    assert (caught.value.needed, caught.value.fits) == (31_789, 14)
    assert qp.count_fitting([2118] * 100) == 14


def test_the_total_stays_below_the_limit():
    """Prove that 25 digits, a token each, fit beside 25 images and 26 do not."""
    request = qp.fit([SQUARE] * 25, text="1" * 25)
    assert request.total == 30_719
    assert request.remaining == 0
    with pytest.raises(BudgetError) as caught:
        qp.fit([SQUARE] * 25, text="1" * 26)
    assert caught.value.needed == 30_720
    assert caught.value.fits == 24
    # Tokens that are known count alike, and so does the reserve.
    assert qp.fit([SQUARE] * 25, text=25).total == 30_719
    assert qp.fit([SQUARE] * 25, text=8, reserve=17).total == 30_719
    with pytest.raises(BudgetError):
        qp.fit([SQUARE] * 25, text=26)
    with pytest.raises(BudgetError):
        qp.fit([SQUARE] * 25, text=8, reserve=18)


def test_text_alone_is_held_against_the_limit():
    """Prove that a text without images is checked, at the limit and above."""
    assert qp.fit([], text=30_700).total == 30_719
    for text in (30_701, "1" * 40_000):
        with pytest.raises(BudgetError) as caught:
            qp.fit([], text=text)
        assert caught.value.fits == 0
        assert caught.value.items == ()
    assert caught.value.needed == 40_019


def test_no_images_and_no_text_fit():
    """Prove that an empty request takes its template and nothing else."""
    request = qp.fit([])
    assert request.items == ()
    assert (request.total, request.remaining) == (19, 30_700)


def test_refusal_carries_its_arithmetic():
    """Prove that the numbers of a refusal add up and stand in its message."""
    small = np.broadcast_to(np.uint8(0), (512, 512))  # 326 tokens
    with pytest.raises(BudgetError) as caught:
        qp.fit([SQUARE] * 24 + [small] * 5, text="1" * 100, reserve=20)
    error = caught.value
    assert error.items == (("pixels", 1227),) * 24 + (("pixels", 326),) * 5
    assert error.needed == 24 * 1227 + 5 * 326 + 100 + 19 + 20
    assert error.needed == 31_217
    assert error.limit == 30_720
    # 29,448 + 139 leave 1,132 below the limit: three of 326.
    assert error.fits == 27
    for number in (
        "30,720",
        "31,217",
        "29 images with 31,078",
        "text with 100",
        "template 19",
        "reserve 20",
        "first 27",
    ):
        assert number in str(error)
    assert isinstance(error, ValueError)


def test_tiny_images_stop_at_the_model_s_count():
    """Prove that qwen3-vl-plus takes 256 images, whatever they cost, 250 of ours."""
    tiny = np.broadcast_to(np.uint8(0), (16, 16))  # 64 tokens and two markers
    # What is prepared here goes as data URIs, and of those it takes fewer.
    request = qp.fit([tiny] * 250, model="qwen3-vl-plus")
    assert request.total == 250 * 66 + 17
    for count in (251, 257):
        with pytest.raises(BudgetError, match="at most 250 images") as caught:
            qp.fit([tiny] * count, model="qwen3-vl-plus")
        assert caught.value.fits == 250
        assert caught.value.needed == count * 66 + 17
        assert caught.value.needed < caught.value.limit
    model = qp.get_model("qwen3-vl-plus")
    with pytest.raises(BudgetError, match="at most 250 images a request as data"):
        fit_items([("a", 66)] * 251, model=model)
    addresses = fit_items([("a", 66)] * 256, model=model, as_addresses=True)
    assert addresses.total == 256 * 66 + 17
    with pytest.raises(BudgetError, match=r"at most 256 images a request\. ") as caught:
        fit_items([("a", 66)] * 257, model=model, as_addresses=True)
    assert caught.value.fits == 256
    assert qp.count_fitting([1] * 1000, model=model, as_addresses=True) == 256
    assert qp.count_fitting([1] * 1000, model=model) == 250
    # The seed's models know no such count.
    assert qp.count_fitting([1] * 1000) == 1000


def test_count_fitting_counts_from_the_first():
    """Prove that counting stops at the first image that does not fit."""
    assert qp.count_fitting([]) == 0
    assert qp.count_fitting([30_719, 1]) == 1
    assert qp.count_fitting([30_720, 1]) == 0
    assert qp.count_fitting([10, 30_720, 1]) == 1
    assert qp.count_fitting([1227] * 25, taken=44) == 25
    assert qp.count_fitting([1227] * 25, taken=45) == 24
    assert qp.count_fitting([1], taken=40_000) == 0


@pytest.mark.parametrize("count", [249, 250, 251, 255, 257])
@pytest.mark.parametrize("model", ["qwen3-vl-plus", "qwen-vl-max"])
def test_all_ways_to_count_agree(count, model):
    """Prove that counts, sizes and pictures meet the same limits."""
    profile = qp.get_model(model)
    picture = np.broadcast_to(np.uint8(0), (64, 64))
    each = qp.plan(picture, model=model).tokens
    fits = qp.count_fitting([each] * count, model=model, taken=profile.template_tokens)
    for way in (
        lambda: qp.fit([picture] * count, model=model),
        lambda: fit_items([("a", each)] * count, model=profile),
        lambda: qp.fit_sizes([64] * count, [64] * count, model=model),
    ):
        if fits == count:
            way()
            continue
        with pytest.raises(BudgetError) as caught:
            way()
        assert caught.value.fits == fits


@pytest.mark.parametrize(
    ("tokens", "taken", "wrong"),
    [
        ([-5, 3], 0, ValueError),
        ([40_000, -5], 0, ValueError),
        ([1.5], 0, TypeError),
        (["a"], 0, TypeError),
        ([True], 0, TypeError),
        (np.array([1.5]), 0, TypeError),
        ([5], -1, ValueError),
        ([5], 1.5, TypeError),
    ],
)
def test_count_fitting_checks_its_numbers(tokens, taken, wrong):
    """Prove that what is no number of tokens is told in our words."""
    with pytest.raises(wrong, match="Expected"):
        qp.count_fitting(tokens, taken=taken)
    if not taken:
        with pytest.raises(wrong, match="Expected"):
            fit_items([("a", one) for one in tokens], model=qp.get_model("qwen-vl-max"))


def test_messages_of_many_images_stay_short():
    """Prove that a message lists a few, and the error has all."""
    names = [f"{'folder/' * 20}{index}.png" for index in range(50)]
    with pytest.raises(ImagesRefusedError) as caught:
        qp.fit(names)
    assert len(str(caught.value)) <= 300
    assert "image 3: " in str(caught.value)
    assert "… 47 more" in str(caught.value)
    assert [name for _, name, _ in caught.value.refused] == names
    with pytest.raises(BudgetError) as told:
        fit_items([(name, 1_000) for name in names], model=qp.get_model("qwen-vl-max"))
    message = str(told.value)
    assert "/2.png 1,000, … 47 more)" in message
    assert "/3.png" not in message
    assert len(message) <= 450
    assert [name for name, _ in told.value.items] == names


def test_every_refused_image_is_carried():
    """Prove that all images are looked at, and each refused one is told by place."""
    long = np.broadcast_to(np.uint8(0), (11, 2300))
    missing = "no-such-file.png"
    with pytest.raises(ImagesRefusedError, match="3 of 5 images") as caught:
        qp.fit([SQUARE, long, missing, SQUARE, b"%PDF-1.7"])
    refused = caught.value.refused
    assert [index for index, _, _ in refused] == [1, 2, 4]
    assert refused[1][1] == missing
    assert isinstance(refused[0][2], IllegalImageError)
    assert isinstance(refused[1][2], SourceError)
    assert isinstance(refused[2][2], qp.QwenVLPrepError)
    for place in ("image 2: ", "image 3: ", "image 5: "):
        assert place in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_refused_images_are_named_without_their_secrets():
    """Used to name a signed address with its query, and pixels like each other."""
    signed = "https://example.org/cat.jpg?Signature=abc"
    long = np.broadcast_to(np.uint8(0), (11, 2300))
    for refuse in (qp.fit, qp.what_if):
        with pytest.raises(ImagesRefusedError) as caught:
            refuse([signed, "data:image/png;base64,!", b"%PDF-1.7"])
        names = [name for _, name, _ in caught.value.refused]
        assert names == ["https://example.org/cat.jpg", "image 2", "image 3"]
        assert "abc" not in str(caught.value)
    with pytest.raises(ImagesRefusedError) as caught:
        qp.fit([SQUARE, long])
    assert caught.value.refused[0][1] == "image 2"
    assert str(caught.value).startswith("1 of 2 images were refused: image 2: ")


def test_plans_and_prepared_images_are_counted_as_they_are():
    """Prove that a plan, its prepared image and its input count the same."""
    picture = np.zeros((600, 800, 3), np.uint8)
    plan = qp.plan(picture)
    prepared = qp.prepare(picture)
    request = qp.fit([picture, plan, prepared])
    # 600 × 800 becomes 588 × 812, that is 21 × 29 squares.
    assert [tokens for _, tokens in request.items] == [611, 611, 611]


def test_max_tokens_reaches_images_that_are_not_planned_yet():
    """Prove that a cap of one's own lowers what each image costs."""
    request = qp.fit([SQUARE] * 3, max_tokens=100)
    assert [tokens for _, tokens in request.items] == [102, 102, 102]


@pytest.mark.parametrize(
    ("planned", "asked"),
    [
        ({"model": "qwen3-vl-plus"}, {}),
        ({}, {"model": "qwen3-vl-plus"}),
        ({"model": "qwen-vl-max-latest"}, {}),
        ({"high_resolution": True}, {}),
        ({}, {"high_resolution": True}),
    ],
    ids=str,
)
def test_plans_for_something_else_are_refused(planned, asked):
    """Prove that a plan for another model or resolution is no count for this one."""
    plan = qp.plan(SQUARE, **planned)
    with pytest.raises(ValueError, match=r"Expected images planned for .* plan it"):
        qp.fit([plan], **asked)


@pytest.mark.parametrize("reserve", [-1, True, 1.0, "5", None])
def test_bad_reserve_is_refused(reserve):
    """Prove that a reserve that is no int of at least 0 is refused."""
    with pytest.raises((TypeError, ValueError), match=r"Expected .* for reserve"):
        qp.fit([], reserve=reserve)


@pytest.mark.parametrize("text", [True, 1.5, None, b"text", ["text"]])
def test_text_of_another_type_is_refused(text):
    """Prove that text has to be a string or a number of tokens."""
    with pytest.raises(TypeError, match="Expected a str or a number of tokens"):
        qp.fit([], text=text)


def test_negative_text_is_refused():
    """Prove that a number of text tokens below 0 is refused."""
    with pytest.raises(ValueError, match="Expected at least 0 text tokens"):
        qp.fit([], text=-1)


def test_unknown_model_is_refused():
    """Prove that no budget is made up for a model that is not known."""
    with pytest.raises(UnknownModelError):
        qp.fit([], model="qwen-vl-mx")
    with pytest.raises(UnknownModelError):
        qp.count_fitting([], model="qwen-vl-mx")


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("", 0),
        ("What is this?", 13),
        ("图中描绘的是什么景象?", 31),
        ("🦒", 4),
        ("\ud800", 3),  # half of a surrogate pair, as a broken client may send it
        (7, 7),
        (0, 0),
    ],
)
def test_text_is_bounded_by_its_bytes(text, bound):
    """Prove that text counts as its UTF-8 bytes, and a number as itself."""
    assert text_token_bound(text) == bound


def test_text_that_normalising_lengthens_is_bounded():
    """
    Prove that the bound holds for letters that normalising takes apart.

    The tokenizer normalises to NFC first; U+0344 (two bytes) became three tokens,
    and the bound was 2.
    """
    assert text_token_bound("\u0344") >= 3
    assert text_token_bound("\u0f4d" * 10) >= 50


def test_items_that_are_counted_already_fit_alike():
    """Prove that counted items are held against the same limit."""
    model = qp.get_model("qwen-vl-max")
    items = [("a", 30_000), ("b", 700)]
    assert fit_items(items, model=model).items == (("a", 30_000), ("b", 700))
    with pytest.raises(BudgetError) as caught:
        fit_items(items, model=model, reserve=1)
    assert caught.value.fits == 1


def test_request_plan_is_frozen_and_short():
    """Prove that a request's plan cannot be changed and shows itself in one line."""
    request = qp.fit([SQUARE] * 2, text="12345")
    assert repr(request) == (
        "<RequestPlan 2 images, 2,478 tokens, 28,241 left for qwen-vl-max>"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.reserve = 1  # type: ignore[misc]
