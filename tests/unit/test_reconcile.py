"""Billed against predicted: every form of record, and rules that explain the bills."""

from __future__ import annotations

import dataclasses
import json
import pickle
import time

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep.billed_rule import CountRule, rule_of
from qwenvl_prep.bills import Bill, read_bill

# The published record of RULES: one image, billed live by two models.
PHOTO = (1365, 2048)


def usage(images, *, text=26, made=9) -> dict:
    """Give usage as the OpenAI wire does."""
    found = {"prompt_tokens": (images or 0) + text, "completion_tokens": made}
    if images is not None:
        found["prompt_tokens_details"] = {"image_tokens": images}
    return found


def record(images, size=PHOTO, model="qwen-vl-max", **more) -> dict:
    return {"model": model, "sizes": [list(size)], "usage": usage(images), **more}


# ---------------------------------------------------------------- published records


def test_the_record_of_the_28_pixel_family_agrees():
    """1365×2048 at 28/1280 was billed 1249."""
    told = qp.reconcile([record(1249)])
    assert told.is_exact
    assert told.checks[0].status == "exact"
    assert told.models[0].corrections == ()
    assert told.models[0].advice == ()


def test_the_record_of_the_32_pixel_family_agrees():
    """The same image was billed 2503 by qwen3.7-plus."""
    assert qp.reconcile([record(2503, model="qwen3.7-plus")]).is_exact


def test_a_bill_by_the_other_family_is_recognised():
    """2503 on a name that should bill 1249 is factor 32 with 2560 tokens."""
    told = qp.reconcile([record(2503)])
    assert not told.is_exact
    (check,) = told.drifted
    assert (check.predicted_image_tokens, check.drift) == (1249, 1254)
    found = told.models[0].corrections
    assert {one.rule.factor for one in found} == {32}
    assert {one.rule.max_pixels for one in found} == {2_621_440}
    assert any("qwen3.7-plus" in one.alike for one in found)
    mended = qp.get_model("qwen-vl-max").replace(**found[0].changes)
    assert qp.reconcile([record(2503)], model=mended).is_exact
    assert "factor=32" in told.models[0].advice[-1]
    assert "1 of 1 bill;" in told.models[0].advice[-1]


def test_a_bill_by_the_first_family_is_recognised():
    """1249 on a name of the new family is explained by 28/1280, among others."""
    found = qp.reconcile([record(1249, model="qwen3-vl-plus")]).models[0].corrections
    assert CountRule(28, 3_136, 1_003_520, 2) in {one.rule for one in found}
    # One size cannot tell all apart, and that is said.
    assert len(found) > 1
    advice = qp.reconcile([record(1249, model="qwen3-vl-plus")]).models[0].advice
    assert "do not tell" in advice[0]
    # Another size can.
    more = [record(1249, model="qwen3-vl-plus")]
    more.append(record(326, size=(512, 512), model="qwen3-vl-plus"))
    found = qp.reconcile(more).models[0].corrections
    assert {one.rule for one in found} == {CountRule(28, 3_136, 1_003_520, 2)}


def test_a_bill_without_markers_is_recognised():
    """The stale sample of 2024 bills 1247: the same rule without the two markers."""
    found = qp.reconcile([record(1247), record(324, size=(512, 512))])
    rules = {one.rule for one in found.models[0].corrections}
    assert CountRule(28, 3_136, 1_003_520, 0) in rules
    changes = [one.changes for one in found.models[0].corrections]
    assert {"marker_tokens": 0} in changes


def test_high_resolution_is_held_against_its_own_cap():
    """2118 for 1280×1280 is right with the flag and wrong without it."""
    size = (1280, 1280)
    high = record(2118, size=size, high_resolution=True)
    assert qp.reconcile([high]).is_exact
    plain = qp.reconcile([record(2118, size=size)])
    assert not plain.is_exact
    alike = {name for one in plain.models[0].corrections for name in one.alike}
    assert "qwen-vl-max with high resolution" in alike
    # The flag that did nothing: the cap under it is the default one.
    ignored = qp.reconcile([record(1227, size=size, high_resolution=True)])
    changes = [one.changes for one in ignored.models[0].corrections]
    assert {"high_resolution_pixels": 1_003_520} in changes


