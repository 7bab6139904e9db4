"""Requests of as many images as go in: every limit, groups, refusals, real bodies."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep.errors import BudgetError
from qwenvl_prep.split import body_byte_bound, known_data_uri_bytes, split_requests

# 1227 tokens by default, 2118 in high resolution.
SQUARE = np.broadcast_to(np.uint8(0), (1280, 1280))
NASTY = 'quote " back \\ slash / tab \t nul \0 图 é 🦒 \u2028 <script>'


def sizes(requests) -> list[int]:
    """Give how many images each request has."""
    return [len(one) for one in requests]


def test_the_seed_s_figures_fill_a_request():
    """Prove that 25 squares of 1280 go into a request, and 14 in high resolution."""
    assert sizes(split_requests([1227] * 60)) == [25, 25, 10]
    assert sizes(split_requests([2118] * 30)) == [14, 14, 2]
    assert split_requests([1227] * 26) == (range(25), range(25, 26))


def test_the_sum_stays_below_the_limit():
    """Prove that 44 tokens beside 25 images go in, and that 45 push one out."""
    assert sizes(split_requests([1227] * 25, taken=44)) == [25]
    assert sizes(split_requests([1227] * 25, taken=45)) == [24, 1]
    assert sizes(split_requests([30_719, 30_719])) == [1, 1]


def test_no_images_are_no_requests():
    """Prove that nothing is made of nothing, however it is given."""
    assert split_requests([]) == ()
    assert split_requests([], keys=[], names=[], data_uri_bytes=[]) == ()
    assert split_requests(np.zeros(0, np.int64)) == ()


def test_images_that_cost_nothing_stay_with_the_others():
    """Prove that an image of 0 tokens, a refused one in a table, opens no request."""
    assert sizes(split_requests([30_719, 0, 0, 1])) == [3, 1]


def test_counts_of_images_and_data_uris_are_kept():
    """Prove that 250 images go as data URIs, and 256 where some are addresses."""
    model = qp.get_model("qwen3-vl-plus")
    assert (model.max_images, model.max_data_uris) == (256, 250)
    assert sizes(split_requests([66] * 600, model=model)) == [250, 250, 100]
    addresses = [None] * 600
    cut = split_requests([66] * 600, model=model, data_uri_bytes=addresses)
    assert sizes(cut) == [256, 256, 88]
    mixed = [None] * 6 + [0] * 251
    cut = split_requests([66] * 257, model=model, data_uri_bytes=mixed)
    assert sizes(cut) == [256, 1]


def test_bytes_of_the_body_are_kept():
    """Prove that known lengths fill a body, unknown ones do not, text counts too."""
    model = qp.get_model("qwen-vl-max").replace(max_body_bytes=1_000_000)
    lengths = [300_000] * 7
    cut = split_requests([66] * 7, model=model, data_uri_bytes=lengths)
    assert sizes(cut) == [3, 3, 1]
    cut = split_requests([66] * 7, model=model, data_uri_bytes=[0] * 7)
    assert sizes(cut) == [7]
    cut = split_requests(
        [66] * 7, model=model, data_uri_bytes=lengths, body_bytes=200_000
    )
    assert sizes(cut) == [2, 2, 2, 1]
    with pytest.raises(BudgetError, match=r"alone take 1,[0-9,]+; shorten the text"):
        split_requests([66], model=model, body_bytes=1_000_000)


def test_images_with_one_key_stay_together():
    """Prove that a request ends only where the key changes."""
    tokens = [10_000] * 6
    assert split_requests(tokens, keys=list("aabbcc")) == (
        range(2),
        range(2, 4),
        range(4, 6),
    )
    assert sizes(split_requests(tokens, keys=list("aaabbb"))) == [3, 3]
    # 3 would fit the first request, but two of them belong to the next.
    assert sizes(split_requests(tokens, keys=list("abbccd"))) == [3, 3]
    assert sizes(split_requests(tokens, keys=[1, 1, 2, 2, 2, 3])) == [2, 3, 1]


def test_images_without_a_key_stand_alone():
    """Prove that None is no group: it may be cut before, behind and between."""
    tokens = [10_000] * 6
    keys = [None, None, "a", "a", None, None]
    assert sizes(split_requests(tokens, keys=keys)) == [2, 3, 1]
    assert sizes(split_requests(tokens, keys=[None] * 6)) == [3, 3]


def test_a_key_that_comes_back_is_refused():
    """Prove that images that cannot stay together are told, not torn apart."""
    with pytest.raises(ValueError, match=r"the key 'a' comes back at image 3; sort"):
        split_requests([1, 1, 1], keys=["a", "b", "a"])
    with pytest.raises(ValueError, match="comes back at image 4"):
        split_requests([1] * 4, keys=[1, None, 2, 1])


def test_everything_too_large_is_named_at_once():
    """Prove that each group that fits no request stands in the error, with its sum."""
    with pytest.raises(BudgetError) as caught:
        split_requests(
            [1, 40_000, 20_000, 20_000, 5, 30_720],
            keys=["a", "b", "c", "c", "d", "e"],
            names=["a", "b", "c1", "c2", "d", "e"],
            taken=100,
        )
    error = caught.value
    assert error.groups == (range(1, 2), range(2, 4), range(5, 6))
    assert error.items == (
        ("b", 40_000),
        ("c1", 20_000),
        ("c2", 20_000),
        ("e", 30_720),
    )
    assert (error.needed, error.limit, error.fits) == (40_100, 30_720, 1)
    for part in (
        "image 2 (b) with 40,000 + 100 = 40,100 tokens",
        "images 3 to 4 (c1) together with 40,000 + 100 = 40,100 tokens",
        "image 6 (e) with 30,720 + 100 = 30,820 tokens",
        "fewer than 30,720 tokens",
    ):
        assert part in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.groups, str(again)) == (error.groups, str(error))


def test_a_refusal_names_the_limit_that_was_met():
    """Prove that counts and bytes are told as what they are, several at once."""
    model = qp.get_model("qwen3-vl-plus").replace(max_body_bytes=100_000)
    with pytest.raises(BudgetError) as caught:
        split_requests(
            [2_000] * 260,
            model=model,
            keys=["album"] * 260,
            data_uri_bytes=[1_000] * 260,
        )
    message = str(caught.value)
    for part in ("520,000 tokens", "260 images", "260 data URIs", "bytes. Lower"):
        assert part in message
    many = [40_000] * 12
    with pytest.raises(BudgetError, match=r"… 9 more\. Lower"):
        split_requests(many)


def test_text_that_leaves_no_room_is_told_once():
    """Prove that no image is blamed where text alone is too long."""
    for tokens in ([], [1, 2]):
        with pytest.raises(BudgetError, match="alone take 30,720") as caught:
            split_requests(tokens, taken=30_720)
        assert (caught.value.needed, caught.value.groups) == (30_720, ())
    with pytest.raises(BudgetError, match="image 1 with 1"):
        split_requests([1], taken=30_719)


@pytest.mark.parametrize(
    ("more", "error", "told"),
    [
        ({"tokens": [1, -1]}, ValueError, "at least 0 for tokens"),
        ({"tokens": [1.0]}, TypeError, "tokens"),
        ({"tokens": [True]}, TypeError, "tokens"),
        ({"tokens": ["1"]}, TypeError, "tokens"),
        ({"taken": -1}, ValueError, "taken"),
        ({"body_bytes": -1}, ValueError, "body_bytes"),
        ({"keys": ["a"]}, ValueError, "Expected 2 keys"),
        ({"names": ["a"]}, ValueError, "Expected 2 names"),
        ({"data_uri_bytes": [1]}, ValueError, "Expected 2 data_uri_bytes"),
        ({"data_uri_bytes": [1, -1]}, ValueError, "data_uri_bytes"),
        ({"data_uri_bytes": [1, 1.5]}, TypeError, "data_uri_bytes"),
    ],
    ids=str,
)
def test_mistakes_of_the_caller_are_plain_errors(more, error, told):
    """Prove that a wrong number or length is no refusal of images."""
    with pytest.raises(error, match=told) as caught:
        split_requests(**{"tokens": [1, 2], **more})
    assert not isinstance(caught.value, qp.QwenVLPrepError)


def test_columns_of_a_table_are_taken():
    """Prove that numpy's columns give what lists give, of 100,000 rows."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(66, 2500, 100_000)
    lengths = rng.integers(10_000, 1_000_000, 100_000)
    keys = np.arange(100_000) // 3
    model = qp.get_model("qwen3-vl-plus").replace(max_body_bytes=28_000_000)
    cut = split_requests(tokens, model=model, data_uri_bytes=lengths, keys=keys)
    assert cut == split_requests(
        tokens.tolist(),
        model=model,
        data_uri_bytes=lengths.tolist(),
        keys=keys.tolist(),
    )
    assert [index for one in cut for index in one] == list(range(100_000))


