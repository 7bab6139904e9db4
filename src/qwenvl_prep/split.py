"""Into how few requests images go, in order, and which go together."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import FEW, BudgetError, shortened
from qwenvl_prep.geometry import integer
from qwenvl_prep.prepare import PreparedImage
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from qwenvl_prep.plan import ImagePlan

__all__ = ["body_byte_bound", "counts_of", "known_data_uri_bytes", "split_requests"]

# More than any request of ours has in its body around its texts and its images: the
# model's name apart, 250 bytes on the longer wire with everything switched on.
_FRAME_BYTES = 512

# The same for what stands around one image, min_pixels and max_pixels among it.
_PART_BYTES = 128

# The same for what stands around one text: a message with a role and one part.
_MESSAGE_BYTES = 128

# Longer than any signed address that was seen; only many thousands of them matter.
_ADDRESS_BYTES = 4_096


def split_requests(
    tokens: Iterable[int],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    taken: int = 0,
    data_uri_bytes: Iterable[int | None] | None = None,
    body_bytes: int = 0,
    keys: Iterable[Hashable] | None = None,
    names: Sequence[str] | None = None,
) -> tuple[range, ...]:
    """
    Put images into as few requests as possible, in order.

    Each request is filled as far as it goes, which for images in a given order gives
    the fewest: whoever ends a request earlier leaves more for those that follow.

    Parameters
    ----------
    tokens : iterable of int, length n
        Predicted billed tokens of each image, in order.
    model : str or ModelProfile
        Whose limits hold for each request: the tokens stay below
        ``max_input_tokens``; ``max_images``, ``max_data_uris`` and
        ``max_body_bytes`` are not exceeded, where the model has them.
        ``get_model(...).replace(max_body_bytes=6_000_000)`` sets another limit.
    taken : int
        Tokens that text, chat template and reserve take in every request.
    data_uri_bytes : iterable of (int or None), length n, optional
        Length of each image's data URI; 0 where it is not known yet; None for an
        image that goes as an address, which counts as no data URI.  Without it, all
        go as data URIs of unknown length.
    body_bytes : int
        Bytes that text takes in the JSON of every request, by
        :func:`body_byte_bound`.
    keys : iterable of hashable, length n, optional
        Images one after another with equal keys stay in one request.  None stands
        for an image on its own.
    names : sequence of str, length n, optional
        What images are called in a refusal.

    Returns
    -------
    tuple of range
        One for each request: the positions of its images.  Together they are
        ``range(n)``, in order; empty where there are no images.

    Raises
    ------
    BudgetError
        If some images, or groups of them, fit no request even alone; it names all of
        them, and has their positions as ``groups``.
    TypeError, ValueError
        If a number is negative or no int, the lengths differ, or a key comes back
        after another: such images could not stay together.

    Examples
    --------
    >>> split_requests([1227] * 30)
    (range(0, 25), range(25, 30))
    >>> split_requests([12_000] * 4, keys=["a", "b", "b", "c"])
    (range(0, 1), range(1, 3), range(3, 4))
    """
    profile = get_model(model)
    taken = integer("taken", taken, least=0)
    body_bytes = integer("body_bytes", body_bytes, least=0)
    costs = counts_of("tokens", tokens)
    count = len(costs)
    lengths = _lengths(data_uri_bytes, count)
    cuts = range(count + 1) if keys is None else _cuts(list(keys), count)
    if names is not None and len(names) != count:
        raise ValueError(f"Expected {count} names but received {len(names)}")

    limits = _limits(profile, costs, lengths, taken, body_bytes)
    spent = next((limit for limit in limits if limit.room < 0), None)
    if spent is not None:
        raise BudgetError(
            f"Expected a request of {profile.name} with {spent.allowed} but text, "
            f"template and reserve alone take {spent.base:,}; shorten the text",
            needed=taken,
            limit=profile.max_input_tokens,
            fits=0,
            items=(),
            groups=(),
        )
    requests: list[range] = []
    too_large: list[range] = []
    at = 0
    while cuts[at] < count:
        start = cuts[at]
        reached = min(limit.reach(start) for limit in limits)
        end = bisect_right(cuts, reached, at) - 1
        whole = range(start, cuts[max(end, at + 1)])
        (requests if end > at else too_large).append(whole)
        at = max(end, at + 1)
    if too_large:
        raise _refusal(profile, costs, limits, too_large, taken, names)
    return tuple(requests)


def body_byte_bound(*texts: str) -> int:
    """
    Give a number of bytes that these texts do not exceed in the JSON of a request.

    The longest form counts, in which all but ASCII is escaped: so writes the dashscope
    SDK, while the openai SDK and our sender write UTF-8.

    Parameters
    ----------
    *texts : str
        The question, the system prompt, each message of a history.

    Examples
    --------
    >>> body_byte_bound("图") - body_byte_bound("")
    6
    """
    # The two quotation marks are in what stands around.
    return sum(_MESSAGE_BYTES + len(json.dumps(text)) - 2 for text in texts)


def known_data_uri_bytes(image: PreparedImage | ImagePlan) -> int:
    """
    Tell how long the data URI of an image will be, as far as that is known.

    Returns
    -------
    int
        Exactly, of a prepared image; at most, of a plan that keeps the bytes, which
        may lose their metadata; 0 of a plan that encodes anew.  Only encoding tells
        that: what is certain beforehand is ten times what comes out, and would split
        requests that fit.

    Examples
    --------
    >>> import qwenvl_prep, numpy as np
    >>> picture = np.zeros((56, 56, 3), np.uint8)
    >>> known_data_uri_bytes(qwenvl_prep.plan(picture))
    0
    >>> prepared = qwenvl_prep.prepare(picture)
    >>> known_data_uri_bytes(prepared) == len(prepared.data_uri)
    True
    """
    if isinstance(image, PreparedImage):
        return data_uri_length(image.encoded_size, image.media_type)
    if image.is_kept:
        return data_uri_length(image.info.encoded_size, image.info.media_type)
    return 0


def _sums(numbers: Iterable[int]) -> list[int]:
    return list(accumulate(numbers, initial=0))


def counts_of(name: str, values: Iterable[Any]) -> list[int]:
    """Give a column as ints of at least 0; a million of them take no call each."""
    column: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    if not set(map(type, column)) <= {int}:
        column = [integer(name, value) for value in column]
    if column and min(column) < 0:
        raise ValueError(f"Expected at least 0 for {name} but received {min(column)}")
    return column


def _lengths(values: Iterable[int | None] | None, count: int) -> list[int | None]:
    if values is None:
        return [0] * count
    column: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    if len(column) != count:
        raise ValueError(
            f"Expected {count} data_uri_bytes, one an image, but received {len(column)}"
        )
    known = counts_of("data_uri_bytes", [one for one in column if one is not None])
    left = iter(known)
    return [None if one is None else next(left) for one in column]


def _cuts(keys: list[Hashable], count: int) -> list[int]:
    """Give the places where a request may end: wherever the key changes."""
    if len(keys) != count:
        raise ValueError(
            f"Expected {count} keys, one an image, but received {len(keys)}"
        )
    cuts = [0]
    seen: set[Hashable] = set()
    before: Hashable = None
    for index, key in enumerate(keys):
        if index and (key is None or key != before):
            cuts.append(index)
        if key is not None and (not index or key != before):
            if key in seen:
                raise ValueError(
                    f"Expected images with one key one after another but the key "
                    f"{key!r} comes back at image {index + 1}; sort the images by "
                    f"their keys, or give those apart another key"
                )
            seen.add(key)
        before = key
    if count:
        cuts.append(count)
    return cuts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """
    One limit of a request, and what the images take of it.

    Attributes
    ----------
    allowed : str
        The limit, in words.
    noun : str
        What is counted.
    base : int
        What is taken without any image.
    room : int
        What is left for the images of one request.
    sums : sequence of int, length n + 1
        What the first *i* images take.  What lies between two places is a
        subtraction, and the last image that still fits a search.
    """

    allowed: str
    noun: str
    base: int
    room: int
    sums: Sequence[int]

    def reach(self, start: int) -> int:
        """Give the place up to which images from *start* on fit one request."""
        return bisect_right(self.sums, self.sums[start] + self.room, start) - 1

    def taken_by(self, group: range) -> int:
        """Give what these images take."""
        return self.sums[group.stop] - self.sums[group.start]


def _limits(
    model: ModelProfile,
    tokens: list[int],
    lengths: list[int | None],
    taken: int,
    body_bytes: int,
) -> list[_Limit]:
    """Give the limits that this model has."""
    found = [
        _Limit(
            allowed=f"fewer than {model.max_input_tokens:,} tokens",
            noun="tokens",
            base=taken,
            room=model.max_input_tokens - 1 - taken,
            sums=_sums(tokens),
        )
    ]
    if model.max_images is not None:
        found.append(
            _Limit(
                allowed=f"at most {model.max_images:,} images",
                noun="images",
                base=0,
                room=model.max_images,
                sums=range(len(tokens) + 1),
            )
        )
    if model.max_data_uris is not None:
        found.append(
            _Limit(
                allowed=f"at most {model.max_data_uris:,} data URIs",
                noun="data URIs",
                base=0,
                room=model.max_data_uris,
                sums=_sums(length is not None for length in lengths),
            )
        )
    if model.max_body_bytes is not None:
        # A letter of the name takes six bytes where it has to be escaped.
        base = _FRAME_BYTES + 6 * len(model.name) + body_bytes
        parts = (
            _PART_BYTES + (_ADDRESS_BYTES if length is None else length)
            for length in lengths
        )
        found.append(
            _Limit(
                allowed=f"a body of at most {model.max_body_bytes:,} bytes",
                noun="bytes",
                base=base,
                room=model.max_body_bytes - base,
                sums=_sums(parts),
            )
        )
    return found


def _refusal(
    model: ModelProfile,
    tokens: list[int],
    limits: list[_Limit],
    groups: list[range],
    taken: int,
    names: Sequence[str] | None,
) -> BudgetError:
    told = "; ".join(_excess(group, limits, names) for group in groups[:FEW])
    more = f"; … {len(groups) - FEW} more" if len(groups) > FEW else ""
    allowed = ", ".join(limit.allowed for limit in limits)
    called = names or [f"image {index + 1}" for index in range(len(tokens))]
    indices = [index for group in groups for index in group]
    return BudgetError(
        f"Expected a request of {model.name} with {allowed} but received what does "
        f"not fit one alone: {told}{more}. Lower max_tokens, shorten the text, or let "
        f"fewer go together",
        needed=taken + max(limits[0].taken_by(group) for group in groups),
        limit=model.max_input_tokens,
        fits=groups[0].start,
        items=tuple((called[index], tokens[index]) for index in indices),
        groups=tuple(groups),
    )


def _excess(group: range, limits: list[_Limit], names: Sequence[str] | None) -> str:
    """Name a group, and tell each limit that it is above, with the sum."""
    first, last = group[0], group[-1]
    name = f" ({shortened(names[first])})" if names else ""
    called = (
        f"image {first + 1}{name}"
        if first == last
        else f"images {first + 1} to {last + 1}{name} together"
    )
    sums = []
    for limit in limits:
        used = limit.taken_by(group)
        if used > limit.room:
            beside = f" + {limit.base:,}" if limit.base else ""
            total = f" = {used + limit.base:,}" if limit.base else ""
            sums.append(f"{used:,}{beside}{total} {limit.noun}")
    return f"{called} with {' and '.join(sums)}"