# ----------------------------------------------------------------- rules not published


@pytest.mark.parametrize("cap", [300, 768, 5000])
def test_a_cap_that_nobody_published_is_found(cap):
    """Bills by another cap give the range of caps that would do."""
    rule = CountRule(28, 3_136, cap * 784, 2)
    sizes = [(1365, 2048), (3000, 4000), (5000, 3001), (200, 300)]
    told = qp.reconcile([record(rule.tokens([size]), size=size) for size in sizes])
    found = [one for one in told.models[0].corrections if one.rule.factor == 28]
    assert found
    assert found[0].is_complete
    assert found[0].least_cap <= cap
    assert found[0].most_cap is None or found[0].most_cap >= cap
    assert all(found[0].rule.tokens([s]) == rule.tokens([s]) for s in sizes)


def test_many_images_in_a_request_are_summed():
    """The bill of a request is one number for all its images."""
    rule = rule_of(qp.get_model("qwen3-vl-plus"))
    sizes = [[100, 200], [1365, 2048], [3000, 500]]
    billed = rule.tokens(sizes)
    told = qp.reconcile([record(billed) | {"sizes": sizes}])
    assert {one.rule for one in told.models[0].corrections} >= {rule}


def test_one_wrong_bill_does_not_hide_the_rule():
    """Nine bills of one rule and one of none: the rule, and that it misses one."""
    rule = rule_of(qp.get_model("qwen3-vl-plus"))
    sizes = [(300 + 211 * step, 2000 - 131 * step) for step in range(9)]
    records = [record(rule.tokens([size]), size=size) for size in sizes]
    told = qp.reconcile([*records, record(7777)])
    (found,) = told.models[0].corrections
    assert (found.explained, found.bills, found.is_complete) == (9, 10, False)
    assert found.rule.factor == 32
    assert "9 of 10 bills" in found.sentence


def test_nonsense_gets_no_suggestion():
    """Numbers that no rule gives are said to be explained by none."""
    told = qp.reconcile([record(1249), record(1_000_003, size=(20, 20))])
    assert told.models[0].corrections == ()
    assert "No rule explains" in told.models[0].advice[0]


def test_without_sizes_it_says_what_is_missing():
    """Drift alone does not say which rule is behind it."""
    line = {"predicted_image_tokens": 5, "billed_input_tokens": 40}
    told = qp.reconcile([{**line, "billed_image_tokens": 9, "model": "qwen-vl-max"}])
    assert told.drifted[0].drift == 4
    assert told.models[0].corrections == ()
    assert "Add the sizes" in told.models[0].advice[0]


def test_an_unknown_model_is_likened_to_a_known_one():
    """A name without a profile is no error, and gets one to start from."""
    told = qp.reconcile([record(2503, model="qwen9-vl")])
    one = told.models[0]
    assert one.profile is None
    assert one.compared == ()
    found = one.corrections[0]
    mended = qp.get_model(found.base).replace(name="qwen9-vl", **found.changes)
    assert qp.reconcile([record(2503, model="qwen9-vl")], model=mended).is_exact
    assert "name='qwen9-vl'" in found.sentence


# -------------------------------------------------------------------- forms of records

WHOLE = {
    "id": "chatcmpl-1",
    "model": "qwen-vl-max",
    "choices": [{"message": {"content": "a cat"}}],
    "usage": usage(1249),
    "predicted_image_tokens": 1249,
}