# ------------------------------------------------------------------------ real bodies


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
@pytest.mark.parametrize("ensure_ascii", [False, True])
def test_the_bound_of_a_body_holds_for_real_bodies(wire, ensure_ascii):
    """Prove that a body with everything switched on is below its bound, not far."""
    images = [
        qp.prepare(np.full((40 + index, 60, 3), index, np.uint8), model="qwen3-vl-plus")
        for index in range(6)
    ]
    history = [
        {"role": "user", "content": NASTY * 3},
        {"role": "assistant", "content": [{"type": "text", "text": NASTY}]},
    ]
    request = qp.chat_request(
        images,
        NASTY * 50,
        model="qwen3-vl-plus",
        wire=wire,
        system=NASTY,
        history=history,
        stream=True,
        high_resolution=False,
    )
    request["vl_high_resolution_images"] = True
    for message in request["messages"]:
        for part in message["content"]:
            if "image" in part or "image_url" in part:
                part |= {"min_pixels": 12_845_056, "max_pixels": 12_845_056}
    body = qp.http_body(request, wire=wire)
    real = len(json.dumps(body, ensure_ascii=ensure_ascii).encode())

    # The bound is what split_requests holds against the limit: the least limit that
    # takes these images in one request.
    texts = body_byte_bound(NASTY * 50, NASTY, NASTY * 3, NASTY)
    lengths = [known_data_uri_bytes(image) for image in images]
    assert lengths == [len(image.data_uri) for image in images]

    def takes(limit: int) -> bool:
        model = qp.get_model("qwen3-vl-plus").replace(max_body_bytes=limit)
        try:
            cut = split_requests(
                [66] * 6, model=model, data_uri_bytes=lengths, body_bytes=texts
            )
        except BudgetError:
            return False
        return len(cut) == 1

    bound = next(limit for limit in range(real - 2000, real + 20_000) if takes(limit))
    assert real <= bound
    if ensure_ascii:
        assert bound - real < 2_500


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
def test_a_long_history_is_bounded(wire):
    """Prove that what stands around each of many messages is in the bound."""
    history = [{"role": "assistant", "content": "a"}] * 300
    request = qp.chat_request(text="b", history=history, wire=wire)
    real = len(json.dumps(qp.http_body(request, wire=wire)))
    assert real <= body_byte_bound(*"a" * 300, "b") < 4 * real


