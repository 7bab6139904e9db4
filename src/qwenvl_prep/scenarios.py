"""What would it cost otherwise: the same pictures under other caps and models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwenvl_prep.budget import fit_items
from qwenvl_prep.cost import Cost, cost_many, money
from qwenvl_prep.errors import (
    BudgetError,
    ImagesRefusedError,
    ModelFeatureError,
    QwenVLPrepError,
    UnknownPriceError,
    without_frames,
)
from qwenvl_prep.geometry import integer
from qwenvl_prep.headers import ImageInfo
from qwenvl_prep.options import PlanOptions
from qwenvl_prep.plan import ImagePlan, cap_pixels, plan_image
from qwenvl_prep.prepare import PreparedImage
from qwenvl_prep.probe import probe
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sources import listed, name_of
from qwenvl_prep.text_tokens import TextTokens, text_tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Scenario", "what_if"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Scenario:
    """
    One way to ask about the pictures, and what it costs.

    Attributes
    ----------
    label : str
        What is done: ``"default cap"``, ``"high resolution"``, ``"up to 640 tokens
        an image"``, ``"up to 4,000 tokens, high res."``, with ``" by Batch"`` where
        it is so.
    model : ModelProfile
        Model that is asked.
    high_resolution : bool
        Whether ``vl_high_resolution_images`` is set.
    max_tokens : int or None
        Cap on each image's vision tokens, below the model's own.
    is_batch : bool
        Whether everything goes by Batch.
    images, requests : int
        How many pictures are asked about, in how many requests.
    image_tokens, input_tokens, output_tokens : int
        Predicted tokens of the images, of all input, and of the answers as expected.
    text : TextTokens
        Tokens of the question in each request, as this model counts them.
    cost : Cost or None
        What it costs; None where it cannot be told, see *problem*.
    problem : str
        Why there is no cost; empty where there is one.
    refused : tuple of (str, QwenVLPrepError)
        Pictures that cannot be asked about in this way, with the reason; the tokens
        are those of the others.
    """

    label: str
    model: ModelProfile
    high_resolution: bool
    max_tokens: int | None
    is_batch: bool
    images: int
    requests: int
    image_tokens: int
    input_tokens: int
    output_tokens: int
    text: TextTokens
    cost: Cost | None
    problem: str = ""
    refused: tuple[tuple[str, QwenVLPrepError], ...] = ()

    def __repr__(self) -> str:
        price = (
            f"{money(self.cost.total)} {self.cost.currency} at {self.cost.date} prices"
            if self.cost is not None
            else self.problem
        )
        return (
            f"<Scenario {self.model.name}, {self.label}: {self.input_tokens:,} tokens "
            f"in, {price}>"
        )


def what_if(
    images: Iterable[Any],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    models: Iterable[str | ModelProfile] = (),
    max_tokens: Iterable[int] = (),
    high_resolution: bool = False,
    text: str | int = "",
    output_tokens: int = 0,
    batch: bool = False,
    together: bool = False,
    names: Sequence[str] | None = None,
) -> tuple[Scenario, ...]:
    """
    Tell what the same question costs under other caps, other models and by Batch.

    Parameters
    ----------
    images : iterable
        Inputs of :func:`qwenvl_prep.probe`, of which only the header is read; plans,
        prepared images, :class:`~qwenvl_prep.ImageInfo`, or upright sizes as
        ``(height, width)`` tuples.
    model : str or ModelProfile
        Model of the first row, of both resolutions and of the caps.
    models : iterable of str or ModelProfile
        Other models to compare with.
    max_tokens : iterable of int
        Caps on each image's vision tokens to compare with.  One above the default
        cap is taken with high resolution, where the model has it.
    high_resolution : bool
        Whether the first row sets ``vl_high_resolution_images``; the row without it
        comes next.
    text : str or int
        The question of each request, or its tokens; a ``str`` counts for each model
        as :func:`~qwenvl_prep.text_tokens_of` says, as for :func:`qwenvl_prep.fit`.
    output_tokens : int
        Tokens of each answer, as you expect them.
    batch : bool
        Whether every row goes by Batch; otherwise the last one shows it.
    together : bool
        Whether all pictures go in one request; otherwise each has its own.
    names : sequence of str or None
        What the images are called where they are refused; None for their paths, or
        ``"image 1"`` and so on.

    Returns
    -------
    tuple of Scenario
        The first row is what was asked for, the others what it could be instead.

    Raises
    ------
    ImagesRefusedError
        If some pictures cannot be read at all; carries each with its reason.
    UnknownModelError, ModelFeatureError
        If a model is not known, or *model* has no high resolution.
    ValueError
        If a number is out of range, there is no image, or not one name for each.

    Examples
    --------
    >>> rows = what_if([(2160, 3840)] * 100, model="qwen3-vl-plus", max_tokens=[640])
    >>> for row in rows:
    ...     print(f"{row.label}: {row.input_tokens}, {row.cost.total} CNY")
    default cap: 249800, 0.2498 CNY
    high resolution: 817900, 0.8179 CNY
    up to 640 tokens an image: 61300, 0.0613 CNY
    default cap by Batch: 249800, 0.1249 CNY
    """
    profile = get_model(model)
    others = [get_model(other) for other in models]
    asked = _Question(
        pictures=_pictures(images, names),
        text=text,
        output_tokens=integer("output_tokens", output_tokens, least=0),
        together=together,
    )
    first = PlanOptions(high_resolution=high_resolution)
    cap_pixels(profile, first)  # high resolution asked of a model without it
    ways = [(profile, first)]
    if profile.high_resolution_pixels is not None:
        ways.append((profile, PlanOptions(high_resolution=not high_resolution)))
    ways += [(profile, _capped(profile, cap, high_resolution)) for cap in max_tokens]
    for other in others:
        has_high = other.high_resolution_pixels is not None
        is_high = high_resolution and has_high
        ways.append((other, PlanOptions(high_resolution=is_high)))
    rows = [_scenario(asked, *way, batch=batch) for way in ways]
    if not batch:
        rows.append(_scenario(asked, profile, first, batch=True))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class _Question:
    """What every row has in common."""

    pictures: Sequence[tuple[str, ImageInfo]]
    text: str | int
    output_tokens: int
    together: bool


def _pictures(
    images: Iterable[Any], names: Sequence[str] | None
) -> list[tuple[str, ImageInfo]]:
    found: list[tuple[str, ImageInfo]] = []
    refused: list[tuple[int, str, QwenVLPrepError]] = []
    given = list(images) if isinstance(images, tuple) else listed(images)
    if names is not None:
        given = list(given)
        if len(names) != len(given):
            raise ValueError(
                f"Expected one name for each image but received {len(names):,} names "
                f"for {len(given):,} images"
            )
    for index, image in enumerate(given):
        own = None if names is None else names[index]
        try:
            name, info = _picture(image, index)
            found.append((own or name, info))
        except QwenVLPrepError as exc:
            refused.append((index, own or name_of(image, index), without_frames(exc)))
    if refused:
        raise ImagesRefusedError.of(refused, len(refused) + len(found))
    if not found:
        raise ValueError("Expected at least one image but received none")
    return found


def _picture(image: Any, index: int) -> tuple[str, ImageInfo]:
    if isinstance(image, PreparedImage):
        image = image.plan
    if isinstance(image, ImagePlan):
        return image.name, image.info
    if isinstance(image, ImageInfo):
        return name_of(image, index), image
    if isinstance(image, tuple) and len(image) == 2:
        height, width = (integer("size", side) for side in image)
        if min(height, width) < 1:
            raise ValueError(
                f"Expected sides of at least 1 but received {height} × {width}"
            )
        # As of an array, which has a size and nothing else that costs tokens.
        return name_of(image, index), ImageInfo(
            format="PIXELS", media_type="", height=height, width=width
        )
    return name_of(image, index), probe(image)


def _capped(profile: ModelProfile, cap: int, high_resolution: bool) -> PlanOptions:
    cap = integer("max_tokens", cap)
    is_above = cap * profile.factor**2 > profile.max_pixels
    has_high = profile.high_resolution_pixels is not None
    options = PlanOptions(
        high_resolution=high_resolution or (is_above and has_high), max_tokens=cap
    )
    cap_pixels(profile, options)  # less than the model enlarges every image to
    return options


def _label(options: PlanOptions, *, batch: bool) -> str:
    label = "high resolution" if options.high_resolution else "default cap"
    if options.max_tokens is not None:
        cap = f"up to {options.max_tokens:,} tokens"
        # Said, because the cap alone would not give the larger images.
        is_high = options.high_resolution
        label = f"{cap}, high res." if is_high else f"{cap} an image"
    return f"{label} by Batch" if batch else label


def _scenario(
    asked: _Question, profile: ModelProfile, options: PlanOptions, *, batch: bool
) -> Scenario:
    # For every row: models differ in their vocabularies.
    text = text_tokens_of(asked.text, model=profile)
    refused: list[tuple[str, QwenVLPrepError]] = []
    counts: list[tuple[str, int]] = []
    for name, info in asked.pictures:
        try:
            tokens = plan_image(info, profile, options, name=name).tokens
            if not asked.together:
                fit_items([(name, tokens)], model=profile, text=text.count)
        except QwenVLPrepError as exc:
            refused.append((name, without_frames(exc)))
        else:
            counts.append((name, tokens))
    taken = text.count + profile.template_tokens
    image_tokens = sum(tokens for _, tokens in counts)
    if asked.together:
        inputs = [image_tokens + taken] if counts else []
    else:
        inputs = [tokens + taken for _, tokens in counts]
    made: Cost | None = None
    problem = "" if counts else "no picture can be asked about"
    try:
        if asked.together and counts:
            fit_items(counts, model=profile, text=text.count)
        if counts:
            made = cost_many(inputs, asked.output_tokens, model=profile, batch=batch)
    except UnknownPriceError:
        problem = "no price is known"
    except ModelFeatureError:
        problem = "no Batch price is known"
    except BudgetError as exc:
        problem = (
            f"{exc.needed:,} tokens do not fit one request, which takes fewer than "
            f"{exc.limit:,}; the first {exc.fits:,} of {len(counts):,} images would"
        )
    return Scenario(
        label=_label(options, batch=batch),
        model=profile,
        high_resolution=options.high_resolution,
        max_tokens=options.max_tokens,
        is_batch=batch,
        images=len(counts),
        requests=len(inputs),
        image_tokens=image_tokens,
        input_tokens=sum(inputs),
        output_tokens=asked.output_tokens * len(inputs),
        text=text,
        cost=made,
        problem=problem,
        refused=tuple(refused),
    )
