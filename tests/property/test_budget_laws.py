"""Laws of the budget: nothing is dropped, and what fits is below the limit."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep.budget import fit_items
from qwenvl_prep.errors import BudgetError
from qwenvl_prep.text_tokens import text_token_bound

MODELS = st.sampled_from(qp.list_models())
TEXTS = st.one_of(st.integers(0, 40_000), st.text(max_size=200))
RESERVES = st.integers(0, 2_000)


@functools.cache
def plan_of(height: int, width: int, model: str) -> qp.ImagePlan:
    """Plan an image of which only the size matters."""
    return qp.plan(np.broadcast_to(np.uint8(0), (height, width)), model=model)


@st.composite
def requests(draw) -> tuple[list[qp.ImagePlan], qp.ModelProfile]:
    """Draw plans for one model, from one token's size to the cap."""
    model = draw(MODELS)
    sizes = draw(
        st.lists(
            st.sampled_from([(16, 16), (300, 500), (512, 512), (720, 1280), (2000, 99)])
            | st.just((1280, 1280)),
            max_size=60,
        )
    )
    return [plan_of(*size, model.name) for size in sizes], model


ITEMS = st.lists(
    st.tuples(st.text("abc", max_size=3), st.integers(4, 16_386)), max_size=300
)


@given(request=requests(), text=TEXTS, reserve=RESERVES)
def test_a_fitted_request_is_below_the_limit(request, text, reserve):
    """Prove that what is handed back is below the maximum, and what is refused not."""
    plans, model = request
    needed = sum(plan.tokens for plan in plans) + reserve
    needed += qp.count_text_tokens(text, model=model)
    needed += model.template_tokens
    try:
        fitted = qp.fit(plans, model=model, text=text, reserve=reserve)
    except BudgetError:
        assert needed >= model.max_input_tokens
    else:
        assert fitted.total == needed
        assert fitted.total < fitted.limit == model.max_input_tokens
        assert fitted.remaining == fitted.limit - 1 - needed
        assert fitted.remaining >= 0


@given(request=requests(), text=st.integers(0, 1000))
def test_nothing_is_dropped(request, text):
    """Prove that every image handed in is an item handed out, in order."""
    plans, model = request
    expected = tuple((plan.name, plan.tokens) for plan in plans)
    try:
        items = qp.fit(plans, model=model, text=text).items
    except BudgetError as exc:
        items = exc.items
    assert tuple(items) == expected


def refusal_of(items, model, **more) -> BudgetError | None:
    """Give the refusal of these items, or None where they fit."""
    try:
        fit_items(items, model=model, **more)
    except BudgetError as exc:
        return exc
    return None


@given(items=ITEMS, model=MODELS, text=TEXTS, reserve=RESERVES)
def test_refusal_adds_up(items, model, text, reserve):
    """Prove that a refusal's sum is that of its parts, and its count the largest."""
    taken = qp.count_text_tokens(text, model=model) + model.template_tokens + reserve
    allowed = model.max_images or len(items)
    more = {"text": text, "reserve": reserve}
    refusal = refusal_of(items, model, **more)
    if refusal is None:
        assert sum(tokens for _, tokens in items) + taken < model.max_input_tokens
        assert len(items) <= allowed
        return
    assert refusal.needed == sum(tokens for _, tokens in refusal.items) + taken
    assert list(refusal.items) == items
    assert refusal.limit == model.max_input_tokens
    assert 0 <= refusal.fits <= min(len(items), allowed)
    if refusal.fits:
        assert refusal_of(items[: refusal.fits], model, **more) is None
    if items:
        assert refusal_of(items[: refusal.fits + 1], model, **more) is not None


@given(items=ITEMS, more=st.integers(4, 16_386), model=MODELS)
def test_adding_an_image_never_lowers_the_total(items, more, model):
    """Prove that one more image adds its tokens and never mends a refused request."""
    fewer, extended = outcome(items, model), outcome([*items, ("more", more)], model)
    assert extended[1] == fewer[1] + more
    assert fewer[0] or not extended[0]


@given(items=ITEMS, model=MODELS, seed=st.integers(0, 99), text=st.integers(0, 5000))
def test_order_does_not_matter(items, model, seed, text):
    """Prove that a request fits, and costs the same, in whatever order."""
    shuffled = random.Random(seed).sample(items, len(items))
    assert outcome(items, model, text=text) == outcome(shuffled, model, text=text)


def outcome(items, model, **more) -> tuple[bool, int]:
    """Tell whether items fit, and their total."""
    try:
        return True, fit_items(items, model=model, **more).total
    except BudgetError as exc:
        return False, exc.needed


@given(
    tokens=st.lists(st.integers(4, 16_386), max_size=300),
    taken=st.integers(0, 300_000),
    model=MODELS,
)
def test_count_fitting_is_the_longest_beginning(tokens, taken, model):
    """Prove that the images counted fit and that one more would not."""
    fits = qp.count_fitting(tokens, model=model, taken=taken)
    allowed = model.max_images or len(tokens)
    if fits:
        assert sum(tokens[:fits]) + taken < model.max_input_tokens
        assert fits <= allowed
    if fits < len(tokens):
        above = sum(tokens[: fits + 1]) + taken >= model.max_input_tokens
        assert above or fits == allowed


@pytest.fixture(scope="module")
def encode():
    """Give the encoder of the provider's own tokenizer, from its SDK."""
    dashscope = pytest.importorskip("dashscope")
    pytest.importorskip("tiktoken")
    from dashscope.tokenizers.qwen_tokenizer import QwenTokenizer

    ranks = Path(dashscope.__file__).parent / "resources" / "qwen.tiktoken"
    tokenizer = QwenTokenizer(str(ranks))
    return lambda text: tokenizer.encode(text, allowed_special=set())


@settings(max_examples=1000)
@given(text=st.text(max_size=60))
@example(text="图中描绘的是什么景象?")
@example(text="\u0344")  # NFC takes it apart: 2 bytes, 3 tokens
@example(text="\u0f4d")  # 3 bytes, 5 tokens
@example(text="\U0001d160")  # a note with stem and flag: 4 bytes
@example(text="\n\n\n   \t")
@example(text="<|im_start|>")
def test_text_never_has_more_tokens_than_its_bound(encode, text):
    """Prove that the bound of a text is not below its tokens by the real tokenizer."""
    assert len(encode(text)) <= text_token_bound(text)


def test_no_letter_has_more_tokens_than_its_bound(encode):
    """Prove the same for every character of the two planes that hold scripts."""
    letters = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    broken = [
        f"U+{ord(letter):04X}"
        for letter in letters
        if len(encode(letter)) > text_token_bound(letter)
    ]
    assert broken == []