@pytest.mark.parametrize(
    "given",
    [
        WHOLE,
        json.dumps(WHOLE),
        json.dumps(WHOLE).encode(),
        {
            "request_id": "r",
            "model": "qwen-vl-max",
            "predicted_image_tokens": 1249,
            "billed_image_tokens": 1249,
            "billed_input_tokens": 1275,
            "billed_output_tokens": 9,
        },
        {
            "custom_id": "c",
            "predicted_image_tokens": 1249,
            "response": {"status_code": 200, "body": WHOLE},
            "error": None,
        },
        {
            "request_id": "d",
            "output": {"choices": []},
            "model": "qwen-vl-max",
            "height": 1365,
            "width": 2048,
            "usage": {"input_tokens": 1275, "output_tokens": 9, "image_tokens": 1249},
        },
        {**usage(1249), "model": "qwen-vl-max", "sizes": [[1365, 2048]]},
        (1249, {**usage(1249), "model": "qwen-vl-max"}),
        Bill(
            model="qwen-vl-max",
            usage=qp.Usage(1275, 9, 1249),
            predicted_image_tokens=1249,
        ),
    ],
    ids=[
        "openai",
        "line",
        "bytes",
        "send",
        "batch",
        "dashscope",
        "bare",
        "pair",
        "bill",
    ],
)
def test_every_form_of_record_is_read(given):
    """Both wires, log lines, Batch results and bare usage say the same."""
    told = qp.reconcile([given])
    assert told.is_exact, told.checks
    bill = told.checks[0].bill
    assert bill.usage == qp.Usage(1275, 9, 1249)
    assert bill.model == "qwen-vl-max"


def test_plans_and_replies_are_pairs():
    """What was planned and what came back need nothing else."""
    picture = np.zeros(PHOTO, np.uint8)
    plan = qp.plan(picture)
    reply = qp.Reply("a cat", qp.Usage(1275, 9, 1249), "stop", "r-1")
    for planned in (plan, qp.fit([picture]), qp.prepare(picture)):
        told = qp.reconcile([(planned, reply)])
        assert told.is_exact
        assert told.checks[0].bill.name == "r-1"
        assert told.models[0].model == "qwen-vl-max"
    # The size that was sent, which the server counts, not that of the file.
    assert told.checks[0].bill.sizes == ((plan.height, plan.width),)
    other = qp.reconcile([(plan, qp.Usage(2600, 9, 2503))])
    assert other.drifted[0].drift == 1254


def test_model_fills_in_where_records_do_not_say():
    """The DashScope wire does not repeat the model's name."""
    bare = {"request_id": "d", "sizes": [PHOTO], "usage": {"input_tokens": 1275}}
    bare["usage"] |= {"output_tokens": 1, "image_tokens": 1249}
    unnamed = qp.reconcile([bare])
    assert unnamed.models[0].model == "unnamed"
    assert not unnamed.is_exact
    assert qp.reconcile([bare], model="qwen-vl-max").is_exact
    with pytest.raises(qp.errors.UnknownModelError):
        qp.reconcile([bare], model="qwen-nothing")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("not json", "is not JSON"),
        ("[1, 2, 3]", "is no record"),
        ("7", "is no record"),
        (None, "is no record"),
        ({}, "holds no usage"),
        ({"usage": None}, "holds no usage"),
        ({"usage": "much"}, "holds no usage"),
        ({"usage": {"prompt_tokens": "9", "completion_tokens": 1}}, "holds no usage"),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": "1"}}, "holds no usage"),
        ({"usage": {"prompt_tokens": "9"}}, "holds no usage"),
        ({"usage": {"prompt_tokens": -9, "completion_tokens": 1}}, "less than nothing"),
        ({"usage": usage(1249, text=-5)}, "more image tokens than input"),
        ({"error": {"message": "no such model"}}, "was refused: no such model"),
        ({"code": "Throttling", "message": ""}, "was refused: Throttling"),
        ({"custom_id": "c", "response": None, "error": {"code": "x"}}, "refused: x"),
        ({"custom_id": "c", "response": None}, "holds no usage"),
        ({"file": "a", "error": "SourceError", "message": "gone"}, "refused: gone"),
        (record(1249) | {"sizes": 3}, "no pairs"),
        (record(1249) | {"sizes": [[0, 5]]}, "no pairs"),
        (record(1249) | {"sizes": ["ab"]}, "no pairs"),
        (record(1249) | {"sizes": "ab"}, "no pairs"),
        ({"usage": usage(5), "height": 5}, "no pairs"),
        (("much", {"usage": usage(5)}), "no prediction"),
        (WHOLE | {"usage": {"billed": True}}, "holds no usage"),
    ],
)
def test_a_bad_record_is_named_and_hides_no_other(given, problem):
    """The record's own problem stands beside it; the next one is compared."""
    told = qp.reconcile([given, record(1249)])
    (bad,) = told.unreadable
    assert problem in bad.bill.problem
    assert bad.drift is None
    assert [check.status for check in told.checks] == ["unreadable", "exact"]
    assert told.is_exact
    assert told.models[-1].billed_image_tokens == 1249


