"""Test the ``server`` size rule against the tables made from the published rules."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import qwenvl_prep as qp
from qwenvl_prep.errors import AspectRatioError

TABLE = Path(__file__).with_name("size_cases.json")

PUBLISHED_CAPS = {
    (28, 3_136, 1_003_520),
    (28, 3_136, 6_422_528),
    (28, 3_136, 12_845_056),
    (28, 3_136, 23_520_000),
    (32, 3_072, 8_388_608),
    (32, 3_072, 30_720_000),
    (32, 4_096, 1_310_720),
    (32, 4_096, 2_621_440),
    (32, 4_096, 16_777_216),
    (32, 65_536, 2_621_440),
    (32, 65_536, 16_777_216),
}

Size = tuple[int, int]


class Case(NamedTuple):
    """One line of the table; None stands for a ratio that is refused."""

    height: int
    width: int
    factor: int
    min_pixels: int
    max_pixels: int
    transformers: Size | None
    qwen_vl_utils: Size | None


def read_table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def read_cases(name: str) -> list[Case]:
    cases = [
        Case(*row[:5], *(answer and tuple(answer) for answer in row[5:]))
        for row in read_table()[name]
    ]
    # Every test below holds for no cases at all, so an empty table must not pass.
    assert len(cases) >= 1000
    return cases


def server_size(case: Case) -> Size | None:
    try:
        return qp.smart_resize(
            case.height,
            case.width,
            factor=case.factor,
            min_pixels=case.min_pixels,
            max_pixels=case.max_pixels,
            rule="server",
        )
    except AspectRatioError:
        return None


def lifting_shows(case: Case) -> bool:
    """
    Whether qwen-vl-utils answers differently because it lifts short sides.

    It counts a side that rounds to 0 (at most half a factor) as one factor. The
    server rule leaves the 0, has no area and always enlarges. So the two part when
    the lifted size

    - is above ``max_pixels``: qwen-vl-utils shrinks it; or
    - lies within the limits: qwen-vl-utils keeps it, and it is another size than
      the enlarged one. (With 4 tokens as the least, about one in 35 is the same
      by coincidence; with 64, none.)

    A lifted size below ``min_pixels`` is enlarged by both, to the same size.
    """
    sides = (case.height, case.width)
    rounded = [round(side / case.factor) * case.factor for side in sides]
    if 0 not in rounded:
        return False
    lifted = [side or case.factor for side in rounded]
    area = lifted[0] * lifted[1]
    if area > case.max_pixels:
        return True
    beta = math.sqrt(case.min_pixels / (case.height * case.width))
    enlarged = [math.ceil(side * beta / case.factor) * case.factor for side in sides]
    return area >= case.min_pixels and lifted != enlarged


def test_table_names_its_sources_and_holds_every_published_cap() -> None:
    """The table is whole: versions, digests, and hundreds of cases for each cap."""
    header = read_table()["header"]
    assert header["transformers"]["version"] == "5.23.0"
    assert header["qwen_vl_utils"]["version"] == "0.0.14"
    for package in ("transformers", "qwen_vl_utils"):
        digests = header[package]["files_sha256"].values()
        assert digests
        assert all(len(digest) == 64 for digest in digests)
    for name in ("published_caps", "custom_caps"):
        assert header["cases"][name] == len(read_cases(name))

    published = [case[2:5] for case in read_cases("published_caps")]
    assert set(published) == PUBLISHED_CAPS
    assert min(published.count(limits) for limits in PUBLISHED_CAPS) >= 400
    assert {case[2:5] for case in read_cases("custom_caps")}.isdisjoint(PUBLISHED_CAPS)


def test_server_rule_equals_transformers_at_every_published_cap() -> None:
    """With what a model publishes, the server rule and transformers never differ."""
    cases = read_cases("published_caps")
    wrong = [(case, server_size(case)) for case in cases]
    assert [pair for pair in wrong if pair[1] != pair[0].transformers][:10] == []


def test_ratio_is_refused_exactly_above_200() -> None:
    """Both published rules and ours refuse a ratio above 200:1 and nothing else."""
    cases = read_cases("published_caps") + read_cases("custom_caps")
    refused = [case for case in cases if case.transformers is None]
    assert len(refused) > 100
    for case in cases:
        sides = sorted(case[:2])
        too_long = sides[1] > 200 * sides[0]
        answers = (case.transformers, case.qwen_vl_utils, server_size(case))
        assert [answer is None for answer in answers] == [too_long] * 3, case


@pytest.mark.parametrize("caps", ["published_caps", "custom_caps"])
def test_server_rule_differs_from_qwen_vl_utils_exactly_where_lifting_shows(
    caps: str,
) -> None:
    """A side that rounds to 0 is the only cause of a difference, in both directions."""
    legal = [case for case in read_cases(caps) if case.transformers]
    expected = [case for case in legal if lifting_shows(case)]
    found = [case for case in legal if server_size(case) != case.qwen_vl_utils]
    assert len(found) > 50
    assert found == expected


def test_custom_cap_floors_to_zero_where_transformers_lifts_to_one_factor() -> None:
    """Under a small custom cap the only difference is a 0 that transformers lifts."""
    with_zero = 0
    for case in read_cases("custom_caps"):
        size = server_size(case)
        if size is None:
            continue
        with_zero += 0 in size
        lifted = tuple(side or case.factor for side in size)
        assert lifted == case.transformers, case
    assert with_zero > 50


@pytest.mark.parametrize(
    ("size", "limits", "server", "transformers", "qwen_vl_utils"),
    [
        pytest.param(
            (11, 98),
            (28, 3_136, 1_003_520),
            (28, 168),
            (28, 168),
            (28, 112),
            id="lifted within the limits",
        ),
        pytest.param(
            (11, 50),
            (28, 3_136, 1_003_520),
            (28, 140),
            (28, 140),
            (28, 140),
            id="lifted below the limits",
        ),
        pytest.param(
            (11, 2200),
            (32, 65_536, 2_621_440),
            (32, 3648),
            (32, 3648),
            (32, 2208),
            id="lifted within the limits of Qwen3-VL",
        ),
        pytest.param(
            (11, 2200),
            (28, 3_136, 20 * 784),
            (28, 812),
            (28, 812),
            (0, 1764),
            id="lifted above a custom cap",
        ),
        pytest.param(
            (15, 575),
            (28, 3_136, 20 * 784),
            (0, 756),
            (28, 756),
            (0, 756),
            id="floored to 0 by a custom cap",
        ),
    ],
)
def test_each_kind_of_disagreement_by_example(
    size: Size,
    limits: tuple[int, int, int],
    server: Size,
    transformers: Size,
    qwen_vl_utils: Size,
) -> None:
    """The examples of the README stand in the table and come out as written there."""
    cases = read_cases("published_caps") + read_cases("custom_caps")
    case = next(case for case in cases if case[:5] == (*size, *limits))
    assert case[5:] == (transformers, qwen_vl_utils)
    assert server_size(case) == server


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((512, 512), (28, 3_136, 1_003_520), (504, 504)),
        ((1280, 1280), (28, 3_136, 1_003_520), (980, 980)),
        ((1280, 1280), (28, 3_136, 12_845_056), (1288, 1288)),
        ((1365, 2048), (28, 3_136, 1_003_520), (812, 1204)),
        ((1365, 2048), (32, 65_536, 2_621_440), (1312, 1952)),
        ((29, 5615), (28, 3_136, 1_003_520), (28, 5628)),
        ((100, 100), (28, 1_003_520, 1_003_520), (1008, 1008)),
    ],
)
def test_recorded_sizes_are_in_the_table(
    size: Size, limits: tuple[int, int, int], expected: Size
) -> None:
    """Sizes known from the provider's pages and from usage records come out."""
    cases = read_cases("published_caps") + read_cases("custom_caps")
    case = next(case for case in cases if case[:5] == (*size, *limits))
    assert case.transformers == case.qwen_vl_utils == expected
    assert server_size(case) == expected
