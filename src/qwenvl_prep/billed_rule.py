"""By which rule was billed: the profile that explains what the server counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from qwenvl_prep.geometry import smart_resize
from qwenvl_prep.profiles import DEFAULT_MODEL, get_model, list_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qwenvl_prep.profiles import ModelProfile

__all__ = [
    "UNNAMED",
    "Correction",
    "CountRule",
    "Sized",
    "corrections",
    "model_table",
    "rule_of",
]

# The model of records that name none.
UNNAMED = "unnamed"

# Sizes of a request's images, and the image tokens billed for them.
Sized = tuple[tuple[tuple[int, int], ...], int]

# What follows a model's name where its other cap is meant.
_WITH_HIGH = " with high resolution"

# What no published model uses, but a bill could be made by.
_FACTORS = (28, 32)
_MIN_TOKENS = (3, 4, 64)
_MARKERS = (2, 0, 1, 3, 4)
_LARGEST_CAP = 65_536

# Searching caps counts every size some hundred times, 0.3 ms; so many different sizes
# decide it, in bills that hold few of them first, and all bills check it.
_SEARCHED = 2_000

# The same with equal sizes counted once: (size, how often), and the billed tokens.
_Grouped = tuple[tuple[tuple[tuple[int, int], int], ...], int]


class CountRule(NamedTuple):
    """The four numbers that the billed tokens of an image follow from."""

    factor: int
    min_pixels: int
    max_pixels: int
    marker_tokens: int

    def tokens(self, sizes: Iterable[tuple[int, int]]) -> int | None:
        """Count the images of a request; None where no rule has an answer."""
        grouped = Counter((height, width) for height, width in sizes)
        tokens = self.vision_tokens(grouped.items())
        return None if tokens is None else tokens + self.marker_tokens * grouped.total()

    def vision_tokens(
        self, grouped: Iterable[tuple[tuple[int, int], int]]
    ) -> int | None:
        """Count images given as (size, how often), without their markers."""
        total = 0
        for (height, width), times in grouped:
            try:
                resized = smart_resize(
                    height,
                    width,
                    factor=self.factor,
                    min_pixels=self.min_pixels,
                    max_pixels=self.max_pixels,
                )
            except ValueError:  # a ratio above 200:1, an area that leaves 64 bits
                return None
            squares = (resized[0] // self.factor) * (resized[1] // self.factor)
            total += squares * times
        return total


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Correction:
    """
    A rule that explains the bills of a model better than its profile does.

    Attributes
    ----------
    model : str
        Name of the model that was billed.
    high_resolution : bool
        Whether the requests set ``vl_high_resolution_images``; *max_pixels* is then
        the cap under it.
    rule : CountRule
        Factor, least area, cap and markers that the bills follow from.
    least_cap, most_cap : int or None
        Vision tokens between which every cap explains the bills as well; None for a
        rule that is published, and for no upper end.
    alike : tuple of str
        Known models that count so.
    explained, bills : int
        How many bills it gives to the token, of how many with sizes.
    base : str
        Known model to start from: the model itself, or one alike where it is unknown.
    numbers : tuple of (str, int or None)
        Names and values of the fields that differ from the profile of *base*.  With
        another factor, the cap of the other resolution is taken over from the first
        of *alike*; the bills do not show it.
    """

    model: str
    high_resolution: bool
    rule: CountRule
    least_cap: int | None
    most_cap: int | None
    alike: tuple[str, ...]
    explained: int
    bills: int
    base: str
    numbers: tuple[tuple[str, int | None], ...]

    @property
    def changes(self) -> Mapping[str, int | None]:
        """What :meth:`ModelProfile.replace` takes: *numbers* as a mapping."""
        return MappingProxyType(dict(self.numbers))

    @property
    def is_complete(self) -> bool:
        """Whether it explains every bill."""
        return self.explained == self.bills

    @property
    def finding(self) -> str:
        """What was found, for a person."""
        bills = "bill" if self.bills == 1 else "bills"
        alike = f"as {_listed(self.alike)} " if self.alike else ""
        what = f"({self._what()})" if self.alike else f"by {self._what()}"
        high = " with high resolution" if self.high_resolution else ""
        is_named = self.model != UNNAMED
        who = f"{self.model} bills" if is_named else "Records without a model bill"
        return (
            f"{who}{high} {alike}{what}: explains "
            f"{self.explained:,} of {self.bills:,} {bills}"
        )

    @property
    def sentence(self) -> str:
        """What was found, and how to use it in Python."""
        numbers = [
            f"{name}={value:_}" if value else f"{name}={value}"
            for name, value in self.numbers
        ]
        if self.model == UNNAMED and self.alike:
            # A whole model explains it; its single numbers are no help.
            use = f"model={self._like()!r}"
        else:
            use = f"get_model({self.base!r})"
            own = [f"name={self.model!r}"] if self._is_new() else []
            if own or numbers:
                use = f"{use}.replace({', '.join(own + numbers)})"
        return f"{self.finding}; use {use}"

    @property
    def table(self) -> str:
        """
        The same for the file that ``QWENVL_PREP_MODELS`` names, as TOML.

        Empty where the bills name no model.
        """
        if self.model == UNNAMED:
            return ""
        return model_table(
            self.model, self.numbers, like=self.base if self._is_new() else None
        )

    def _is_new(self) -> bool:
        return self.model not in (self.base, UNNAMED)

    def _like(self) -> str:
        return self.alike[0].removesuffix(_WITH_HIGH)

    def _what(self) -> str:
        square = self.rule.factor**2
        cap = f"{self.rule.max_pixels // square:,}"
        if self.least_cap is not None and self.least_cap != self.most_cap:
            most = "or more" if self.most_cap is None else f"to {self.most_cap:,}"
            cap = f"{cap} (any of {self.least_cap:,} {most} would do)"
        return (
            f"factor {self.rule.factor}, {self.rule.min_pixels // square} to {cap} "
            f"tokens, {self.rule.marker_tokens} markers"
        )

    def __repr__(self) -> str:
        return (
            f"<Correction {self.model}: factor {self.rule.factor}, cap "
            f"{self.rule.max_pixels // self.rule.factor**2}, explains "
            f"{self.explained} of {self.bills}>"
        )


def rule_of(profile: ModelProfile, *, high_resolution: bool = False) -> CountRule:
    """Give the rule of a profile, for one of its caps."""
    cap = profile.cap_pixels(high_resolution=high_resolution)
    return CountRule(profile.factor, profile.min_pixels, cap, profile.marker_tokens)


def corrections(
    model: str,
    profile: ModelProfile | None,
    bills: Iterable[Sized],
    *,
    high_resolution: bool = False,
) -> tuple[Correction, ...]:
    """
    Search the rules that explain bills which a model's profile does not.

    Parameters
    ----------
    model : str
        Name of the model that was billed.
    profile : ModelProfile or None
        What is known of it; None where it is not known at all.
    bills : iterable of (sizes, int)
        Sizes of the images of a request as sent, and their billed tokens.
    high_resolution : bool
        Whether these requests set ``vl_high_resolution_images``.

    Returns
    -------
    tuple of Correction
        Every rule that explains all bills, published ones alone if there are any;
        else the one that explains most, if it explains more than the profile.  Empty
        where the profile explains them all, and where nothing explains more.

    Examples
    --------
    >>> from qwenvl_prep import get_model
    >>> known = get_model("qwen-vl-max")
    >>> corrections("qwen-vl-max", known, [(((1365, 2048),), 2503)])[0].numbers
    (('factor', 32), ('min_pixels', ...), ('max_pixels', 2621440), ...)
    """
    counted = Counter(
        (tuple(sorted(Counter(sizes).items())), billed) for sizes, billed in bills
    )
    total = counted.total()
    own = None
    if profile is not None and not (
        high_resolution and profile.high_resolution_pixels is None
    ):
        own = rule_of(profile, high_resolution=high_resolution)
    by_own = 0 if own is None else _Counts(counted).explained(own)
    if not counted or by_own == total:
        return ()
    known = _known_rules()
    counts = _Counts(counted)
    rings: list[list[_Found]] = [
        [_Found(rule, counts.explained(rule), None, None) for rule in known],
        [
            _Found(rule, counts.explained(rule), None, None)
            for one in known
            for rule in (one._replace(marker_tokens=count) for count in _MARKERS)
            if rule not in known
        ],
    ]
    best: list[_Found] = []
    for ring in (*rings, None):
        # The third ring is costly, and needed only where nothing published explains.
        found = _searched(counted, counts, own) if ring is None else ring
        best += found
        complete = [one for one in found if one.explained == total]
        if complete:
            return tuple(
                _correction(model, profile, one, total, high_resolution)
                for one in complete
            )
    most = max(best, key=lambda one: one.explained, default=None)
    if most is None or most.explained <= by_own:
        return ()
    return (_correction(model, profile, most, total, high_resolution),)


class _Found(NamedTuple):
    rule: CountRule
    explained: int
    least_cap: int | None
    most_cap: int | None


class _Counts:
    """Vision tokens of bills by a rule; rules that differ in markers share them."""

    def __init__(self, counted: Counter[_Grouped]) -> None:
        self._counted = counted
        self._known: dict[CountRule, list[int | None]] = {}
        self._images = [sum(n for _, n in sizes) for sizes, _ in counted]

    def explained(self, rule: CountRule) -> int:
        """Give how many bills a rule gives to the token."""
        bare = rule._replace(marker_tokens=0)
        if bare not in self._known:
            self._known[bare] = [
                rule.vision_tokens(sizes) for sizes, _ in self._counted
            ]
        return sum(
            times
            for ((_, billed), times), tokens, images in zip(
                self._counted.items(), self._known[bare], self._images, strict=True
            )
            if tokens is not None and tokens + images * rule.marker_tokens == billed
        )


def _known_rules() -> dict[CountRule, tuple[str, ...]]:
    """Give each published rule, default and high resolution, with its models."""
    names: dict[CountRule, list[str]] = {}
    for profile in list_models():
        names.setdefault(rule_of(profile), []).append(profile.name)
    for profile in list_models():
        if profile.high_resolution_pixels is not None:
            high = rule_of(profile, high_resolution=True)
            label = f"{profile.name}{_WITH_HIGH}"
            names.setdefault(high, []).append(label)
    return {rule: tuple(models) for rule, models in names.items()}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 2 else ""
    return names[0] + more if more else " and ".join(names)


def _sampled(counted: Counter[_Grouped]) -> list[_Grouped]:
    """Give the bills that a search can afford."""
    sample = []
    left = _SEARCHED
    for bill in sorted(counted, key=lambda bill: len(bill[0])):
        left -= len(bill[0])
        if left < 0:
            break
        sample.append(bill)
    return sample


def _searched(
    counted: Counter[_Grouped], counts: _Counts, own: CountRule | None
) -> list[_Found]:
    """Search caps that no model publishes; the published ones failed."""
    sample = [_Bill(*bill, counted[bill]) for bill in _sampled(counted)]
    found = []
    for marker in _MARKERS:
        for factor in _FACTORS:
            mins = {tokens * factor**2 for tokens in _MIN_TOKENS}
            if own is not None and own.factor == factor:
                mins.add(own.min_pixels)
            for least in sorted(mins):
                base = CountRule(factor, least, least, marker)
                found += list(_best_cap(base, sample, counts, own))
        if any(one.explained == counted.total() for one in found):
            # Fewer markers with another cap could do too, but two are known.
            break
    return _without_doubles(found)


def _without_doubles(found: list[_Found]) -> list[_Found]:
    """Keep one of the rules that differ only in what these bills do not show."""
    kept: dict[tuple[int, int, int | None, int | None], _Found] = {}
    for one in sorted(found, key=lambda one: -one.explained):
        rule = one.rule
        kept.setdefault(
            (rule.factor, rule.marker_tokens, one.least_cap, one.most_cap), one
        )
    return [one for one in kept.values() if one.explained]


class _Bill:
    """A bill whose counts under many caps are asked for, and kept."""

    def __init__(
        self, sizes: tuple[tuple[tuple[int, int], int], ...], billed: int, times: int
    ) -> None:
        self._sizes = sizes
        self._known: dict[CountRule, int | None] = {}
        self._images = sum(n for _, n in sizes)
        self.billed = billed
        self.times = times

    def tokens(self, rule: CountRule) -> int:
        """Give the tokens by a rule, 0 where it has no answer."""
        bare = rule._replace(marker_tokens=0)
        if bare not in self._known:
            self._known[bare] = rule.vision_tokens(self._sizes)
        tokens = self._known[bare]
        return 0 if tokens is None else tokens + self._images * rule.marker_tokens


def _best_cap(
    base: CountRule,
    sample: Sequence[_Bill],
    counts: _Counts,
    own: CountRule | None,
) -> Iterator[_Found]:
    """Find the caps, as a range of vision tokens, that explain most bills."""
    square = base.factor**2
    lowest = -(-base.min_pixels // square)
    steps: Counter[int] = Counter()
    for bill in sample:
        caps = _cap_range(base, bill, lowest)
        if caps is not None:
            steps[caps[0]] += bill.times
            steps[caps[1] + 1] -= bill.times
    covered = most = 0
    least_cap = most_cap = 0
    edges = sorted(steps)
    for edge, following in pairwise(edges):
        covered += steps[edge]
        if covered > most:
            most, least_cap, most_cap = covered, edge, following - 1
    if not most:
        return
    is_open = most_cap >= _LARGEST_CAP
    wanted = own.max_pixels // square if own is not None else None
    cap = _roundest(least_cap, most_cap, wanted)
    rule = base._replace(max_pixels=cap * square)
    yield _Found(rule, counts.explained(rule), least_cap, None if is_open else most_cap)


def _cap_range(base: CountRule, bill: _Bill, lowest: int) -> tuple[int, int] | None:
    """Give the least and the most cap in tokens under which a bill comes out."""
    billed = bill.billed
    square = base.factor**2

    def counted(cap: int) -> int:
        return bill.tokens(base._replace(max_pixels=cap * square))

    # Tokens never fall as the cap rises, so both ends are found by halving.
    least = _first(lowest, lambda cap: counted(cap) >= billed)
    above = _first(lowest, lambda cap: counted(cap) > billed)
    if least > _LARGEST_CAP or least >= above:
        return None
    return least, above - 1


def _first(lowest: int, is_there: Callable[[int], bool]) -> int:
    low, high = lowest, _LARGEST_CAP + 1
    while low < high:
        middle = (low + high) // 2
        if is_there(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _roundest(least: int, most: int, wanted: int | None) -> int:
    """Choose the cap a person would have set: the one known, or a round one."""
    if wanted is not None and least <= wanted <= most:
        return wanted
    step = _LARGEST_CAP
    while step > 1:
        cap = -(-least // step) * step
        if cap <= most:
            return cap
        step //= 2
    return least


def _correction(
    model: str,
    profile: ModelProfile | None,
    found: _Found,
    total: int,
    high_resolution: bool,
) -> Correction:
    rule = found.rule
    alike = _known_rules().get(rule, ())
    like = next((one for one in list_models() if one.name in alike), None)
    base = profile or like or get_model(DEFAULT_MODEL)
    default, high = base.max_pixels, base.high_resolution_pixels
    if high_resolution:
        # A default cap above the other one is no profile.
        default, high = min(default, rule.max_pixels), rule.max_pixels
    else:
        default = rule.max_pixels
        if like is not None and like.factor != base.factor:
            high = like.high_resolution_pixels
        if high is not None:
            high = max(default, high)
    values = {
        "factor": rule.factor,
        "min_pixels": rule.min_pixels,
        "max_pixels": max(default, rule.min_pixels),
        "high_resolution_pixels": high,
        "marker_tokens": rule.marker_tokens,
    }
    return Correction(
        model=model,
        high_resolution=high_resolution,
        rule=rule,
        least_cap=found.least_cap,
        most_cap=found.most_cap,
        alike=alike,
        explained=found.explained,
        bills=total,
        base=base.name,
        numbers=tuple(
            (name, value)
            for name, value in values.items()
            if getattr(base, name) != value
        ),
    )


def model_table(
    model: str, numbers: Iterable[tuple[str, int | None]], *, like: str | None = None
) -> str:
    """
    Write numbers of a model as a table for ``QWENVL_PREP_MODELS``.

    Examples
    --------
    >>> print(model_table("qwen9-vl", [("factor", 36)], like="qwen3.7-plus"))
    [model.qwen9-vl]
    like = "qwen3.7-plus"
    factor = 36
    """
    # A name with a dot would be a table in a table; JSON text is TOML text too.
    is_bare = re.fullmatch(r"[A-Za-z0-9_-]+", model)
    key = model if is_bare else json.dumps(model, ensure_ascii=False)
    lines = [f"[model.{key}]"]
    if like is not None:
        lines.append(f"like = {json.dumps(like, ensure_ascii=False)}")
    for name, value in numbers:
        lines.append(f"{name} = {'false' if value is None else format(value, '_')}")
    return "\n".join(lines)