def test_deep_json_is_a_bad_record():
    """A line nested beyond the parser's depth is refused, not a crash."""
    assert read_bill("[" * 100_000).problem == "is not JSON"


def test_missing_image_tokens_are_not_drift():
    """The server may leave them out; only what is impossible is drift."""
    told = qp.reconcile([record(None) | {"usage": usage(None, text=1275)}])
    assert told.checks[0].status == "unknown"
    assert not told.is_exact
    assert not told.drifted
    # 1249 tokens of images cannot be inside 600 of input.
    less = qp.reconcile([record(None) | {"usage": usage(None, text=600)}])
    assert less.checks[0].status == "drift"
    assert less.checks[0].drift is None


def test_zero_is_a_number():
    """No images predicted and none billed agree."""
    line = {"predicted_image_tokens": 0, "model": "qwen-vl-max", "usage": usage(0)}
    assert qp.reconcile([line]).is_exact
    assert not qp.reconcile([line | {"usage": usage(4)}]).is_exact


def test_odd_sizes_are_no_crash():
    """A ratio that the server refuses has no prediction."""
    told = qp.reconcile([record(50, size=(1, 5000)), record(1249)])
    assert [check.status for check in told.checks] == ["unknown", "exact"]


def test_a_size_beyond_all_numbers_hides_no_other():
    """Its area leaves 64 bits; the other bills still show the rule."""
    told = qp.reconcile([record(2503, size=(3 * 10**12, 3 * 10**12)), record(2503)])
    assert [check.status for check in told.checks] == ["unknown", "drift"]
    assert told.models[0].corrections[0].rule.factor == 32


def test_a_bill_without_a_batch_price_is_still_a_bill():
    known = qp.get_model("qwen3-vl-plus")
    prices = dataclasses.replace(known.prices, batch_factor=None)
    body = {"model": known.name, "usage": usage(2503)}
    told = qp.reconcile(
        [{"custom_id": "a", "response": {"body": body}}],
        model=known.replace(prices=prices),
    )
    assert told.checks[0].bill.is_batch
    assert told.models[0].costs == ()


def test_nothing_is_nothing():
    """An empty log is not a bill that agrees."""
    told = qp.reconcile(["", b"  \n"])
    assert (told.checks, told.models, told.is_exact) == ((), (), False)


@pytest.mark.parametrize("given", ["{}", b"{}", {}])
def test_one_record_alone_is_a_mistake(given):
    """A string would be read letter by letter, a mapping key by key."""
    with pytest.raises(TypeError, match="iterable of records"):
        qp.reconcile(given)


# -------------------------------------------------------------------- totals and money


def test_totals_of_each_model():
    """Models are summed by themselves; what cannot be compared is not in the sums."""
    told = qp.reconcile(
        [
            record(1249),
            record(1250),
            record(1250),
            record(None) | {"usage": usage(None, text=1275)},
            record(2503, model="qwen3.7-plus"),
        ]
    )
    first, second = told.models
    assert (first.model, second.model) == ("qwen-vl-max", "qwen3.7-plus")
    assert (len(first.checks), len(first.compared), len(first.drifted)) == (4, 3, 2)
    assert (first.predicted_image_tokens, first.billed_image_tokens) == (3747, 3749)
    assert first.drift == 2
    assert first.drifts == ((1, 2), (0, 1))
    assert second.is_exact
    assert not first.is_exact
    assert repr(told) == (
        "<Reconciliation of 5 records: 4 compared, 2 drifted, +2 tokens>"
    )
    assert "3 of 4 compared, 2 drifted, +2 tokens" in repr(first)


