"""What was billed: usage read from replies, log lines and Batch results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qwenvl_prep.budget import RequestPlan
from qwenvl_prep.geometry import billed_tokens
from qwenvl_prep.plan import ImagePlan
from qwenvl_prep.prepare import PreparedImage
from qwenvl_prep.profiles import get_model
from qwenvl_prep.reply import Reply, Usage, event_of, is_refusal

if TYPE_CHECKING:
    from qwenvl_prep.profiles import ModelProfile

__all__ = ["Bill", "read_bill"]

_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """
    What was predicted for one request, and what was billed.

    Attributes
    ----------
    name : str
        Request id, custom id or position, to find the request again.
    model : str or None
        Name of the model that was billed; None where nothing says it.
    profile : ModelProfile or None
        The profile that predicted, where it is not the one of that name.
    usage : Usage or None
        Tokens as billed.
    is_output_known : bool
        Whether the record tells the tokens of the answer; where it does not, *usage*
        holds 0 for them.  Image tokens are compared all the same.
    predicted_image_tokens : int or None
        Image tokens as predicted before sending.
    sizes : tuple of (int, int)
        ``(height, width)`` of every image as it was sent, in pixels; empty where
        they are not known.
    text_tokens : int or None
        Tokens of the text alone, without the chat template, where exactly known.
    high_resolution : bool
        Whether the request set ``vl_high_resolution_images``.
    is_batch : bool
        Whether the request went by Batch.
    problem : str
        Why there is nothing to compare; empty where there is.
    """

    name: str = ""
    model: str | None = None
    profile: ModelProfile | None = None
    usage: Usage | None = None
    is_output_known: bool = True
    predicted_image_tokens: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    text_tokens: int | None = None
    high_resolution: bool = False
    is_batch: bool = False
    problem: str = ""


def read_bill(record: Any, *, position: int = 1) -> Bill:
    """
    Read a record of any form that usage comes in.

    Parameters
    ----------
    record : Bill, Reply, Usage, mapping, str, bytes or pair
        A mapping, or the JSON text of one: a line of ``qwenvl-prep send --json``, a
        reply of either wire, a line of a Batch result file, or bare usage.  Beside
        it a mapping may hold ``model``, ``predicted_image_tokens``, ``sizes``
        (pairs of height and width as sent) or ``height`` and ``width``,
        ``text_tokens`` and ``high_resolution``.  A pair is what was planned (a
        :class:`~qwenvl_prep.RequestPlan`, :class:`~qwenvl_prep.ImagePlan`, prepared
        image or a number of tokens) and one of the others.
    position : int
        Number of the record, for its name where it has none.

    Returns
    -------
    Bill
        Whose *problem* tells what could not be read; nothing is raised for that.

    Examples
    --------
    >>> read_bill('{"id": "a", "usage": {"prompt_tokens": 9}}')
    Bill(name='a', model=None, ..., is_output_known=False, ..., problem='')
    """
    name = f"#{position}"
    if isinstance(record, Bill):
        return record
    if isinstance(record, Usage):
        return _checked(Bill(name=name, usage=record))
    if isinstance(record, Reply):
        bill = _of_mapping(record.raw, name) if record.raw else Bill(name=name)
        return _checked(_with(bill, name=record.request_id, usage=record.usage))
    if isinstance(record, (str, bytes, bytearray)):
        try:
            record = json.loads(record)
        except (ValueError, RecursionError):
            return Bill(name=name, problem="is not JSON")
    if isinstance(record, Mapping):
        return _checked(_of_mapping(record, name))
    if isinstance(record, Sequence) and len(record) == 2 and not _is_text(record):
        return _paired(record[0], record[1], position)
    return Bill(name=name, problem=f"is no record of usage: {_short(record)}")


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, bytes, bytearray))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _with(bill: Bill, **changes: Any) -> Bill:
    """Give the bill with those fields changed that have something to say."""
    said = {name: value for name, value in changes.items() if value is not None}
    return replace(bill, **said)


def _checked(bill: Bill) -> Bill:
    if bill.problem:
        return bill
    usage = bill.usage
    if usage is None:
        return _with(bill, problem="holds no usage")
    images = usage.image_tokens
    if min(usage.input_tokens, usage.output_tokens, images or 0) < 0:
        return _with(bill, problem="bills less than nothing")
    if images is not None and images > usage.input_tokens:
        return _with(bill, problem="bills more image tokens than input tokens")
    return bill


def _paired(planned: Any, billed: Any, position: int) -> Bill:
    bill = read_bill(billed, position=position)
    if isinstance(planned, PreparedImage):
        planned = planned.plan
    if isinstance(planned, ImagePlan):
        plans: tuple[ImagePlan, ...] = (planned,)
        predicted = planned.tokens
    elif isinstance(planned, RequestPlan):
        plans = planned.images
        predicted = planned.image_tokens
    else:
        number = _count(planned)
        if number is None:
            what = f"is paired with no prediction: {_short(planned)}"
            return _with(bill, problem=bill.problem or what)
        return _with(bill, predicted_image_tokens=number)
    return _with(
        bill,
        model=bill.model or planned.model.name,
        profile=planned.model,
        predicted_image_tokens=predicted,
        sizes=tuple((plan.height, plan.width) for plan in plans),
        high_resolution=any(plan.options.high_resolution for plan in plans),
    )


def _count(value: Any) -> int | None:
    """Give a number of tokens, or None for what is none."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and value >= 0 else None


