"""Tokens turned into money: exact, by the tier of each request, with a date."""

from __future__ import annotations

import datetime as dt
import decimal
import pickle
from decimal import Decimal

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep.cost import money
from qwenvl_prep.errors import BudgetError, ModelFeatureError, UnknownPriceError
from qwenvl_prep.text_tokens import TextTokens, text_tokens_of

PLUS = "qwen3-vl-plus"
READ = dt.date(2026, 1, 31)


def prices(*tiers, factor=Decimal("0.5"), confidence="M") -> qp.Prices:
    """Give prices of our own: (up_to, input, output) each."""
    return qp.Prices(
        tiers=tuple(qp.PriceTier(up_to=u, input=i, output=o) for u, i, o in tiers),
        batch_factor=factor,
        currency="EUR",
        region="nowhere",
        source="a test",
        date=READ,
        confidence=confidence,
    )


def priced(*tiers, **more) -> qp.ModelProfile:
    return qp.get_model(PLUS).replace(name="ours", prices=prices(*tiers, **more))


# ------------------------------------------------------------------------ the amount


@pytest.mark.parametrize(
    ("model", "given", "made", "total"),
    [
        ("qwen-vl-max", 1227, 0, "0.003681"),
        ("qwen-vl-max", 1227, 100, "0.004581"),
        ("qwen-vl-plus", 1000, 1000, "0.006"),
        ("qwen-vl-max-2025-08-13", 100_000, 1000, "0.164"),
        ("qwen3-vl-flash", 20_000, 500, "0.00375"),
        (PLUS, 20_000, 500, "0.025"),
        (PLUS, 32_768, 0, "0.032768"),
        (PLUS, 32_769, 0, "0.0491535"),
        (PLUS, 131_072, 1, "0.196623"),
        (PLUS, 131_073, 1, "0.393249"),
        (PLUS, 260_095, 0, "0.780285"),
        (PLUS, 0, 0, "0"),
    ],
)
def test_amounts_written_out(model, given, made, total):
    """Prices of RULES: the whole request at the tier of its input, the edge inside."""
    assert qp.cost(given, made, model=model).total == Decimal(total)


def test_output_is_charged_at_the_tier_of_the_input():
    """A long input makes the same answer dearer."""
    short, long = qp.cost(100, 1000, model=PLUS), qp.cost(40_000, 1000, model=PLUS)
    assert (short.output_cost, long.output_cost) == (Decimal("0.01"), Decimal("0.015"))
    assert long.input_cost == Decimal("0.06")
    assert long.total == Decimal("0.075")


def test_many_small_requests_are_not_one_large():
    """A hundred requests of 20,000 tokens stay in the first tier."""
    made = qp.cost(20_000, 500, model=PLUS, requests=100)
    assert made.total == Decimal("2.5")
    assert [tier.up_to for tier in made.tiers] == [32_768]
    assert (made.requests, made.input_tokens, made.output_tokens) == (
        100,
        2_000_000,
        50_000,
    )


def test_batch_is_half():
    """Batch costs exactly half, however odd the amount."""
    made = qp.cost(33_333, 77, model=PLUS)
    assert qp.cost(33_333, 77, model=PLUS, batch=True).total * 2 == made.total


def test_a_float_price_means_its_digits():
    """0.1 is a tenth, though no float is."""
    made = qp.cost(3, 0, model=priced((None, 0.1, 0.3), factor=0.5))
    assert made.total == Decimal("0.0000003")


def test_the_caller_s_decimal_settings_change_nothing():
    """Somebody who rounds all decimals to three digits still gets the exact amount."""
    with decimal.localcontext() as context:
        context.prec = 3
        made = qp.cost(123_457, 1_234, model=PLUS)
        assert str(made.total) == "0.2036955"
        assert str(made.input_cost) == "0.1851855"


