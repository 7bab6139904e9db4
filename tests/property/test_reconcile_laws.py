"""Laws of reconciling: a bill made by a published rule is known again."""

from __future__ import annotations

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep.billed_rule import CountRule, rule_of
from qwenvl_prep.bills import Bill, read_bill

MODELS = st.sampled_from(qp.list_models())
SIDES = st.integers(11, 6000)
SIZES = st.tuples(SIDES, SIDES).filter(lambda size: max(size) <= 200 * min(size))
REQUESTS = st.lists(st.lists(SIZES, min_size=1, max_size=4), min_size=1, max_size=6)


def billed(rule: CountRule, sizes, model: str) -> Bill:
    """Give the bill that a server counting by this rule sends."""
    tokens = rule.tokens(sizes)
    return Bill(
        model=model,
        sizes=tuple(sizes),
        usage=qp.Usage(tokens + 40, 9, tokens),
    )


@given(MODELS, REQUESTS)
def test_a_model_s_own_bills_agree(model, requests):
    """Prove that bills by a model's rule are exact and need no correction."""
    told = qp.reconcile([billed(rule_of(model), one, model.name) for one in requests])
    assert told.is_exact
    assert told.models[0].corrections == ()
    assert told.models[0].drift == 0


@given(MODELS, MODELS, REQUESTS)
@settings(deadline=None, max_examples=60)
def test_another_family_s_bills_are_recognised(named, real, requests):
    """Prove that bills by another family name it, and mend the prediction."""
    rule = rule_of(real)
    bills = [billed(rule, one, named.name) for one in requests]
    told = qp.reconcile(bills)
    (mine,) = told.models
    if told.is_exact:  # these sizes do not tell the two apart
        assert mine.corrections == ()
        return
    assert rule in {one.rule for one in mine.corrections}
    for one in mine.corrections:
        assert one.is_complete
        assert qp.reconcile(bills, model=named.replace(**one.changes)).is_exact
    alike = {name for one in mine.corrections for name in one.alike}
    assert real.name in alike


@given(
    st.sampled_from((28, 32)),
    st.integers(64, 16_384),
    st.sampled_from((0, 1, 2)),
    REQUESTS,
)
@settings(deadline=None, max_examples=40)
@example(28, 64, 0, [[(11, 11)]])
@example(32, 100, 2, [[(1365, 2048)], [(5000, 40)]])
def test_any_cap_is_found_again(factor, cap, markers, requests):
    """Prove that bills by a cap nobody published are explained, to the token."""
    rule = CountRule(factor, 4 * factor**2, cap * factor**2, markers)
    bills = [billed(rule, one, "qwen-vl-max") for one in requests]
    told = qp.reconcile(bills)
    if not told.is_exact:
        found = told.models[0].corrections
        assert found
        known = qp.get_model("qwen-vl-max")
        for one in found:
            assert one.is_complete
            assert qp.reconcile(bills, model=known.replace(**one.changes)).is_exact


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "usage",
                    "model",
                    "sizes",
                    "prompt_tokens",
                    "completion_tokens",
                    "prompt_tokens_details",
                    "image_tokens",
                    "billed_input_tokens",
                    "billed_image_tokens",
                    "predicted_image_tokens",
                    "response",
                    "body",
                    "custom_id",
                    "error",
                    "code",
                    "height",
                    "width",
                    "text_tokens",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=15,
)


RECORDS = VALUES.filter(lambda value: not isinstance(value, str) or value.strip())


@given(st.lists(RECORDS, max_size=4))
@settings(deadline=None)
def test_no_record_stops_the_others(values):
    """Prove that whatever a log holds, each record is told and nothing is raised."""
    good = billed(rule_of(qp.get_model("qwen-vl-max")), [(512, 512)], "qwen-vl-max")
    told = qp.reconcile([*values, good])
    assert len(told.checks) == len(values) + 1
    assert told.checks[-1].status == "exact"
    for value, check in zip(values, told.checks, strict=False):
        assert (check.status == "unreadable") == bool(check.bill.problem)
        assert (check.drift is None) or check.billed_image_tokens is not None
        try:
            line = json.dumps(value)
        except ValueError:  # an integer with more digits than are converted
            continue
        if isinstance(value, dict) and "nan" not in line.lower():
            assert read_bill(line) == read_bill(value)


@given(REQUESTS, st.lists(st.integers(-500, 500), min_size=6, max_size=6))
def test_totals_are_sums(requests, drifts):
    """Prove that a model's drift is the sum of its requests' drifts."""
    model = qp.get_model("qwen-vl-max")
    bills = []
    for sizes, drift in zip(requests, drifts, strict=False):
        wanted = rule_of(model).tokens(sizes)
        tokens = max(0, wanted + drift)
        bills.append(
            Bill(
                model=model.name,
                usage=qp.Usage(tokens + 40, 9, tokens),
                predicted_image_tokens=wanted,
            )
        )
    told = qp.reconcile(bills)
    (mine,) = told.models
    assert mine.drift == sum(check.drift for check in told.checks)
    assert sum(times for _, times in mine.drifts) == len(bills)
    assert len(told.drifted) == sum(bool(check.drift) for check in told.checks)