def test_known_bytes_of_plans(photo, encoded):
    """Prove that kept bytes are known, those to be made are not, prepared ones are."""
    kept = encoded(photo, "JPEG")
    plan, prepared = qp.plan(kept), qp.prepare(kept)
    assert plan.is_kept
    assert known_data_uri_bytes(plan) == known_data_uri_bytes(prepared)
    assert known_data_uri_bytes(prepared) == len(prepared.data_uri)
    made = qp.plan(photo.resize((2000, 2000)))
    assert not made.is_kept
    assert known_data_uri_bytes(made) == 0


# ------------------------------------------------------------------ through the budget


def test_fit_splits_into_request_plans():
    """Prove that every request has its images, the whole text and the reserve."""
    requests = qp.fit([SQUARE] * 60, policy="split", text=5, reserve=20)
    assert [len(one.items) for one in requests] == [25, 25, 10]
    # 25 × 1227 + 19 + 25 is all there is, and one token more leaves room for 24.
    assert [one.total for one in requests] == [30_719, 30_719, 12_314]
    more = qp.fit([SQUARE] * 60, policy="split", text=5, reserve=21)
    assert [len(one.items) for one in more] == [24, 24, 12]
    assert all(one.text_tokens == 5 and one.reserve == 20 for one in requests)
    assert all(len(one.images) == len(one.items) for one in requests)
    assert all(one.total < one.limit for one in requests)


def test_fit_splits_what_fits_into_one():
    """Prove that what fits one request, or is text alone, is one."""
    (request,) = qp.fit([SQUARE] * 25, policy="split")
    assert request == qp.fit([SQUARE] * 25)
    (request,) = qp.fit([], policy="split", text=9)
    assert request == qp.fit([], text=9)
    with pytest.raises(BudgetError):
        qp.fit([], policy="split", text=30_720)


def test_fit_keeps_groups_and_names_those_too_large():
    """Prove that keys reach the split, and that a refusal names the images."""
    plans = [qp.plan(SQUARE)] * 40
    keys = ["a"] * 20 + ["b"] * 20
    requests = qp.fit(plans, policy="split", keys=keys)
    assert [len(one.items) for one in requests] == [20, 20]
    with pytest.raises(BudgetError, match=r"images 1 to 30 \(pixels\) together"):
        qp.fit(plans, policy="split", keys=["a"] * 30 + ["b"] * 10)
    with pytest.raises(ValueError, match="keys with policy='split' alone"):
        qp.fit(plans, keys=keys)
    with pytest.raises(ValueError, match="for policy"):
        qp.fit(plans, policy="squeeze")


def test_fit_counts_the_bytes_of_prepared_images():
    """Prove that the bodies of split requests are below the limit on both wires."""
    model = qp.get_model("qwen3-vl-plus").replace(max_body_bytes=60_000)
    noise = np.random.default_rng(3).integers(0, 256, (9, 60, 70, 3), np.uint8)
    images = [qp.prepare(one, model=model, encoding="png") for one in noise]
    assert sum(len(image.data_uri) for image in images) > 120_000
    requests = qp.fit(images, model=model, text=NASTY, policy="split")
    assert len(requests) > 2
    done = 0
    for request in requests:
        some = images[done : done + len(request.items)]
        done += len(some)
        for wire in ("openai", "dashscope"):
            built = qp.chat_request(some, NASTY, model=model, wire=wire)
            body = json.dumps(qp.http_body(built, wire=wire))
            assert len(body) <= 60_000
    assert done == len(images)
