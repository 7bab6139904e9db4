"""Which quality and size keep a limit in bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from qwenvl_prep.encode import EncodedImage, Picture, encode_picture
from qwenvl_prep.errors import EncodedSizeError
from qwenvl_prep.geometry import is_above_ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwenvl_prep.decode import Pixels
    from qwenvl_prep.plan import ImagePlan

__all__ = ["encode_within"]

# Of encoding, to fit a limit: so often, and no more.
_MOST_TRIES = 8
# Below this quality a smaller picture of the same length is the better one.
_LEAST_QUALITY = 30
# This much of the limit is enough; each further try costs as much as the first.
_ENOUGH = 0.92
# Aimed at, so that a prediction that is a little off still fits.
_AIM = 0.97
# The same for sizes: they are predicted less well, and come in steps.
_ENOUGH_SIZE = 0.8
_AIM_SIZE = 0.92
# How the logarithm of the length goes with that of JPEG's scale, and of the area,
# until two tries tell it better; medians of the public corpora.
_SLOPE_OF_SCALE = -0.6
_SLOPE_OF_AREA = 0.9
# A slope that two tries tell is believed within these multiples of the usual one.
_LEAST_SLOPE = 0.1
_MOST_SLOPE = 3.0
# Where the size that is predicted has up to this multiple of the smallest's area, the
# smallest comes first: it says whether anything fits.
_NEAR_SMALLEST = 4
# Where the smallest takes up to this multiple of the limit, so many above it are tried
# too: headers can make it the longer one, and a lossless one may have lost its palette.
_NEARLY_LOSSY, _NEIGHBOURS_LOSSY = 1.25, 2
_NEARLY_LOSSLESS, _NEIGHBOURS_LOSSLESS = 6, _MOST_TRIES


def encode_within(
    render: Callable[[int, int], Pixels], plan: ImagePlan
) -> tuple[EncodedImage, Pixels]:
    """
    Encode a picture so that its data URI keeps the plan's limit.

    Lower qualities are tried before smaller sizes, and 8 encodings at most.  Sizes lie
    on the model's grid, so that the server resizes nothing once more.  Lossless types
    have no quality, and ``"auto"`` gives up being lossless first.  Nothing is refused
    before the smallest legal size was tried, at the least quality.

    Parameters
    ----------
    render : callable
        Given height and width, it gives the exact pixels at that size.  Called with
        the plan's own size first, then with smaller ones.
    plan : ImagePlan
        Type, quality, chroma and limit.

    Returns
    -------
    (EncodedImage, Pixels)
        The first encoding where it fits; else one that fills the limit as well as
        could be found.  The pixels are those that were encoded.

    Raises
    ------
    EncodedSizeError
        If nothing that was tried fits; it says what came closest.
    ImageError
        As for :func:`encode`, and whatever *render* raises.
    """
    search = _Search(render, plan)
    search.resize(plan.height, plan.width)
    length = search.attempt(plan.options.quality)
    if search.best is None and search.is_lossless:
        search.shrink(plan.options.quality, length)
    elif search.best is None:
        search.lower(length)
    if search.best is None:
        raise search.refusal()
    return search.best.encoded, search.best.pixels


class _Point(NamedTuple):
    """One point of a curve: where, and the logarithm of how long."""

    place: float
    length: float


class _Fit(NamedTuple):
    """What fits, and the pixels and the quality it was made of."""

    encoded: EncodedImage
    pixels: Pixels
    quality: int

    @property
    def rank(self) -> tuple[int, int]:
        """Size comes before quality: qualities go up only where no size does."""
        return self.pixels.height * self.pixels.width, self.quality


@dataclass(slots=True)
class _Search:
    """
    The way to the largest picture that a limit allows, at the best quality.

    Lengths are logarithms of multiples of the limit: they fall evenly with the
    logarithm of JPEG's scale of steps, and with that of the area, so a straight line
    leads close in one or two tries.  Where it leads outside of what is known, halving
    does.
    """

    render: Callable[[int, int], Pixels]
    plan: ImagePlan
    best: _Fit | None = None
    tries: int = 0
    shortest: tuple[int, str] | None = None
    pixels: Pixels = field(init=False)
    picture: Picture = field(init=False)

    @property
    def is_lossless(self) -> bool:
        """Whether the type has no quality that could be lowered."""
        return self.plan.options.encoding in ("png", "webp-lossless")

    @property
    def tries_left(self) -> int:
        return _MOST_TRIES - self.tries

    def resize(self, height: int, width: int) -> None:
        """Go on with pixels of this size."""
        self.pixels = self.render(height, width)
        self.picture = Picture(self.pixels.data)

    def attempt(self, quality: int) -> float:
        """Encode once, keep what fits, and give the length as :class:`_Search` does."""
        limit = self.plan.max_data_uri_bytes
        made = encode_picture(self.picture, self.plan, quality, is_first=not self.tries)
        # In this order: where the wanted one is too long, the other may fit.
        for encoded in dict.fromkeys((made.wanted, made.lossless, made.encoded)):
            if encoded is not None:
                self._note(encoded, quality)
        # What auto tried as PNG is an encoding too.
        self.tries += 1 if made.lossless is None else 2
        return math.log(made.encoded.data_uri_length / limit)

    def _note(self, encoded: EncodedImage, quality: int) -> None:
        length = encoded.data_uri_length
        if self.shortest is None or length < self.shortest[0]:
            size = f"{self.pixels.height} × {self.pixels.width}"
            self.shortest = length, f"{encoded.label} at {size}"
        fit = _Fit(encoded, self.pixels, quality)
        is_better = self.best is None or fit.rank > self.best.rank
        if length <= self.plan.max_data_uri_bytes and is_better:
            self.best = fit

    def lower(self, length: float) -> None:
        """Try lower qualities, then smaller sizes at the least of them."""
        most = self.plan.options.quality
        least = min(_LEAST_QUALITY, most)
        lengths = {most: length}
        if least < most:
            # One guess, and the least itself: sizes need the tries that are left.
            point = _Point(_scale(most), length)
            guess = _quality(_place([point], _SLOPE_OF_SCALE, math.log(_AIM)))
            for quality in dict.fromkeys((min(max(guess, least), most - 1), least)):
                lengths[quality] = self.attempt(quality)
                if self.best is not None:
                    break
        if self.best is None:
            lengths = {least: self.shrink(least, lengths[least])}
        if self.best is not None:
            self._fill(lengths, most)

    def _fill(self, lengths: dict[int, float], most: int) -> None:
        """Try qualities above one that fits, until one fills the limit."""
        while self.tries_left:
            low = max(quality for quality, length in lengths.items() if length <= 0)
            higher = [quality for quality in lengths if quality > low]
            high = min(higher, default=most + 1)
            if lengths[low] >= math.log(_ENOUGH) or high - low <= 1:
                return
            others = higher or [quality for quality in lengths if quality < low]
            known = [low, min(others, key=lambda other: abs(other - low), default=low)]
            points = [_Point(_scale(quality), lengths[quality]) for quality in known]
            quality = _quality(_place(points, _SLOPE_OF_SCALE, math.log(_AIM)))
            if higher and not low < quality < high:
                # The curve is no line here; halving always comes closer.
                quality = _quality((_scale(low) + _scale(high)) / 2)
            quality = min(max(quality, low + 1), high - 1)
            lengths[quality] = self.attempt(quality)

    def shrink(self, quality: int, length: float) -> float:
        """
        Try smaller sizes; *length* is that of the plan's own.

        Returns
        -------
        float
            The length of the largest that fits, with whose pixels the search goes on.
        """
        sizes = self._sizes()
        own = len(sizes)
        areas = [h * w for h, w in (*sizes, (self.plan.height, self.plan.width))]
        lengths = {own: length}
        while self.tries_left and own:
            index = self._next_size(lengths, areas)
            if index is None:
                break
            self.resize(*sizes[index])
            lengths[index] = self.attempt(quality)
        if self.best is None:
            return length
        # The last size that was tried may have been too large.
        self.pixels = self.best.pixels
        self.picture = Picture(self.pixels.data)
        return max((i, length) for i, length in lengths.items() if length <= 0)[1]

    def _next_size(self, lengths: dict[int, float], areas: list[int]) -> int | None:
        """Give the index of the size to try next; None where it is done."""
        low = max((i for i, length in lengths.items() if length <= 0), default=-1)
        high = min(i for i in lengths if i > low)
        # Of a lossy type, the last try is worth more as a higher quality.
        is_last = self.tries_left == 1
        if low >= 0 and (
            lengths[low] >= math.log(_ENOUGH_SIZE)
            or high - low <= 1
            or (is_last and not self.is_lossless)
        ):
            return None
        if 0 in lengths and low < 0:
            return self._neighbour(lengths, len(areas) - 1)
        # Lossless lengths may rise before they fall, so there the smallest comes first.
        if low < 0 and (is_last or self.is_lossless):
            return 0
        known = [low, high] if low >= 0 else sorted(lengths)[:2]
        points = [
            _Point(math.log(areas[i]), lengths[i] * _weight(i, lengths)) for i in known
        ]
        # What missed was predicted badly; the next has to be more careful.
        missed = sum(length > 0 for length in lengths.values()) - 1
        aim = math.log(_AIM_SIZE) - (0.05 if low >= 0 else 0.2) * missed
        area = math.exp(_place(points, _SLOPE_OF_AREA, aim))
        if low < 0 and area <= _NEAR_SMALLEST * areas[0]:
            return 0
        index = max((i for i in range(high) if areas[i] <= area), default=-1)
        if not low < index < high:
            # The curve is no line here; halving always comes closer.
            area = math.sqrt(areas[max(low, 0)] * areas[high])
            index = max(i for i in range(high) if areas[i] <= area)
        return min(max(index, low + 1), high - 1)

    def _neighbour(self, lengths: dict[int, float], own: int) -> int | None:
        """Give the next size above the smallest, where that nearly fits."""
        nearly, count = _NEARLY_LOSSY, _NEIGHBOURS_LOSSY
        if self.is_lossless:
            nearly, count = _NEARLY_LOSSLESS, _NEIGHBOURS_LOSSLESS
        if lengths[0] > math.log(nearly):
            return None
        # The same ones whatever the limit, so that a larger one is not refused.
        return next(
            (i for i in range(1, min(1 + count, own)) if i not in lengths), None
        )

    def _sizes(self) -> list[tuple[int, int]]:
        """Give the legal sizes below the plan's own, in steps of the model's grid."""
        info, factor = self.plan.info, self.plan.model.factor
        is_upright = info.upright_height >= info.upright_width
        sides = info.upright_height, info.upright_width
        share = min(sides) / max(sides)
        sizes: list[tuple[int, int]] = []
        others: list[tuple[int, int]] = []
        for steps in range(1, max(self.plan.height, self.plan.width) // factor + 1):
            nearest = max(round(steps * share), 1)
            for short in {nearest, int(steps * share), int((steps + 1) * share)}:
                height, width = (steps, short) if is_upright else (short, steps)
                size = height * factor, width * factor
                if short and self._is_smaller(*size):
                    (sizes if short == nearest else others).append(size)
        # Rounded the other way, one may be smaller than all that keep the shape best.
        least = min(others, key=math.prod, default=None)
        if least and (not sizes or math.prod(least) < math.prod(sizes[0])):
            sizes.insert(0, least)
        return sizes

    def _is_smaller(self, height: int, width: int) -> bool:
        """Tell whether it is a legal size, and smaller than the plan's own."""
        own = self.plan.height, self.plan.width
        is_within = height <= own[0] and width <= own[1] and (height, width) != own
        # Below its least area the server would enlarge what was shrunk.
        is_large_enough = height * width >= self.plan.model.min_pixels
        return is_within and is_large_enough and not is_above_ratio(height, width)

    def refusal(self) -> EncodedSizeError:
        """Say what came closest."""
        limit = self.plan.max_data_uri_bytes
        shortest, what = self.shortest or (0, "nothing")
        remedy = "allow JPEG" if self.is_lossless else "crop the picture"
        return EncodedSizeError(
            f"Expected a data URI of at most {limit:,} bytes for {self.plan.name} but "
            f"the shortest reached is {shortest:,} ({what}); {remedy} or raise "
            f"max_bytes",
            reached=shortest,
            limit=limit,
        )