def test_it_tells_which_prices_it_used():
    """Currency, region, date, source and confidence stand beside every amount."""
    made = qp.cost(31_200, model=PLUS)
    known = qp.get_model(PLUS).prices
    assert repr(made) == f"<Cost 0.0312 CNY, qwen3-vl-plus at {known.date} prices>"
    assert made.currency == "CNY"
    assert made.region == known.region
    assert made.source == known.source
    assert made.confidence == known.confidence
    assert "for 2 requests, qwen3-vl-plus by Batch at" in repr(
        qp.cost_many([1, 2], model=PLUS, batch=True)
    )


def test_a_cost_is_a_value():
    """It can be compared, hashed, pickled, and not changed."""
    made = qp.cost(10, 20)
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(qp.cost(10, 20))
    with pytest.raises(AttributeError):
        made.model = "another"


def test_costs_add_up():
    """The sum of costs is the cost of the sum; other models do not add."""
    one, two = qp.cost(10, 20, model=PLUS), qp.cost(40_000, 1, model=PLUS)
    assert sum([one, two]) == qp.cost_many([10, 40_000], [20, 1], model=PLUS)
    assert (two + one).total == one.total + two.total
    with pytest.raises(ValueError, match="one model at the same prices"):
        one + qp.cost(10, 20)
    with pytest.raises(ValueError, match="one model at the same prices"):
        one + qp.cost(10, 20, model=PLUS, batch=True)
    with pytest.raises(TypeError):
        one + 1


# ------------------------------------------------------------------------- its doubts


def test_old_prices_are_said():
    """After a quarter of a year the date is no longer taken as good."""
    made = qp.cost(1, model=priced((None, 1, 1)))
    assert made.notes(READ) == ()
    assert made.notes(READ + dt.timedelta(92)) == ()
    (said,) = made.notes(READ + dt.timedelta(200))
    assert said.startswith("Prices of 2026-01-31 are 6 months old")
    assert any("2026" in one or "months" in one for one in made.notes())


def test_prices_that_sources_disagree_about_are_said():
    """Confidence L is told with the amount."""
    made = qp.cost(1, model=priced((None, 1, 1), confidence="L"))
    assert "not well known" in made.notes(READ)[0]


@pytest.mark.parametrize(
    ("tokens", "is_said"),
    [(32_000, False), (32_001, True), (32_768, True), (32_769, False)],
)
def test_the_width_of_a_k_is_said(tokens, is_said):
    """Between 32,000 and 32,768 tokens the price hangs on what K means."""
    day = qp.get_model(PLUS).prices.date
    for made in (
        qp.cost(tokens, model=PLUS),
        qp.cost_many([5, tokens], model=PLUS),
        qp.cost_many(np.array([5, tokens]), model=PLUS),
    ):
        said = [one for one in made.notes(day) if "32K" in one]
        assert bool(said) == is_said
        if said:
            assert said[0].startswith("1 request has more than 32,000")


# ----------------------------------------------------------------------- many at once


def test_each_request_has_its_own_tier():
    """Array, list and generator agree, with one answer or many."""
    given = [1, 32_768, 32_769, 200_000]
    made = qp.cost_many(given, 100, model=PLUS)
    assert made.input_cost == Decimal("0.6819225")
    assert made.output_cost == Decimal("0.0065")
    assert [(share.tier.up_to, share.requests) for share in made.shares] == [
        (32_768, 2),
        (131_072, 1),
        (262_144, 1),
    ]
    assert qp.cost_many(np.array(given), 100, model=PLUS) == made
    assert qp.cost_many(iter(given), iter([100] * 4), model=PLUS) == made
    assert qp.cost_many(np.array(given, np.uint32), [100] * 4, model=PLUS) == made
    assert qp.cost_many(given, np.full(4, 100, np.int16), model=PLUS) == made


@pytest.mark.parametrize("empty", [[], np.array([], int), np.array([])])
def test_nothing_costs_nothing(empty):
    """No request is no money."""
    made = qp.cost_many(empty, model=PLUS)
    assert (made.total, made.requests, made.shares) == (0, 0, ())
    assert qp.cost(5, model=PLUS, requests=0) == made