def test_the_template_is_what_is_left():
    """Input minus images minus known text is the chat template."""
    records = [record(1249) | {"text_tokens": 6, "usage": usage(1249, text=25)}] * 3
    one = qp.reconcile(records).models[0]
    assert (one.template.least, one.template.middle, one.template.most) == (19, 19, 19)
    assert one.template.requests == 3
    assert one.advice == ()
    longer = [line | {"usage": usage(1249, text=46)} for line in records]
    said = qp.reconcile(longer).models[0].advice
    assert "replace(template_tokens=40)" in said[0]
    assert qp.reconcile([record(1249)]).models[0].template is None


def test_the_bill_in_money():
    """Synchronous and Batch requests are priced by themselves."""
    line = record(1249)
    batch = {"custom_id": "c", "response": {"body": line}}
    told = qp.reconcile([line, line, batch])
    sync, half = told.models[0].costs
    assert sync == qp.cost(1275, 9, requests=2)
    assert half == qp.cost(1275, 9, batch=True)
    bare = qp.get_model("qwen-vl-max").replace(prices=None)
    assert qp.reconcile([line], model=bare).models[0].costs == ()
    # More than the profile allows was billed all the same.
    huge = qp.reconcile([line | {"usage": usage(1249, text=10**6)}])
    assert huge.models[0].costs == ()
    assert huge.is_exact


def test_a_check_is_told_in_one_short_line():
    """Used to show the whole record, and the profile in it."""
    told = qp.reconcile(
        [(1227, qp.Usage(1300, 5, 1230)), (1227, qp.Usage(1300, 5, None))]
    )
    assert [repr(one) for one in told.checks] == [
        "<BillCheck #1: drift, +3 tokens>",
        "<BillCheck #2: unknown>",
    ]


def test_usage_without_the_answer_is_compared():
    """Image tokens need no output tokens; these count 0 and are said to be unknown."""
    given = usage(1249)
    del given["completion_tokens"]
    told = qp.reconcile([record(1249) | {"usage": given}])
    assert told.is_exact
    (check,) = told.checks
    assert check.bill.usage == qp.Usage(1275, 0, 1249)
    assert not check.bill.is_output_known
    assert qp.reconcile([record(1249)]).checks[0].bill.is_output_known


def test_many_images_in_one_record_are_quick():
    """Equal sizes count once, and of many different ones the search is bounded."""
    same = record(700 * 10**5) | {"sizes": [PHOTO] * 10**5}
    other = record(700 * 10**4)
    other |= {"sizes": [[20 + n % 997, 30 + n % 991] for n in range(10**4)]}
    start = time.perf_counter()
    for one in (same, other):
        assert qp.reconcile([one]).models[0].corrections == ()
    assert time.perf_counter() - start < 5  # it took minutes
    right = record(1249 * 10**5, model="qwen3-vl-plus") | {"sizes": [PHOTO] * 10**5}
    rules = {one.rule for one in qp.reconcile([right]).models[0].corrections}
    assert CountRule(28, 3_136, 1_003_520, 2) in rules


def test_a_correction_cannot_be_changed():
    """It is a value: hashable, and its changes are read only."""
    (found, *_) = qp.reconcile([record(2503)]).models[0].corrections
    with pytest.raises(TypeError):
        found.changes["factor"] = 1
    assert hash(found) == hash(pickle.loads(pickle.dumps(found)))
    assert qp.get_model("qwen-vl-max").replace(**found.changes).factor == 32


def test_records_without_a_model_are_told_which_to_name():
    """No get_model(...) of a default model that nobody asked for."""
    bare = {name: value for name, value in record(2503).items() if name != "model"}
    (one,) = qp.reconcile([bare]).models
    named = one.corrections[0].alike[0]
    assert one.advice[-1].endswith(f"use model={named!r}")
    assert qp.reconcile([bare], model=named).is_exact
    assert one.table == ""