def _weight(index: int, lengths: dict[int, float]) -> float:
    """Tell how much of a length still counts, where all later ones lie opposite."""
    # A curve that bends leaves one end of a bracket where it is, and each line between
    # the two falls short. Halving the far one for every try is the Illinois method.
    order = list(lengths)
    later = [lengths[i] > 0 for i in order[order.index(index) + 1 :]]
    is_opposite = later and all(way != (lengths[index] > 0) for way in later)
    return 0.5 ** (len(later) - 1) if is_opposite else 1.0


def _place(points: list[_Point], usual: float, aim: float) -> float:
    """
    Tell where a straight line from the first point reaches the length *aim*.

    Its slope is the usual one where there is no second point, or none that says more.
    """
    first, last = points[0], points[-1]
    slope = usual
    if last.place != first.place:
        slope = (last.length - first.length) / (last.place - first.place)
        multiple = min(max(slope / usual, _LEAST_SLOPE), _MOST_SLOPE)
        slope = usual * multiple
    return first.place + (aim - first.length) / slope


def _scale(quality: int) -> float:
    """Give the logarithm of what libjpeg multiplies its tables with, in percent."""
    return math.log(5000 / quality if quality < 50 else 200 - 2 * quality)


def _quality(scale: float) -> int:
    """Undo :func:`_scale`, rounding down."""
    percent = math.exp(min(scale, 10))
    return int(5000 / percent if percent > 100 else (200 - percent) / 2)
