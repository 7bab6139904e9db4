"""By which rule was billed: the profile that explains what the server counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from qwenvl_prep.geometry import smart_resize
from qwenvl_prep.profiles import DEFAULT_MODEL, get_model, list_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qwenvl_prep.profiles import ModelProfile

__all__ = ["UNNAMED", "Correction", "CountRule", "Sized", "corrections", "rule_of"]

# The model of records that name none.
UNNAMED = "unnamed"

# Sizes of a request's images, and the image tokens billed for them.
Sized = tuple[tuple[tuple[int, int], ...], int]

# What no published model uses, but a bill could be made by.
_FACTORS = (28, 32)
_MIN_TOKENS = (3, 4, 64)
_MARKERS = (2, 0, 1, 3, 4)
_LARGEST_CAP = 65_536

# Searching caps costs about 40 counts a bill and combination; so many different
# bills decide it, and all of them check it.
_SEARCHED = 200


class CountRule(NamedTuple):
    """The four numbers that the billed tokens of an image follow from."""

    factor: int
    min_pixels: int
    max_pixels: int
    marker_tokens: int

    def tokens(self, sizes: Iterable[tuple[int, int]]) -> int | None:
        """Count the images of a request; None where no rule has an answer."""
        total = 0
        for height, width in sizes:
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
            total += squares + self.marker_tokens
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
    changes : dict of str to (int or None)
        What :meth:`ModelProfile.replace` takes: the numbers that differ from the
        profile of *base*.  With another factor, the cap of the other resolution is
        taken over from the first of *alike*; the bills do not show it.
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
    changes: dict[str, int | None]

    @property
    def is_complete(self) -> bool:
        """Whether it explains every bill."""
        return self.explained == self.bills

    @property
    def sentence(self) -> str:
        """What was found, and how to use it, for a person."""
        square = self.rule.factor**2
        cap = f"{self.rule.max_pixels // square:,}"
        if self.least_cap is not None:
            most = "or more" if self.most_cap is None else f"to {self.most_cap:,}"
            if self.least_cap != self.most_cap:
                cap = f"{cap} (any of {self.least_cap:,} {most} would do)"
        what = (
            f"factor {self.rule.factor}, {self.rule.min_pixels // square} to {cap} "
            f"tokens an image, {self.rule.marker_tokens} markers"
        )
        alike = f", as {_listed(self.alike)}" if self.alike else ""
        high = " with high resolution" if self.high_resolution else ""
        numbers = [
            f"{name}={value:_}" if value else f"{name}={value}"
            for name, value in self.changes.items()
        ]
        is_named = self.model not in (self.base, UNNAMED)
        own = [f"name={self.model!r}"] if is_named else []
        words = ", ".join(own + numbers)
        bills = "bill" if self.bills == 1 else "bills"
        use = f"get_model({self.base!r})"
        if words:
            use = f"{use}.replace({words})"
        who = "A model that no record names" if self.model == UNNAMED else self.model
        return (
            f"{who} bills{high} by {what}{alike}: explains {self.explained:,} of "
            f"{self.bills:,} {bills}; use {use}"
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
    >>> corrections("qwen-vl-max", known, [(((1365, 2048),), 2503)])[0].changes
    {'factor': 32, 'min_pixels': ..., 'max_pixels': 2621440, ...}
    """
    counted = Counter(bills)
    total = counted.total()
    own = None
    if profile is not None and not (
        high_resolution and profile.high_resolution_pixels is None
    ):
        own = rule_of(profile, high_resolution=high_resolution)
    by_own = 0 if own is None else _explained(own, counted)
    if not counted or by_own == total:
        return ()
    known = _known_rules()
    rings: list[list[_Found]] = [
        [_Found(rule, _explained(rule, counted), None, None) for rule in known],
        [
            _Found(rule, _explained(rule, counted), None, None)
            for one in known
            for rule in (one._replace(marker_tokens=count) for count in _MARKERS)
            if rule not in known
        ],
    ]
    best: list[_Found] = []
    for ring in (*rings, None):
        # The third ring is costly, and needed only where nothing published explains.
        found = _searched(counted, own) if ring is None else ring
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


def _explained(rule: CountRule, counted: Counter[Sized]) -> int:
    return sum(
        times
        for (sizes, billed), times in counted.items()
        if rule.tokens(sizes) == billed
    )


def _known_rules() -> dict[CountRule, tuple[str, ...]]:
    """Give each published rule, default and high resolution, with its models."""
    names: dict[CountRule, list[str]] = {}
    for profile in list_models():
        names.setdefault(rule_of(profile), []).append(profile.name)
    for profile in list_models():
        if profile.high_resolution_pixels is not None:
            high = rule_of(profile, high_resolution=True)
            label = f"{profile.name} with high resolution"
            names.setdefault(high, []).append(label)
    return {rule: tuple(models) for rule, models in names.items()}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _searched(counted: Counter[Sized], own: CountRule | None) -> list[_Found]:
    """Search caps that no model publishes; the published ones failed."""
    sample = list(counted)[:_SEARCHED]
    found = []
    for marker in _MARKERS:
        for factor in _FACTORS:
            mins = {tokens * factor**2 for tokens in _MIN_TOKENS}
            if own is not None and own.factor == factor:
                mins.add(own.min_pixels)
            for least in sorted(mins):
                base = CountRule(factor, least, least, marker)
                found += list(_best_cap(base, sample, counted, own))
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


def _best_cap(
    base: CountRule,
    sample: Sequence[Sized],
    counted: Counter[Sized],
    own: CountRule | None,
) -> Iterator[_Found]:
    """Find the caps, as a range of vision tokens, that explain most bills."""
    square = base.factor**2
    lowest = -(-base.min_pixels // square)
    steps: Counter[int] = Counter()
    for bill in sample:
        caps = _cap_range(base, bill, lowest)
        if caps is not None:
            steps[caps[0]] += counted[bill]
            steps[caps[1] + 1] -= counted[bill]
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
    yield _Found(
        rule, _explained(rule, counted), least_cap, None if is_open else most_cap
    )


def _cap_range(base: CountRule, bill: Sized, lowest: int) -> tuple[int, int] | None:
    """Give the least and the most cap in tokens under which a bill comes out."""
    sizes, billed = bill
    square = base.factor**2

    def counted(cap: int) -> int:
        return base._replace(max_pixels=cap * square).tokens(sizes) or 0

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
        changes={
            name: value
            for name, value in values.items()
            if getattr(base, name) != value
        },
    )
