"""Which boxes a model's answer holds."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal

from qwenvl_prep.coordinates import Box
from qwenvl_prep.errors import UnreadableBoxesError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["parse_boxes"]

# All repeats are possessive, and outside strings a backslash ends the try, so that no
# reply, however broken, is read over and over.  A JSON object without others inside,
# its strings skipped:
_OBJECT = re.compile(r'\{(?:[^{}"\\]++|"(?:[^"\\]++|\\.)*+")*+\}', re.DOTALL)
# What counts between the braces of an object around others.  A string ends on its
# line, so that a quotation mark too many spoils no more than that.
_MARK = re.compile(r'"(?:[^"\\\n]++|\\.)*+"|[{}"\\]')
# Also in quotes that JSON does not have, so that such a box is missed and not unseen.
_KEY = re.compile(r"""["'](?:bbox_2d|bbox|point_2d)["']\s*+:""")
_TAGGED = re.compile(
    r"(?:<ref>|<\|object_ref_start\|>)(?P<label>[^<]*+)"
    r"(?:</ref>|<\|object_ref_end\|>)"
    r"|(?:<box>|<\|box_start\|>)(?P<box>[^<]*+)(?:</box>|<\|box_end\|>)"
)
_BOX_TAG = re.compile(r"<box>|<\|box_start\|>")
_NUMBER = r"\s*+(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*+"
_POINT = rf"\s*+\({_NUMBER},{_NUMBER}\)\s*+"
_CORNERS = re.compile(f"{_POINT},{_POINT}")
_LABELS = ("label", "text_content")


def parse_boxes(
    text: str, *, on_broken: Literal["error", "skip"] = "error"
) -> tuple[Box, ...]:
    r"""
    Read the boxes and points out of a model's reply.

    Two forms are read, wherever they stand in the text: JSON objects with ``bbox_2d``
    (or ``bbox``, ``point_2d``) and ``label`` (or ``text_content``), as Qwen2.5-VL and
    later write them, in a fence or not; and ``<ref>…</ref><box>(x1,y1),(x2,y2)</box>``
    of Qwen2-VL, also with its special tokens.

    Parameters
    ----------
    text : str
        The reply.
    on_broken : {"error", "skip"}
        What to do with a box that is cut off or malformed: refuse the reply, or
        leave that box out.

    Returns
    -------
    tuple of Box
        In the order of the text, numbers as answered; empty where the reply names
        none.  :meth:`CoordinateMap.to_original` takes it as it is.

    Raises
    ------
    UnreadableBoxesError
        If a box is broken; carries those that are whole.

    Examples
    --------
    >>> parse_boxes('```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "cat"}]\n```')
    (Box(label='cat', box=(10.0, 20.0, 30.0, 40.0)),)
    >>> parse_boxes("<ref>a dog</ref><box>(1,2),(30,40)</box>")
    (Box(label='a dog', box=(1.0, 2.0, 30.0, 40.0)),)
    """
    if not isinstance(text, str):
        raise TypeError(f"Expected a str but received {type(text).__name__}")
    if on_broken not in ("error", "skip"):
        raise ValueError(
            f"Expected 'error' or 'skip' for on_broken but received {on_broken!r}"
        )
    found = sorted([*_from_json(text), *_from_tags(text)], key=lambda one: one[0])
    boxes = tuple(box for _, box in found)
    promised = len(_KEY.findall(text)) + len(_BOX_TAG.findall(text))
    if len(boxes) < promised and on_broken == "error":
        raise UnreadableBoxesError(
            f"Expected {promised} whole boxes in the reply but {promised - len(boxes)} "
            f"cannot be read, cut off or malformed; on_broken='skip' leaves them out, "
            f"and a larger max_tokens of the request lets a reply end",
            boxes=boxes,
            promised=promised,
        )
    return boxes


def _from_json(text: str) -> Iterator[tuple[int, Box]]:
    for match in _OBJECT.finditer(text):
        yield from _from_object(match.start(), match[0])
    for start, own in _around_others(text):
        yield from _from_object(start, own)


def _from_object(start: int, text: str) -> Iterator[tuple[int, Box]]:
    """Read the boxes of one JSON object."""
    if _KEY.search(text) is None:
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    labels = (value.get(key) for key in _LABELS)
    label = next((label for label in labels if label is not None), "")
    for key, length in (("bbox_2d", 4), ("bbox", 4), ("point_2d", 2)):
        numbers = _numbers(value.get(key), length)
        if numbers is not None:
            yield start, Box(str(label), numbers)


def _around_others(text: str) -> Iterator[tuple[int, str]]:
    """
    Give each object that has others inside: where it begins, and what is its own.

    The others stand in it as null, so that all of them together are no longer than
    the text.
    """
    # Of each open object its start, its own pieces, and where the next begins.
    opened: list[tuple[int, list[str], int]] = []
    at = text.find("{")
    while at >= 0:
        mark = _MARK.search(text, at)
        if mark is None:
            return
        at = mark.end()
        if mark[0] == "{":
            opened.append((mark.start(), [], mark.start()))
        elif mark[0] == "}":
            start, pieces, left = opened.pop()
            if pieces:
                yield start, "".join((*pieces, text[left:at]))
            if opened:
                outer, around, left = opened[-1]
                around += (text[left:start], "null")
                opened[-1] = (outer, around, at)
        elif mark[0] in {'"', "\\"}:  # no JSON
            opened.clear()
        if not opened:
            at = text.find("{", at)


def _numbers(value: Any, length: int) -> tuple[float, ...] | None:
    if not isinstance(value, list) or len(value) != length:
        return None
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in value):
        return None
    try:
        numbers = tuple(float(one) for one in value)
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _from_tags(text: str) -> Iterator[tuple[int, Box]]:
    label = ""
    for match in _TAGGED.finditer(text):
        if match["label"] is not None:
            label = match["label"].strip()
            continue
        corners = _CORNERS.fullmatch(match["box"])
        if corners is not None:
            yield match.start(), Box(label, tuple(map(float, corners.groups())))
