"""Whether these images and this text fit one request."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwenvl_prep.errors import (
    BudgetError,
    ImagesRefusedError,
    QwenVLPrepError,
    without_frames,
)
from qwenvl_prep.geometry import integer
from qwenvl_prep.plan import ImagePlan, plan
from qwenvl_prep.prepare import PreparedImage
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sources import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["RequestPlan", "count_fitting", "fit", "text_token_bound"]


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
        Tokens of the text; an upper bound where text itself was given.
    reserve : int
        Tokens kept free for what is not counted here, such as the chat template.
    images : tuple of ImagePlan
        The plans behind *items*, in order; empty where only counts were given.
    """

    model: ModelProfile
    items: tuple[tuple[str, int], ...]
    text_tokens: int
    reserve: int
    images: tuple[ImagePlan, ...] = ()

    @property
    def image_tokens(self) -> int:
        """Predicted billed tokens of all images."""
        return sum(tokens for _, tokens in self.items)

    @property
    def total(self) -> int:
        """Predicted tokens of images, text and reserve; below :attr:`limit`."""
        return self.image_tokens + self.text_tokens + self.reserve

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


def fit(
    images: Iterable[Any],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    text: str | int = "",
    reserve: int = 0,
    high_resolution: bool = False,
    max_tokens: int | None = None,
) -> RequestPlan:
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
        All text of the request.  A ``str`` counts as its UTF-8 bytes, which is never
        less than its tokens; an ``int`` is the number of tokens, if you know it.
    reserve : int
        Tokens to keep free, for example about 26 for the chat template of the
        28-pixel models.
    high_resolution, max_tokens
        As for :func:`qwenvl_prep.plan`, for images that are not planned yet.

    Returns
    -------
    RequestPlan
        Whose total is below the maximum input.

    Raises
    ------
    BudgetError
        If they do not fit; carries the arithmetic for each image and how many of
        them would fit.
    ImagesRefusedError
        If some images are refused; carries every one of them with its reason.
    ValueError
        If a plan was made for another model or resolution.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.zeros((1280, 1280), np.uint8)
    >>> fit([picture] * 25)
    <RequestPlan 25 images, 30,675 tokens, 44 left for qwen-vl-max>
    """
    profile = get_model(model)
    plans: list[ImagePlan] = []
    refused: list[tuple[int, str, QwenVLPrepError]] = []
    for index, image in enumerate(listed(images)):
        try:
            plans.append(_planned(image, profile, high_resolution, max_tokens))
        except QwenVLPrepError as exc:
            is_named = isinstance(image, (str, os.PathLike)) and len(str(image)) < 200
            name = str(image) if is_named else "image"
            refused.append((index, name, without_frames(exc)))
    if refused:
        reasons = "; ".join(f"#{index + 1}: {exc}" for index, _, exc in refused)
        raise ImagesRefusedError(
            f"{len(refused)} of {_images(len(refused) + len(plans))} were refused: "
            f"{reasons}",
            refused=tuple(refused),
        )
    items = [(one.name, one.tokens) for one in plans]
    request = fit_items(items, model=profile, text=text, reserve=reserve)
    return dataclasses.replace(request, images=tuple(plans))


def fit_items(
    items: Sequence[tuple[str, int]],
    *,
    model: ModelProfile,
    text: str | int = "",
    reserve: int = 0,
) -> RequestPlan:
    """Hold images that are counted already against the model; see :func:`fit`."""
    text_tokens = text_token_bound(text)
    reserve = integer("reserve", reserve)
    if reserve < 0:
        raise ValueError(f"Expected at least 0 for reserve but received {reserve}")
    request = RequestPlan(
        model=model, items=tuple(items), text_tokens=text_tokens, reserve=reserve
    )
    fits = count_fitting(
        [tokens for _, tokens in items], model=model, taken=text_tokens + reserve
    )
    if fits < len(items) or request.total >= request.limit:
        raise BudgetError(
            _refusal(request, fits),
            needed=request.total,
            limit=request.limit,
            fits=fits,
            items=request.items,
        )
    return request


def count_fitting(
    tokens: Iterable[int], *, model: str | ModelProfile = DEFAULT_MODEL, taken: int = 0
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
        Tokens that text and reserve take.

    Examples
    --------
    >>> count_fitting([1227] * 100), count_fitting([2118] * 100)
    (25, 14)
    """
    profile = get_model(model)
    total = taken
    fits = 0
    for one in tokens:
        total += one
        if total >= profile.max_input_tokens or fits == profile.max_images:
            break
        fits += 1
    return fits


def text_token_bound(text: str | int) -> int:
    """
    Give a number of tokens that the text does not exceed.

    Every token of the Qwen tokenizers stands for at least one byte of UTF-8, of the
    text as the tokenizer normalises it: NFC makes some letters longer, so the longer
    of both forms counts.

    Raises
    ------
    TypeError, ValueError
        If it is neither a string nor an int of at least 0.

    Examples
    --------
    >>> text_token_bound("图中描绘的是什么景象?"), text_token_bound(7)
    (31, 7)
    """
    if isinstance(text, str):
        forms = (text, unicodedata.normalize("NFC", text))
        return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
    if isinstance(text, bool) or not hasattr(text, "__index__"):
        raise TypeError(f"Expected a str or a number of tokens but received {text!r}")
    text = integer("text", text)
    if text < 0:
        raise ValueError(f"Expected at least 0 text tokens but received {text}")
    return text


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
    if made.model != model or made.options.high_resolution != high_resolution:
        raise ValueError(
            f"Expected images planned for {model.name} with "
            f"high_resolution={high_resolution} but {made.name} was planned for "
            f"{made.model.name} with "
            f"high_resolution={made.options.high_resolution}; plan it again"
        )
    return made


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _refusal(request: RequestPlan, fits: int) -> str:
    count = len(request.items)
    model = request.model
    if model.max_images is not None and count > model.max_images:
        limit = f"{model.name} takes at most {model.max_images} images a request; "
    else:
        limit = ""
    if request.text_tokens + request.reserve >= request.limit:
        advice = "Text and reserve alone do not fit; shorten the text"
    elif not fits:
        advice = "Not even the first image fits; lower max_tokens"
    else:
        advice = (
            f"The first {_images(fits)} would fit; send fewer at once or lower "
            f"max_tokens"
        )
    shown = ", ".join(f"{name} {tokens:,}" for name, tokens in request.items[:10])
    more = f", … {count - 10} more" if count > 10 else ""
    return (
        f"Expected a total below {request.limit:,} tokens for {model.name} but "
        f"received {request.total:,}: {_images(count)} with {request.image_tokens:,} "
        f"({shown}{more}), text with {request.text_tokens:,}, reserve "
        f"{request.reserve:,}. {limit}"
        f"{advice}"
    )
