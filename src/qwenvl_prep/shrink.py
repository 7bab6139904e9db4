"""The largest common scale at which many images fit one request."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from qwenvl_prep._native import caps as _native
from qwenvl_prep.errors import AspectRatioError, BudgetError
from qwenvl_prep.geometry import (
    MAX_RATIO,
    billed_tokens_many,
    int64_array,
    integer,
    is_above_ratio,
    size_arrays,
)
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sizes import cap_tokens, least_tokens, tokens_under_caps
from qwenvl_prep.text_tokens import count_text_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "SizesFit",
    "fit_sizes",
    "floors_refused",
    "lower_caps",
    "most_images_of",
    "told_most",
]

# Largest weight over smallest. Above it, doubles begin to lose the smaller shares.
_MAX_WEIGHTS_RATIO = 1e9


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class SizesFit:
    """
    Caps under which images fit one request, with the arithmetic.

    Attributes
    ----------
    model : ModelProfile
        Model that will read them.
    caps : ndarray of int64, shape (n,)
        ``max_tokens`` for each image: its vision tokens at most.  Planned under it,
        an image costs what *tokens* says.  Read-only.
    tokens : ndarray of int64, shape (n,)
        Predicted billed tokens of each image, markers among them.  Read-only.
    scale : float
        The largest common scale, before what it leaves is given away; where nothing
        has to be shrunk, the least at which nothing is, which is 1.0 without weights.
    text_tokens, template_tokens, reserve : int
        Tokens of the text, the chat template and what is kept free.
    """

    model: ModelProfile
    caps: NDArray[np.int64]
    tokens: NDArray[np.int64]
    scale: float
    text_tokens: int
    template_tokens: int
    reserve: int

    @property
    def image_tokens(self) -> int:
        """Predicted billed tokens of all images."""
        return int(self.tokens.sum())

    @property
    def total(self) -> int:
        """Predicted tokens of everything; below :attr:`limit`."""
        return (
            self.image_tokens + self.text_tokens + self.template_tokens + self.reserve
        )

    @property
    def limit(self) -> int:
        """The model's maximum input; the total must stay below it."""
        return self.model.max_input_tokens

    @property
    def remaining(self) -> int:
        """Tokens that could still be added."""
        return self.limit - 1 - self.total

    def __repr__(self) -> str:
        return (
            f"<SizesFit {len(self.tokens):,} images at {self.scale:.4g}, "
            f"{self.total:,} tokens, {self.remaining:,} left for {self.model.name}>"
        )


def fit_sizes(
    heights: ArrayLike,
    widths: ArrayLike,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    text: str | int = 0,
    reserve: int = 0,
    weights: ArrayLike | None = None,
    floor: ArrayLike | None = None,
    high_resolution: bool = False,
    max_tokens: int | None = None,
    as_addresses: bool = False,
) -> SizesFit:
    """
    Lower the caps of many images until they fit one request, without the GIL.

    At a scale *s* each image is capped at ``s × weight × its natural vision tokens``,
    never below its floor and never above its natural tokens.  What it costs under a
    cap never falls as the cap rises, so there is a largest scale at which everything
    fits: the largest double, to the last bit.  What that leaves is given away in
    steps to the next larger size, each to the image that has least of its weighted
    natural tokens and whose step still fits, until no image's next step does.

    Parameters
    ----------
    heights, widths : array_like of int, shape (n,)
        Sizes of the upright images in pixels, at least 1.
    model : str or ModelProfile
        Model that will read them.
    text : str or int
        All text of the request, or its number of tokens.
    reserve : int
        Tokens to keep free beside the model's chat template, which is counted.
    weights : array_like of float, shape (n,), optional
        How much of its natural tokens an image keeps beside the others, above 0; all
        alike without them.  Only their ratios count.
    floor : int or array_like of int, shape (n,), optional
        Vision tokens that each image keeps at least, if it has them; without it,
        those that the model enlarges to.
    high_resolution : bool
        Whether the request will set ``vl_high_resolution_images``.
    max_tokens : int, optional
        Cap on each image's vision tokens below the model's own.
    as_addresses : bool
        Whether all images go as addresses, which the server fetches.  By default they
        go as data URIs, as all that is prepared here, and some models take fewer of
        those in one request.

    Returns
    -------
    SizesFit
        With caps and tokens in the order of the sizes.

    Raises
    ------
    BudgetError
        If they do not fit even at their floors, or are more images than the model
        takes; carries the tokens at the floors and how many would fit there.
    AspectRatioError
        If one side of an image is more than 200 times the other.
    TypeError, ValueError
        If an argument is of another type, shape or range.

    Notes
    -----
    That a size grows with its cap is no approximation: division, root and rounding
    down never fall as the cap rises.  Only below the model's least area, where the
    server enlarges, no cap is kept, and no scale goes there.

    Examples
    --------
    >>> fit_sizes([1280] * 50, [1280] * 50)
    <SizesFit 50 images at 0.5102, 30,683 tokens, 36 left for qwen-vl-max>
    >>> fit_sizes([2000, 2000], [3000, 3000], text=29_000, weights=[3, 1]).tokens
    array([1249,  444])
    """
    import numpy as np

    profile = get_model(model)
    first, second = size_arrays(heights, widths)
    count = first.shape[0]
    text_tokens = count_text_tokens(text, model=profile)
    reserve = integer("reserve", reserve, least=0)
    cap = cap_tokens(profile, high_resolution=high_resolution)
    if max_tokens is not None and (most := integer("max_tokens", max_tokens)) < cap:
        natural = _capped(first, second, most, profile, high_resolution)
        cap = most
    else:
        natural = billed_tokens_many(
            first, second, profile, high_resolution=high_resolution
        )
        natural -= profile.marker_tokens
    taken = text_tokens + reserve + profile.template_tokens
    markers = profile.marker_tokens
    room = profile.max_input_tokens - 1 - taken - count * markers
    most_images = most_images_of(profile, as_addresses=as_addresses)
    is_too_many = most_images is not None and count > most_images
    caps, vision, scale = lower_caps(
        first,
        second,
        natural,
        model=profile,
        weights=weights,
        floor=floor,
        room=-1 if is_too_many else room,
    )
    if scale < 0:
        sizes = zip(first.tolist(), second.tolist(), strict=True)
        raise floors_refused(
            [
                (f"{height}×{width}", tokens + markers)
                for (height, width), tokens in zip(sizes, vision.tolist(), strict=True)
            ],
            model=profile,
            text_tokens=text_tokens,
            reserve=reserve,
            most_images=most_images,
        )
    # A shape that the server enlarges above the model's own cap needs its own.
    np.copyto(caps, np.maximum(vision, cap), where=caps == 0)
    vision += markers
    for array in (caps, vision):
        array.flags.writeable = False
    return SizesFit(
        model=profile,
        caps=caps,
        tokens=vision,
        scale=scale,
        text_tokens=text_tokens,
        template_tokens=profile.template_tokens,
        reserve=reserve,
    )