def _of_mapping(record: Mapping[str, Any], name: str) -> Bill:
    response = record.get("response")
    is_batch = "custom_id" in record or isinstance(response, Mapping)
    payload: Mapping[str, Any] = record
    if is_batch:
        body = response.get("body") if isinstance(response, Mapping) else None
        payload = body if isinstance(body, Mapping) else {}
    error = record.get("error") or payload.get("error")
    problem = ""
    if error or is_refusal(payload):
        problem = f"was refused: {_short(_reason(error, record, payload))}"
    sizes, size_problem = _sizes(record)
    named = (
        record.get("custom_id"),
        record.get("request_id"),
        payload.get("request_id"),
        payload.get("id"),
        record.get("file"),
    )
    model = record.get("model") or payload.get("model")
    usage, is_output_known = _usage(record, payload)
    return Bill(
        name=next((one for one in named if isinstance(one, str) and one), name),
        model=model if isinstance(model, str) else None,
        usage=usage,
        is_output_known=is_output_known,
        predicted_image_tokens=_count(record.get("predicted_image_tokens")),
        sizes=sizes,
        text_tokens=_count(record.get("text_tokens")),
        high_resolution=record.get("high_resolution") is True,
        is_batch=is_batch,
        problem=problem or size_problem,
    )


def _reason(error: Any, *records: Mapping[str, Any]) -> Any:
    """Find the words of a refusal: both wires and our own records put them apart."""
    nested = [error] if isinstance(error, Mapping) else []
    for holder in (*nested, *records):
        for key in ("message", "code"):
            if holder.get(key):
                return holder[key]
    return error


def _usage(
    record: Mapping[str, Any], payload: Mapping[str, Any]
) -> tuple[Usage | None, bool]:
    """Give the usage of a record, and whether it tells the tokens of the answer."""
    if "billed_input_tokens" in record:
        given = _count(record["billed_input_tokens"])
        made = _count(record.get("billed_output_tokens"))
        images = _count(record.get("billed_image_tokens"))
        if given is None:
            return None, False
        return Usage(given, made or 0, images), made is not None
    usage = payload.get("usage")
    if usage is None and ("prompt_tokens" in payload or "input_tokens" in payload):
        usage = payload
    answer = ("completion_tokens", "output_tokens")
    is_known = True
    if isinstance(usage, Mapping) and all(usage.get(name) is None for name in answer):
        # Image tokens can be compared without those of the answer.
        usage = {**usage, **dict.fromkeys(answer, 0)}
        is_known = False
    # Both wires name their fields apart, so one reader knows them all.
    found = event_of({"usage": usage}, "openai").usage
    return found, is_known and found is not None


def _sizes(record: Mapping[str, Any]) -> tuple[tuple[tuple[int, int], ...], str]:
    given = record.get("sizes")
    if given is None and ("height" in record or "width" in record):
        given = [(record.get("height"), record.get("width"))]
    if given is None:
        return (), ""
    sizes = []
    for size in given if isinstance(given, Sequence) else ():
        is_pair = isinstance(size, Sequence) and len(size) == 2 and not _is_text(size)
        height, width = (_count(side) for side in size) if is_pair else (None, None)
        if not height or not width:
            break
        sizes.append((height, width))
    else:
        if isinstance(given, Sequence) and not _is_text(given):
            return tuple(sizes), ""
    return (), f"has sizes that are no pairs of height and width: {_short(given)}"


def predicted(bill: Bill) -> int | None:
    """
    Give the image tokens that were predicted, or count them from the sizes.

    None where neither is known, or the model is not.
    """
    if bill.predicted_image_tokens is not None:
        return bill.predicted_image_tokens
    if not bill.sizes or (bill.profile is None and bill.model is None):
        return None
    try:
        profile = bill.profile or get_model(bill.model or "")
        return sum(
            times * billed_tokens(*size, profile, high_resolution=bill.high_resolution)
            for size, times in Counter(bill.sizes).items()
        )
    except (LookupError, ValueError):
        return None  # an unknown model, no high resolution, a ratio above 200:1
