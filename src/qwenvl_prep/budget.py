"""Whether these images and this text fit one request."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

from qwenvl_prep.errors import (
    FEW,
    BudgetError,
    ImagesRefusedError,
    QwenVLPrepError,
    shortened,
    without_frames,
)
from qwenvl_prep.geometry import integer
from qwenvl_prep.plan import ImagePlan, lowered_plan, plan
from qwenvl_prep.prepare import PreparedImage
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.shrink import floors_refused, lower_caps, most_images_of, told_most
from qwenvl_prep.sizes import cap_tokens
from qwenvl_prep.sources import listed, name_of
from qwenvl_prep.split import (
    body_byte_bound,
    counts_of,
    known_data_uri_bytes,
    split_requests,
)
from qwenvl_prep.text_tokens import text_tokens_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from qwenvl_prep.options import PlanOptions

__all__ = ["Policy", "RequestPlan", "count_fitting", "fit"]

Policy: TypeAlias = Literal["error", "shrink", "split"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RequestPlan:
    """
    Images and text that fit one request, with the arithmetic.

    Attributes
    ----------
    model : ModelProfile
        Model that will read them.
    items : tuple of (str, int)
        Name and predicted billed tokens of each image, in order.
    text_tokens : int
        Tokens of the text.
    template_tokens : int
        Tokens of the model's chat template, which every request has.
    reserve : int
        Tokens kept free beside images, text and template.
    images : tuple of ImagePlan
        The plans behind *items*, in order; empty where only counts were given.
    scale : float or None
        The largest common scale of ``policy="shrink"``, before what it leaves is
        given away; 1.0 where nothing was shrunk and no weights were given.
    caps : tuple of int
        Of ``policy="shrink"``: ``max_tokens`` under which each image costs what
        *items* says.
    is_text_exact : bool
        Whether *text_tokens* were counted; else they are an upper bound.
    """

    model: ModelProfile
    items: tuple[tuple[str, int], ...]
    text_tokens: int
    template_tokens: int
    reserve: int
    images: tuple[ImagePlan, ...] = ()
    scale: float | None = None
    caps: tuple[int, ...] = ()
    is_text_exact: bool = True

    @property
    def image_tokens(self) -> int:
        """Predicted billed tokens of all images."""
        return sum(tokens for _, tokens in self.items)

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
            f"<RequestPlan {_images(len(self.items))}, {self.total:,} tokens, "
            f"{self.remaining:,} left for {self.model.name}>"
        )


@overload
def fit(
    images: Iterable[Any],
    *,
    model: str | ModelProfile = ...,
    text: str | int = ...,
    reserve: int = ...,
    policy: Literal["error", "shrink"] = ...,
    weights: ArrayLike | None = ...,
    floor: ArrayLike | None = ...,
    keys: None = ...,
    high_resolution: bool = ...,
    max_tokens: int | None = ...,
) -> RequestPlan: ...


@overload
def fit(
    images: Iterable[Any],
    *,
    model: str | ModelProfile = ...,
    text: str | int = ...,
    reserve: int = ...,
    policy: Literal["split"],
    weights: None = ...,
    floor: None = ...,
    keys: Iterable[Hashable] | None = ...,
    high_resolution: bool = ...,
    max_tokens: int | None = ...,
) -> tuple[RequestPlan, ...]: ...


def fit(
    images: Iterable[Any],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    text: str | int = "",
    reserve: int = 0,
    policy: Policy = "error",
    weights: ArrayLike | None = None,
    floor: ArrayLike | None = None,
    keys: Iterable[Hashable] | None = None,
    high_resolution: bool = False,
    max_tokens: int | None = None,
) -> RequestPlan | tuple[RequestPlan, ...]:
    """
    Hold images and text against the model's maximum input.

    Parameters
    ----------
    images : iterable
        Prepared images, plans or inputs of :func:`qwenvl_prep.plan`; of the last,
        only the header is read.
    model : str or ModelProfile
        Model that will read them.
    text : str or int
        All text of the request.  A ``str`` counts as
        :func:`~qwenvl_prep.text_tokens_of` says: its tokens where the extra
        ``tokens`` is installed, else its UTF-8 bytes, which are never fewer; an
        ``int`` is the number of tokens, if you know it.
    reserve : int
        Tokens to keep free beside the model's chat template, which is counted.
    policy : {"error", "shrink", "split"}
        What to do where they do not fit: refuse, or lower the caps of the images as
        :func:`~qwenvl_prep.fit_sizes` does.  What it hands back are new plans; images
        that were prepared already have to be prepared again by them.  With
        ``encoding="keep"`` an image keeps its bytes, so its tokens are taken as fixed.
        ``"split"`` puts the images into as few requests as possible, in order, each
        with the whole text, template and reserve.  Bytes of a request's body count as
        far as they are known: of prepared images, and of those that are kept.
    weights, floor
        For ``"shrink"``, as for :func:`~qwenvl_prep.fit_sizes`: one weight for each
        image, and a floor in vision tokens for all or for each.
    keys : iterable of hashable, optional
        For ``"split"``: images one after another with equal keys stay together; see
        :func:`~qwenvl_prep.split_requests`.
    high_resolution, max_tokens
        As for :func:`qwenvl_prep.plan`, for images that are not planned yet.

    Returns
    -------
    RequestPlan or tuple of RequestPlan
        Whose total is below the maximum input; of ``"split"`` one or more of them.

    Raises
    ------
    BudgetError
        If they do not fit; carries the arithmetic for each image and how many of
        them would fit.  With ``"shrink"``, if they do not fit even at their floors.
    ImagesRefusedError
        If some images are refused; carries every one of them with its reason.
    ValueError
        If a plan was made for another model or resolution, or an argument is out of
        range.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.zeros((1280, 1280), np.uint8)
    >>> fit([picture] * 25)
    <RequestPlan 25 images, 30,694 tokens, 25 left for qwen-vl-max>
    >>> request = fit([picture] * 50, policy="shrink")
    >>> request, request.images[-1]
    (<RequestPlan 50 images, 30,683 tokens, 36 left for qwen-vl-max>,
     <ImagePlan pixels: 672x672, 578 tokens, resized 1280×1280 → 672×672>)
    >>> [len(request.items) for request in fit([picture] * 30, policy="split")]
    [25, 5]
    """
    profile = get_model(model)
    if policy not in get_args(Policy):
        known = ", ".join(map(repr, get_args(Policy)))
        raise ValueError(f"Expected one of {known} for policy but received {policy!r}")
    if policy != "shrink" and (weights is not None or floor is not None):
        raise ValueError(
            f"Expected weights and floor with policy='shrink' alone but received them "
            f"with {policy!r}"
        )
    if policy != "split" and keys is not None:
        raise ValueError(
            f"Expected keys with policy='split' alone but received them with {policy!r}"
        )
    plans: list[ImagePlan] = []
    lengths: list[int] = []
    refused: list[tuple[int, str, QwenVLPrepError]] = []
    for index, image in enumerate(listed(images)):
        try:
            made = _planned(image, profile, high_resolution, max_tokens)
            plans.append(made)
            if policy == "split":
                sent = image if isinstance(image, PreparedImage) else made
                lengths.append(known_data_uri_bytes(sent))
        except QwenVLPrepError as exc:
            refused.append((index, name_of(image, index), without_frames(exc)))
    if refused:
        raise ImagesRefusedError.of(refused, len(refused) + len(plans))
    bare = _bare(profile, text, reserve)
    if policy == "shrink":
        return _shrunk(bare, plans, weights, floor)
    if policy == "split":
        return _split(bare, plans, lengths, text, keys)
    return _held(_filled(bare, plans), most_images=most_images_of(profile))


def _split(
    bare: RequestPlan,
    plans: Sequence[ImagePlan],
    lengths: Sequence[int],
    text: str | int,
    keys: Iterable[Hashable] | None,
) -> tuple[RequestPlan, ...]:
    """Give the fewest requests; without images one, of the text."""
    ranges = split_requests(
        [one.tokens for one in plans],
        model=bare.model,
        taken=bare.total,
        data_uri_bytes=lengths,
        body_bytes=body_byte_bound(text) if isinstance(text, str) else 0,
        keys=keys,
        names=[one.name for one in plans],
    )
    return tuple(
        _filled(bare, plans[one.start : one.stop]) for one in ranges or (range(0),)
    )


def _shrunk(
    bare: RequestPlan,
    plans: Sequence[ImagePlan],
    weights: ArrayLike | None,
    floor: ArrayLike | None,
) -> RequestPlan:
    """Lower the caps of those images whose bytes need not be kept."""
    import numpy as np

    model = bare.model
    count = len(plans)
    is_free = np.array([one.options.encoding != "keep" for one in plans], dtype=bool)
    vision = np.array([one.vision_tokens for one in plans], dtype=np.int64)
    most = most_images_of(model)
    room = bare.remaining - count * model.marker_tokens - int(vision[~is_free].sum())
    free = [one for one in plans if one.options.encoding != "keep"]
    lowered, areas, scale = lower_caps(
        np.array([one.info.upright_height for one in free], dtype=np.int64),
        np.array([one.info.upright_width for one in free], dtype=np.int64),
        vision[is_free],
        model=model,
        weights=_of(weights, is_free),
        floor=_of(floor, is_free),
        room=-1 if most is not None and count > most else room,
    )
    caps = np.zeros(count, dtype=np.int64)
    caps[is_free] = lowered
    vision[is_free] = areas
    if scale < 0:
        tokens = (vision + model.marker_tokens).tolist()
        raise floors_refused(
            [(one.name, count) for one, count in zip(plans, tokens, strict=True)],
            model=model,
            text_tokens=bare.text_tokens,
            reserve=bare.reserve,
            most_images=most,
            n_fixed=count - len(free),
        )
    # Many images share their options and their cap: each pair is checked once.
    known: dict[tuple[PlanOptions, int], PlanOptions] = {}
    made: list[ImagePlan] = []
    for one, cap in zip(plans, caps.tolist(), strict=True):
        if not cap:
            made.append(one)
            continue
        key = (one.options, cap)
        if key not in known:
            known[key] = dataclasses.replace(one.options, max_tokens=cap)
        made.append(lowered_plan(one, known[key]))
    return dataclasses.replace(
        _filled(bare, made),
        scale=scale,
        caps=tuple(_cap(one) for one in made),
    )


def _of(values: ArrayLike | None, chosen: NDArray[np.bool_]) -> ArrayLike | None:
    """Give the values of the chosen images, where there is one for each."""
    import numpy as np

    if values is None or np.ndim(values) == 0 or len(np.asarray(values)) != len(chosen):
        return values
    return np.asarray(values)[chosen]


def _cap(made: ImagePlan) -> int:
    """Give the vision tokens that cap an image: the caller's or the model's."""
    options = made.options
    cap = cap_tokens(made.model, high_resolution=options.high_resolution)
    # A shape that the server enlarges above the model's own cap needs its own.
    return max(min(cap, options.max_tokens or cap), made.vision_tokens)


def fit_items(
    items: Sequence[tuple[str, int]],
    *,
    model: ModelProfile,
    text: str | int = "",
    reserve: int = 0,
    as_addresses: bool = False,
) -> RequestPlan:
    """
    Hold images that are counted already against the model; see :func:`fit`.

    Parameters
    ----------
    items : sequence of (str, int)
        Name and predicted billed tokens of each image, in order.
    model, text, reserve
        As for :func:`fit`.
    as_addresses : bool
        As for :func:`count_fitting`.

    Raises
    ------
    BudgetError, TypeError, ValueError
        As for :func:`fit`.
    """
    bare = _bare(model, text, reserve)
    return _held(
        dataclasses.replace(bare, items=tuple(items)),
        most_images=most_images_of(model, as_addresses=as_addresses),
    )


def _bare(model: ModelProfile, text: str | int, reserve: int) -> RequestPlan:
    """Give the request without its images, whether it fits or not."""
    reserve = integer("reserve", reserve, least=0)
    counted = text_tokens_of(text, model=model)
    return RequestPlan(
        model=model,
        items=(),
        text_tokens=counted.count,
        template_tokens=model.template_tokens,
        reserve=reserve,
        is_text_exact=counted.is_exact,
    )


def _filled(bare: RequestPlan, plans: Sequence[ImagePlan]) -> RequestPlan:
    return dataclasses.replace(
        bare,
        items=tuple((one.name, one.tokens) for one in plans),
        images=tuple(plans),
    )


def _held(request: RequestPlan, *, most_images: int | None) -> RequestPlan:
    """Refuse a request that does not fit."""
    count = len(request.items)
    fits = _fitting(
        counts_of("tokens", [tokens for _, tokens in request.items]),
        request.limit,
        request.total - request.image_tokens,
        most_images,
    )
    if fits < count or request.total >= request.limit:
        raise BudgetError(
            _refusal(request, fits, most_images),
            needed=request.total,
            limit=request.limit,
            fits=fits,
            items=request.items,
        )
    return request


def count_fitting(
    tokens: Iterable[int],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    taken: int = 0,
    as_addresses: bool = False,
) -> int:
    """
    Tell how many images, counted from the first, fit one request.

    Parameters
    ----------
    tokens : iterable of int
        Predicted billed tokens of each image, in order.
    model : str or ModelProfile
        Model that will read them.
    taken : int
        Tokens that text, chat template and reserve take.
    as_addresses : bool
        Whether all images go as addresses, which the server fetches.  By default they
        go as data URIs, as all that is prepared here, and some models take fewer of
        those in one request.  Images of both kinds are put into requests by
        :func:`~qwenvl_prep.split_requests`.

    Returns
    -------
    int
        As many of them are below the model's maximum input together, and no more
        than it takes in one request.

    Raises
    ------
    TypeError, ValueError
        If a number is negative or no int.

    Examples
    --------
    >>> count_fitting([1227] * 100), count_fitting([2118] * 100)
    (25, 14)
    >>> count_fitting([10] * 300, model="qwen3-vl-plus")
    250
    """
    profile = get_model(model)
    return _fitting(
        counts_of("tokens", tokens),
        profile.max_input_tokens,
        integer("taken", taken, least=0),
        most_images_of(profile, as_addresses=as_addresses),
    )


def _fitting(
    tokens: Sequence[int], limit: int, taken: int, most_images: int | None
) -> int:
    """Give how many images fit, counted from the first."""
    fits = bisect_left(list(accumulate(tokens, initial=taken)), limit, 1) - 1
    return fits if most_images is None else min(fits, most_images)


def _planned(
    image: Any, model: ModelProfile, high_resolution: bool, max_tokens: int | None
) -> ImagePlan:
    if isinstance(image, PreparedImage):
        image = image.plan
    made: ImagePlan = (
        image
        if isinstance(image, ImagePlan)
        else plan(
            image, model=model, high_resolution=high_resolution, max_tokens=max_tokens
        )
    )
    # Nearly always the very same, and comparing all its numbers takes its time.
    is_other = made.model is not model and made.model != model
    if is_other or made.options.high_resolution != high_resolution:
        raise ValueError(
            f"Expected images planned for {model.name} with "
            f"high_resolution={high_resolution} but {made.name} was planned for "
            f"{made.model.name} with "
            f"high_resolution={made.options.high_resolution}; plan it again"
        )
    return made


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _refusal(request: RequestPlan, fits: int, most_images: int | None) -> str:
    count = len(request.items)
    model = request.model
    if most_images is not None and count > most_images:
        limit = f"{told_most(model, most_images)}. "
        advice = f"The first {_images(fits)} would fit; send fewer at once"
    else:
        limit = ""
        advice = (
            f"The first {_images(fits)} would fit; send fewer at once, lower "
            f"max_tokens or let policy='shrink' do that"
        )
    if request.total - request.image_tokens >= request.limit:
        advice = "Text, template and reserve alone do not fit; shorten the text"
    elif not fits:
        advice = "Not even the first image fits; lower max_tokens"
    few = request.items[:FEW]
    shown = ", ".join(f"{shortened(name)} {tokens:,}" for name, tokens in few)
    more = f", … {count - FEW} more" if count > FEW else ""
    return (
        f"Expected a total below {request.limit:,} tokens for {model.name} but "
        f"received {request.total:,}: {_images(count)} with {request.image_tokens:,} "
        f"({shown}{more}), text with {request.text_tokens:,}, template "
        f"{request.template_tokens:,}, reserve {request.reserve:,}. {limit}"
        f"{advice}"
    )
