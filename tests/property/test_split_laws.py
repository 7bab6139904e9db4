"""Laws of splitting: nothing lost or repeated, all within limits, as few as can be."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep.errors import BudgetError
from qwenvl_prep.split import body_byte_bound, split_requests

# Small numbers everywhere, so that every limit is met, and met exactly.
MODELS = st.builds(
    lambda tokens, images, uris, body: qp.get_model("qwen-vl-max").replace(
        max_input_tokens=tokens,
        max_images=images,
        max_data_uris=uris,
        max_body_bytes=body,
    ),
    tokens=st.integers(5, 30),
    images=st.none() | st.integers(1, 5),
    uris=st.none() | st.integers(1, 4),
    body=st.none() | st.integers(1_000, 3_000),
)


@st.composite
def tables(draw, most: int = 8) -> dict:
    """Draw the costs of some images, and which of them go together."""
    count = draw(st.integers(0, most))

    def column(values):
        return draw(st.lists(values, min_size=count, max_size=count))

    # Neighbours of one key: a new key, the key before, or none at all.
    keys, key = [], 0
    for step in column(st.sampled_from(["new", "same", "none"])):
        key += step != "same"
        keys.append(None if step == "none" else key)
    return {
        "tokens": column(st.integers(0, 12)),
        "taken": draw(st.integers(0, 6)),
        "data_uri_bytes": draw(st.none()) if draw(st.booleans()) else column(LENGTHS),
        "keys": keys if draw(st.booleans()) else None,
        "model": draw(MODELS),
    }


LENGTHS = st.none() | st.integers(0, 900)


def is_legal(table: dict, one: range) -> bool:
    """Tell whether these images fit one request, from the rules as they stand."""
    model = table["model"]
    lengths = table["data_uri_bytes"] or [0] * len(table["tokens"])
    some = [lengths[index] for index in one]
    total = table["taken"] + sum(table["tokens"][index] for index in one)
    body = 512 + 6 * len(model.name)
    body += sum(128 + (4096 if length is None else length) for length in some)
    return (
        total < model.max_input_tokens
        and (model.max_images is None or len(one) <= model.max_images)
        and (
            model.max_data_uris is None
            or sum(length is not None for length in some) <= model.max_data_uris
        )
        and (model.max_body_bytes is None or body <= model.max_body_bytes)
    )


def places(table: dict) -> list[int]:
    """Give every place where a request may end."""
    keys, count = table["keys"], len(table["tokens"])
    return [
        place
        for place in range(1, count + 1)
        if place == count
        or keys is None
        or keys[place] is None
        or keys[place] != keys[place - 1]
    ]


def fewest(table: dict) -> int | None:
    """Give the least number of requests, by trying every way to cut."""
    reached = {0: 0}
    for place in places(table):
        ways = [
            number + 1
            for start, number in reached.items()
            if is_legal(table, range(start, place))
        ]
        if ways:
            reached[place] = min(ways)
    return reached.get(len(table["tokens"]))


def split(table: dict) -> tuple[range, ...] | BudgetError:
    try:
        return split_requests(**table)
    except BudgetError as exc:
        return exc


@given(table=tables())
def test_nothing_is_lost_or_repeated(table):
    """Prove that the requests together are all images, once each, in order."""
    cut = split(table)
    if isinstance(cut, BudgetError):
        return
    assert [index for one in cut for index in one] == list(range(len(table["tokens"])))
    assert all(cut)


@given(table=tables())
def test_every_request_is_legal(table):
    """Prove that no request is above a limit, and none ends inside a group."""
    cut = split(table)
    if isinstance(cut, BudgetError):
        return
    assert all(is_legal(table, one) for one in cut)
    assert {one.stop for one in cut} <= set(places(table))


@given(table=tables())
def test_requests_are_as_few_as_can_be(table):
    """Prove that no way to cut needs fewer, and that a refusal has none."""
    cut = split(table)
    if isinstance(cut, BudgetError):
        has_room = is_legal(table, range(0))
        assert not has_room or fewest(table) is None
    else:
        assert len(cut) == fewest(table)


@given(table=tables())
def test_a_refusal_names_exactly_what_fits_no_request(table):
    """Prove that the groups named are all that are too large alone."""
    cut = split(table)
    if not is_legal(table, range(0)):
        assert isinstance(cut, BudgetError)
        assert cut.groups == ()
        return
    ends = [0, *places(table)] if table["tokens"] else [0]
    groups = [range(*pair) for pair in itertools.pairwise(ends)]
    too_large = tuple(one for one in groups if not is_legal(table, one))
    found = cut.groups if isinstance(cut, BudgetError) else ()
    assert found == too_large
    if too_large:
        assert cut.fits == too_large[0].start
        assert len(cut.items) == sum(map(len, too_large))


@given(table=tables(), more=st.integers(0, 12))
def test_one_more_image_never_saves_a_request(table, more):
    """Prove that requests never get fewer when an image is put behind."""
    longer = dict(table, tokens=[*table["tokens"], more])
    if table["data_uri_bytes"] is not None:
        longer["data_uri_bytes"] = [*table["data_uri_bytes"], 0]
    if table["keys"] is not None:
        longer["keys"] = [*table["keys"], None]
    cut, cut_longer = split(table), split(longer)
    if not isinstance(cut_longer, BudgetError):
        assert not isinstance(cut, BudgetError)
        assert len(cut) <= len(cut_longer) <= len(cut) + 1


@given(
    texts=st.lists(st.text(), max_size=4), wire=st.sampled_from(["openai", "dashscope"])
)
def test_no_body_is_longer_than_the_bound_of_its_texts(texts, wire):
    """Prove it for any text, in both usual ways to write JSON."""
    history = [{"role": "user", "content": text} for text in texts]
    try:
        request = qp.chat_request(text="?", history=history, wire=wire, stream=True)
    except qp.errors.RequestError:
        return  # half a character: no UTF-8 carries it
    body = qp.http_body(request, wire=wire)
    bound = 512 + body_byte_bound("?", *texts)
    assert len(json.dumps(body)) <= bound
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= bound