def test_sums_of_arrays_do_not_overflow():
    """Small integer types are summed as wide ones."""
    made = qp.cost_many(np.full(1000, 255, np.uint8), model=PLUS)
    assert made.input_tokens == 255_000


@pytest.mark.parametrize(
    ("given", "made", "error", "said"),
    [
        ([1, 2.5], 0, TypeError, "int"),
        ([1, True], 0, TypeError, "int"),
        (np.array([1.0]), 0, TypeError, "ints for input_tokens"),
        (np.array([True]), 0, TypeError, "ints for input_tokens"),
        ([1, -2], 0, ValueError, r"input_tokens\[1\]"),
        (np.array([1, -2]), 0, ValueError, "-2"),
        (np.array([[1]]), 0, ValueError, "one dimension"),
        (np.array([2**63], np.uint64), 0, ValueError, "input_tokens"),
        ([1], [1, 2], ValueError, "one length"),
        (np.array([1]), [1, 2], ValueError, "one length"),
        ([], -1, ValueError, "output_tokens"),
        (np.array([1]), [-1], ValueError, "output_tokens"),
        ([1], [1.5], TypeError, "output_tokens"),
    ],
)
def test_wrong_numbers_are_refused(given, made, error, said):
    """What is no count of tokens is a mistake in the call."""
    with pytest.raises(error, match=said):
        qp.cost_many(given, made, model=PLUS)


@pytest.mark.parametrize(
    "words", [{"input_tokens": -1}, {"output_tokens": -1}, {"requests": -1}]
)
def test_negative_counts_are_refused(words):
    with pytest.raises(ValueError, match=next(iter(words))):
        qp.cost(**{"input_tokens": 1, **words})


# -------------------------------------------------------------------------- refusals


def test_a_model_without_prices_says_how_to_give_them():
    """The way out is in the message, and works."""
    bare = qp.get_model(PLUS).replace(name="qwen9", prices=None)
    with pytest.raises(UnknownPriceError, match=r"replace\(prices=Prices") as caught:
        qp.cost(10, model=bare)
    assert caught.value.model == "qwen9"
    assert isinstance(caught.value, LookupError)
    given = bare.replace(prices=prices((None, 2, 4)))
    assert qp.cost(10, 5, model=given).total == Decimal("0.00004")


@pytest.mark.parametrize("call", [qp.cost, lambda n, **k: qp.cost_many([0, n], **k)])
def test_more_than_one_request_can_take_is_refused(call):
    """A sum over many requests, mistaken for one, is not quietly charged as one."""
    with pytest.raises(BudgetError, match="several requests") as caught:
        call(30_720, model="qwen-vl-max")
    assert (caught.value.needed, caught.value.limit) == (30_720, 30_720)
    assert call(30_719, model="qwen-vl-max").total
    with pytest.raises(BudgetError, match="at index 1"):
        qp.cost_many(np.array([5, 10**9]), model=PLUS)


def test_an_input_above_the_last_tier_is_refused():
    """Where the price list ends before the model does, there is no price."""
    model = priced((100, 1, 1), (200, 2, 2))
    assert qp.cost(200, model=model).total == Decimal("0.0004")
    with pytest.raises(BudgetError):
        qp.cost(201, model=model)


def test_a_model_without_batch_says_so():
    model = priced((None, 1, 1), factor=None)
    with pytest.raises(ModelFeatureError, match="Batch"):
        qp.cost(1, model=model, batch=True)
    assert qp.cost(1, model=model).total


@pytest.mark.parametrize(
    "tiers",
    [
        [(200, 1, 1), (100, 1, 1)],
        [(None, 1, 1), (100, 1, 1)],
        [(100, 1, 1), (100, 1, 1)],
        [(None, -1, 1)],
        [(None, 1, float("nan"))],
        [(None, 1, float("inf"))],
    ],
)
def test_prices_that_make_no_sense_are_refused(tiers):
    with pytest.raises(ValueError, match="Expected"):
        qp.cost(1, model=priced(*tiers))


# ------------------------------------------------------------------------------ plans


