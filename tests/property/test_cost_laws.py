"""Laws of money: additive, monotone in a tier, Batch half, arrays as lists."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

import qwenvl_prep as qp

MODELS = st.sampled_from([one for one in qp.list_models() if one.prices is not None])
ANSWERS = st.integers(0, 100_000)


@st.composite
def requests(draw) -> tuple[qp.ModelProfile, list[int], list[int]]:
    """Draw requests of one model, many of them at the edges of its tiers."""
    model = draw(MODELS)
    most = model.max_input_tokens - 1
    edges = [tier.up_to for tier in model.prices.tiers if tier.up_to]
    near = [edge + step for edge in edges for step in (-1, 0, 1) if edge + step <= most]
    tokens = st.integers(0, most)
    if near:
        tokens |= st.sampled_from(near)
    given_ = draw(st.lists(tokens, max_size=30))
    made = draw(st.lists(ANSWERS, min_size=len(given_), max_size=len(given_)))
    return model, given_, made


def by_hand(model: qp.ModelProfile, given_: int, made: int) -> Fraction:
    """State the rule in fractions, with nothing of ours."""
    for tier in model.prices.tiers:
        if tier.up_to is None or given_ <= tier.up_to:
            return (
                given_ * Fraction(tier.input) + made * Fraction(tier.output)
            ) / 1_000_000
    raise AssertionError


@given(requests())
@example((qp.get_model("qwen3-vl-plus"), [32_768, 32_769], [1, 1]))
def test_money_is_exact(drawn):
    """Prove that the amount is that of fractions, to the last digit."""
    model, given_, made = drawn
    wanted = sum((by_hand(model, *one) for one in zip(given_, made, strict=True)), 0)
    assert Fraction(qp.cost_many(given_, made, model=model).total) == wanted


@given(requests())
def test_arrays_cost_what_lists_cost(drawn):
    """Prove that NumPy's way gives the same value, tier by tier."""
    model, given_, made = drawn
    assert qp.cost_many(np.array(given_, int), np.array(made, int), model=model) == (
        qp.cost_many(given_, made, model=model)
    )


@given(requests())
def test_money_is_additive(drawn):
    """Prove that many requests cost what they cost one by one, in any order."""
    model, given_, made = drawn
    whole = qp.cost_many(given_, made, model=model)
    ones = [qp.cost(*one, model=model) for one in zip(given_, made, strict=True)]
    empty = qp.cost_many([], model=model)
    assert sum(ones, empty) == sum(ones[::-1], empty) == whole
    assert sum((one.total for one in ones), Decimal(0)) == whole.total
    assert whole.total == whole.input_cost + whole.output_cost


@given(requests())
def test_batch_is_exactly_its_share(drawn):
    """Prove that Batch costs half: the factor of the profile, without rounding."""
    model, given_, made = drawn
    whole = qp.cost_many(given_, made, model=model).total
    batch = qp.cost_many(given_, made, model=model, batch=True).total
    assert Fraction(batch) == Fraction(whole) * Fraction(model.prices.batch_factor)


@given(requests(), st.integers(1, 1000), st.integers(1, 1000))
def test_more_tokens_cost_more(drawn, more_in, more_out):
    """Prove that money grows with the tokens, within a tier and across."""
    model, given_, made = drawn
    for tokens, answer in zip(given_[:5], made[:5], strict=True):
        one = qp.cost(tokens, answer, model=model)
        assert qp.cost(tokens, answer + more_out, model=model).total > one.total
        if tokens + more_in < model.max_input_tokens:
            more = qp.cost(tokens + more_in, answer, model=model)
            assert more.total > one.total


@given(MODELS, st.integers(0, 5000), ANSWERS, st.integers(0, 50))
def test_repeating_is_multiplying(model, tokens, answer, times):
    """Prove that requests=n is n times one, at one's tier."""
    one = qp.cost(tokens, answer, model=model)
    many = qp.cost(tokens, answer, model=model, requests=times)
    assert many.total == one.total * times
    assert many.tiers == (one.tiers if times else ())