def lower_caps(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    natural: NDArray[np.int64],
    *,
    model: ModelProfile,
    weights: ArrayLike | None,
    floor: ArrayLike | None,
    room: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """
    Lower the caps of images that are counted already; see :func:`fit_sizes`.

    Parameters
    ----------
    heights, widths : ndarray of int64, shape (n,)
        Sizes of the upright images in pixels.
    natural : ndarray of int64, shape (n,)
        Vision tokens of each image where its cap is not lowered.
    model, weights, floor
        As for :func:`fit_sizes`.
    room : int
        Vision tokens of all images at most; negative where nothing fits.

    Returns
    -------
    caps : ndarray of int64, shape (n,)
        The lowered cap of each image; 0 where it stays as it is.
    vision : ndarray of int64, shape (n,)
        Its vision tokens then.
    scale : float
        The largest common scale; negative where not even the floors fit: then
        *vision* holds those, and *caps* nothing useful.

    Raises
    ------
    AspectRatioError, TypeError, ValueError
        As for :func:`fit_sizes`.
    """
    import numpy as np

    count = heights.shape[0]
    shares = natural.astype(np.float64)
    if weights is not None:
        shares *= _weights(weights, count)
    floors = _floors(floor, count, model)
    # A model of one's own may leave an image no token at all: nothing to lower.
    places = np.flatnonzero(natural)
    is_empty = places.size < count
    if is_empty:
        heights, widths, natural = heights[places], widths[places], natural[places]
        shares, floors = shares[places], floors[places]
    caps = np.empty(places.size, dtype=np.int64)
    vision = np.empty(places.size, dtype=np.int64)
    refused, scale = _native.fit_scale(
        heights,
        widths,
        natural,
        shares,
        floors,
        caps,
        vision,
        np.empty((_native.WORK_ROWS, places.size), dtype=np.int64),
        np.empty(places.size, dtype=np.float64),
        model.factor,
        model.min_pixels,
        min(model.max_ratio, MAX_RATIO),
        # Beyond both ends nothing changes, but a number may leave 64 bits.
        min(max(room, -1), 2**62),
    )
    if refused >= 0:
        height, width = int(heights[refused]), int(widths[refused])
        index = int(places[refused])
        if not is_above_ratio(height, width):
            raise ValueError(
                f"Expected a size whose tokens can be searched but received "
                f"{height} × {width} at index {index}"
            )
        raise AspectRatioError(
            f"Expected sides with a ratio of at most {MAX_RATIO}:1 but received "
            f"{height} × {width} at index {index}; crop the image or cut it into "
            f"tiles",
            height=height,
            width=width,
            limit=MAX_RATIO,
        )
    if not is_empty:
        return caps, vision, scale
    all_caps, all_vision = np.zeros((2, count), dtype=np.int64)
    all_caps[places], all_vision[places] = caps, vision
    return all_caps, all_vision, scale


def most_images_of(model: ModelProfile, *, as_addresses: bool = False) -> int | None:
    """
    Give how many images one request takes, whatever they cost; None without a limit.

    Parameters
    ----------
    model : ModelProfile
        Model that will read them.
    as_addresses : bool
        Whether all go as addresses; else all go as data URIs.

    Examples
    --------
    >>> model = get_model("qwen3-vl-plus")
    >>> most_images_of(model), most_images_of(model, as_addresses=True)
    (250, 256)
    """
    limits = [model.max_images, None if as_addresses else model.max_data_uris]
    return min((limit for limit in limits if limit is not None), default=None)


def told_most(model: ModelProfile, most_images: int) -> str:
    """Tell how many images one request takes, and whether addresses would be more."""
    more = " as data URIs" if most_images != model.max_images else ""
    return f"{model.name} takes at most {most_images} images a request{more}"


def floors_refused(
    items: Sequence[tuple[str, int]],
    *,
    model: ModelProfile,
    text_tokens: int,
    reserve: int,
    most_images: int | None,
    n_fixed: int = 0,
) -> BudgetError:
    """
    Say why shrinking does not help.

    Parameters
    ----------
    items : sequence of (str, int)
        Name of each image and its billed tokens at its floor.
    model, text_tokens, reserve
        Of the request.
    most_images : int or None
        How many images one request takes, whatever they cost.
    n_fixed : int
        How many of the images keep their bytes, and so their tokens.
    """
    limit = model.max_input_tokens
    taken = text_tokens + reserve + model.template_tokens
    sums = list(accumulate((tokens for _, tokens in items), initial=taken))
    count = len(items)
    images = "1 image takes" if count == 1 else f"{count:,} images take"
    fits = bisect_left(sums, limit, 1) - 1
    reasons = []
    if most_images is not None and count > most_images:
        fits = min(fits, most_images)
        reasons.append(told_most(model, most_images))
    if sums[-1] >= limit:
        reasons.append("not even the floors fit")
    if n_fixed:
        reasons.append(f"{n_fixed:,} with encoding='keep' cannot be shrunk")
    if taken >= limit:
        advice = "Text, template and reserve alone do not fit; shorten the text"
    elif not fits:
        advice = "Not even the first image fits at its floor; lower the floor"
    else:
        advice = (
            f"The first {fits:,} would fit at their floors; send fewer at once, as "
            f"policy='split' does, or lower the floors"
        )
    return BudgetError(
        f"Expected a total below {limit:,} tokens for {model.name} but shrunk as far "
        f"as allowed {images} {sums[-1] - taken:,}, text "
        f"{text_tokens:,}, template {model.template_tokens:,}, reserve {reserve:,}, "
        f"together {sums[-1]:,}: {'; '.join(reasons)}. {advice}",
        needed=sums[-1],
        limit=limit,
        fits=fits,
        items=tuple(items),
    )


def _capped(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    most: int,
    model: ModelProfile,
    high_resolution: bool,
) -> NDArray[np.int64]:
    """Count the vision tokens under one cap, and refuse it where none is kept."""
    import numpy as np

    if most < least_tokens(model):
        raise ValueError(
            f"Expected max_tokens of at least {least_tokens(model)} for {model.name}, "
            f"which enlarges smaller images to that, but received {most}"
        )
    caps = np.full(heights.shape[0], most, dtype=np.int64)
    counts = tokens_under_caps(
        heights, widths, caps, model, high_resolution=high_resolution
    )
    counts -= model.marker_tokens
    above = np.flatnonzero(counts > most)
    if above.size:
        first = int(above[0])
        raise ValueError(
            f"Expected max_tokens of at least {counts[first]} for "
            f"{heights[first]} × {widths[first]} at index {first}, which {model.name} "
            f"enlarges to that, but received {most}"
        )
    return counts


def _weights(weights: ArrayLike, count: int) -> NDArray[np.float64]:
    """Give the weights as parts of the largest: only their ratios count."""
    import numpy as np

    given = np.asarray(weights)
    if given.size == 0 and given.ndim == 1:
        given = given.astype(np.float64)
    if given.dtype.kind not in "iuf":
        raise TypeError(f"Expected numbers for weights but received {given.dtype}")
    if given.shape != (count,):
        raise ValueError(
            f"Expected a weight for each of {count} images but received shape "
            f"{given.shape}"
        )
    made = given.astype(np.float64)
    if not count:
        return made
    least, most = float(made.min()), float(made.max())
    # NaN fails every comparison.
    if not (least > 0 and most < np.inf and most / least <= _MAX_WEIGHTS_RATIO):
        raise ValueError(
            f"Expected weights above 0, none more than {_MAX_WEIGHTS_RATIO:.0e} times "
            f"another, but received {least} to {most}"
        )
    return made / most


def _floors(
    floor: ArrayLike | None, count: int, model: ModelProfile
) -> NDArray[np.int64]:
    import numpy as np

    if floor is None:
        return np.full(count, least_tokens(model), dtype=np.int64)
    if np.ndim(floor) == 0:
        one = integer("floor", floor, least=0)
        # No image has as many.
        return np.full(count, min(one, 2**62), dtype=np.int64)
    floors = int64_array("floor", floor)
    if floors.shape[0] != count:
        raise ValueError(
            f"Expected a floor for each of {count} images but received "
            f"{floors.shape[0]}"
        )
    if count and floors.min() < 0:
        raise ValueError(f"Expected at least 0 for floor but received {floors.min()}")
    return floors