def test_plans_are_priced():
    """A plan costs its images, text, template and reserve."""
    pictures = [np.zeros((1280, 1280), np.uint8)]
    one = qp.fit(pictures, reserve=40, text=7)
    assert one.total == 1227 + 7 + 19 + 40
    two = qp.fit(pictures * 2)
    assert qp.cost_of(one, 100) == qp.cost(one.total, 100)
    assert qp.cost_of([one, two], [1, 2]) == qp.cost_many(
        [one.total, two.total], [1, 2]
    )
    assert qp.cost_of(iter([one]), batch=True).total * 2 == qp.cost_of(one).total
    other = qp.fit(pictures, model=PLUS)
    with pytest.raises(ValueError, match="one model"):
        qp.cost_of([one, other])
    with pytest.raises(ValueError, match="at least one plan"):
        qp.cost_of([])
    with pytest.raises(TypeError, match="RequestPlan"):
        qp.cost_of([1227])


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0.00"),
        ("0.0312", "0.0312"),
        ("0.03125", "0.03125"),
        ("0.5", "0.50"),
        ("1", "1.00"),
        ("12345.678", "12,345.68"),
        ("0.000000001", "0.00"),
    ],
)
def test_money_is_shown_to_four_digits(amount, shown):
    assert money(Decimal(amount)) == shown


# --------------------------------------------------------------------------- what if


def test_what_if_shows_the_choices():
    """Both resolutions, caps, models and Batch, the asked one first."""
    rows = qp.what_if(
        [(1280, 1280)] * 4,
        max_tokens=[600, 4000],
        models=[PLUS, "qwen-vl-plus"],
        text=10,
        output_tokens=50,
    )
    assert [(row.model.name, row.label) for row in rows] == [
        ("qwen-vl-max", "default cap"),
        ("qwen-vl-max", "high resolution"),
        ("qwen-vl-max", "up to 600 tokens an image"),
        ("qwen-vl-max", "up to 4,000 tokens, high res."),
        (PLUS, "default cap"),
        ("qwen-vl-plus", "default cap"),
        ("qwen-vl-max", "default cap by Batch"),
    ]
    # The worked table of RULES: 1227 and 2118 tokens.
    assert [row.image_tokens // 4 for row in rows[:2]] == [1227, 2118]
    template = qp.get_model("qwen-vl-max").template_tokens
    assert rows[0].input_tokens == 4 * (1227 + 10 + template)
    assert rows[0].cost == qp.cost(1227 + 10 + template, 50, requests=4)
    assert rows[2].image_tokens <= 4 * 602
    assert rows[3].high_resolution
    assert rows[-1].cost.total * 2 == rows[0].cost.total
    assert str(rows[0].cost.date) in repr(rows[0])


def test_what_if_counts_as_planning_does():
    """Every row's tokens are those of a plan with the same options."""
    pictures = [np.zeros(size, np.uint8) for size in ((1500, 900), (64, 80))]
    rows = qp.what_if(pictures, model=PLUS, max_tokens=[300])
    for row, options in zip(
        rows, ({}, {"high_resolution": True}, {"max_tokens": 300}), strict=False
    ):
        plans = [qp.plan(one, model=PLUS, **options) for one in pictures]
        assert row.image_tokens == sum(plan.tokens for plan in plans)


def test_what_if_takes_plans_headers_and_prepared_images():
    picture = np.zeros((300, 400), np.uint8)
    given = [
        picture,
        qp.plan(picture),
        qp.probe(picture),
        qp.prepare(picture),
        (300, 400),
    ]
    for one in given:
        assert qp.what_if([one])[0].image_tokens == qp.count_tokens(picture)


def test_what_if_together_is_one_request():
    """All in one request, and where they do not fit, why there is no price."""
    rows = qp.what_if([(1280, 1280)] * 20, together=True)
    assert (rows[0].requests, rows[0].images) == (1, 20)
    assert rows[0].input_tokens == 20 * 1227 + 19
    assert rows[1].cost is None
    assert "the first 14 of 20 images would" in rows[1].problem
    assert rows[1].problem in repr(rows[1])


def test_what_if_counts_the_text_for_each_model():
    """The question counts exactly where the model's vocabulary is known."""
    question = "这张图表现了什么内容?"
    rows = qp.what_if([(1280, 1280)] * 3, models=["qwen3.8-max"], text=question)
    later = next(row for row in rows if row.model.name == "qwen3.8-max")
    assert later.text == TextTokens(len(question.encode()), is_exact=False)
    for row in rows:
        assert row.text == text_tokens_of(question, model=row.model)
        taken = row.text.count + row.model.template_tokens
        assert row.input_tokens == row.image_tokens + 3 * taken
    if rows[0].text.is_exact:
        assert rows[0].input_tokens == 3 * (1227 + 7 + 19)
    # 24 images leave 1,252 tokens: what the text takes decides, as in fit.
    for text, is_priced in ((1_252, True), (1_253, False)):
        row = qp.what_if([(1280, 1280)] * 24, text=text, together=True)[0]
        assert (row.cost is not None) is is_priced
    with pytest.raises(TypeError, match="Expected a str or a number of tokens"):
        qp.what_if([(5, 5)], text=None)


@pytest.mark.parametrize("model", [PLUS, "qwen3.5-plus"])
def test_what_if_counts_text_as_fit_does(model):
    """Used to take the bound of a text whose tokens ``fit`` counts."""
    text = "What is in the picture? Answer in one word."
    picture = np.broadcast_to(np.uint8(0), (512, 512))
    row = qp.what_if([picture], model=PLUS, models=[model], text=text)[2]
    assert row.model.name == model
    assert row.input_tokens == qp.fit([picture], model=model, text=text).total


def test_what_if_tells_which_rows_go_by_batch():
    """Rows say it themselves, beside their label."""
    rows = qp.what_if([(512, 512)], model=PLUS)
    assert [row.is_batch for row in rows] == [False, False, True]
    assert all(row.is_batch for row in qp.what_if([(512, 512)], batch=True))


def test_what_if_names_what_cannot_be_asked():
    """An illegal picture is left out of the sums and named with its reason."""
    first = qp.what_if([(300, 8), (512, 512)])[0]
    assert (first.images, first.image_tokens) == (1, 326)
    assert first.refused[0][0] == "image 1"
    none = qp.what_if([(300, 8)])[0]
    assert none.cost is None
    assert none.problem == "no picture can be asked about"
    with pytest.raises(qp.errors.ImagesRefusedError):
        qp.what_if([b"no picture", (512, 512)])


def test_what_if_says_where_no_price_is_known():
    bare = qp.get_model(PLUS).replace(name="bare", prices=None)
    row = next(
        row for row in qp.what_if([(99, 99)], models=[bare]) if row.model is bare
    )
    assert (row.cost, row.problem) == (None, "no price is known")
    assert row.input_tokens > 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"max_tokens": [3]}, ValueError),
        ({"max_tokens": [0]}, ValueError),
        ({"output_tokens": -1}, ValueError),
        ({"models": ["qwen-nothing"]}, qp.errors.UnknownModelError),
        ({"model": "qwen-vl-plus", "high_resolution": True}, ModelFeatureError),
    ],
)
def test_what_if_refuses_wrong_calls(words, error):
    with pytest.raises(error):
        qp.what_if([(512, 512)], **words)


def test_what_if_wants_a_picture():
    with pytest.raises(ValueError, match="at least one image"):
        qp.what_if([])
    with pytest.raises(ValueError, match="at least 1"):
        qp.what_if([(0, 5)])


def test_any_number_that_python_reads_is_charged_exactly():
    many = 10**4_299
    assert qp.cost(1, many).output_cost == Decimal(9).scaleb(4_299 - 6)
    assert f"{qp.cost(1, many).total:f}" == f"{9 * 10**4_293}.000003"


def test_an_iterator_and_an_array_are_one_column_each():
    made = qp.cost_many(iter([1, 2]), np.array([3, 4]))
    assert (made.input_tokens, made.output_tokens) == (3, 7)
