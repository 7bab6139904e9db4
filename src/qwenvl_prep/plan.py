"""What will be done to an image; everything about size and tokens is decided here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from qwenvl_prep.changes import steps_to
from qwenvl_prep.coordinates import CoordinateMap, coordinate_map
from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import IllegalImageError
from qwenvl_prep.findings import Finding
from qwenvl_prep.geometry import (
    billed_tokens,
    billed_tokens_many,
)
from qwenvl_prep.icc import conversion_for
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.metadata import can_strip
from qwenvl_prep.options import Encoding, PlanKeywords, PlanOptions
from qwenvl_prep.probe import plain_sides, probe, probe_address, with_profile
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sizes import (
    grid_size,
    is_above_cap,
    least_tokens,
    shrunk_size,
    tokens_under_caps,
)
from qwenvl_prep.sources import as_source, is_url
from qwenvl_prep.strips import jpeg_shrink
from qwenvl_prep.validate import find

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.remote import Fetcher

__all__ = [
    "ImagePlan",
    "cap_pixels",
    "count_tokens",
    "count_tokens_many",
    "lowered_plan",
    "plan",
    "plan_image",
    "resized_plan",
]

_FORMAT_OF_ENCODING: dict[Encoding, str] = {
    "jpeg": "JPEG",
    "webp": "WEBP",
    "png": "PNG",
    "webp-lossless": "WEBP",
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ImagePlan:
    """
    What will be done to one image, and what it will cost.

    Attributes
    ----------
    name : str
        Name of the input.
    info : ImageInfo
        What its header says.
    model : ModelProfile
        Model that will read it.
    options : PlanOptions
        What was asked for.
    is_kept : bool
        Whether the original bytes are sent, untouched or without their metadata.
    height, width : int
        Size that is sent, in pixels; upright, unless ``encoding="keep"`` keeps bytes
        that are not.
    tokens : int
        Predicted billed tokens: vision tokens and the two markers.
    warnings : tuple of Finding
        What the header showed that is worth knowing.
    """

    name: str
    info: ImageInfo
    model: ModelProfile
    options: PlanOptions
    is_kept: bool
    height: int
    width: int
    tokens: int
    warnings: tuple[Finding, ...]

    @property
    def vision_tokens(self) -> int:
        """Predicted squares of ``factor × factor``, without the markers."""
        return self.tokens - self.model.marker_tokens

    @property
    def is_resized(self) -> bool:
        """Whether the pixels are resized on the way."""
        upright = (self.info.upright_height, self.info.upright_width)
        return not self.is_kept and (self.height, self.width) != upright

    @property
    def max_data_uri_bytes(self) -> int:
        """Longest data URI allowed, in bytes: the model's limit or the caller's."""
        return _max_data_uri_bytes(self.model, self.options)

    @property
    def shrink(self) -> int:
        """By what the sides of a JPEG are divided while it is decoded: 1, 2, 4, 8."""
        if self.options.fidelity == "exact" or not self.is_resized:
            return 1
        height, width = self.height, self.width
        if self.info.orientation >= 5:
            height, width = width, height
        return jpeg_shrink(self.info, height, width)

    @property
    def steps(self) -> tuple[str, ...]:
        """What will be done before encoding, in words; empty where bytes are kept."""
        if self.is_kept:
            return ("metadata removed",) if self.options.strip_metadata else ()
        return steps_to(
            self.height, self.width, self.info, self.options, shrink=self.shrink
        )

    def __repr__(self) -> str:
        done = "kept" if self.is_kept else ", ".join(self.steps) or "encoded again"
        return (
            f"<ImagePlan {self.name}: {self.height}x{self.width}, "
            f"{self.tokens} tokens, {done}>"
        )

    def coordinates(self) -> CoordinateMap:
        """Give the map between boxes that the model answers and the original image."""
        return coordinate_map(
            self.info,
            self.model,
            self.height,
            self.width,
            is_upright=not self.is_kept,
            high_resolution=self.options.high_resolution,
        )

    def to_original(self, boxes: Any, **how: Any) -> Any:
        """Bring boxes back; see :meth:`qwenvl_prep.CoordinateMap.to_original`."""
        return self.coordinates().to_original(boxes, **how)

    def to_sent(self, boxes: Any, **how: Any) -> Any:
        """Bring boxes to the model; see :meth:`qwenvl_prep.CoordinateMap.to_sent`."""
        return self.coordinates().to_sent(boxes, **how)


def plan(
    source: Any,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    limits: Limits = DEFAULT_LIMITS,
    **options: Unpack[PlanKeywords],
) -> ImagePlan:
    """
    Decide what will be done to an image, from its header alone.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        See :func:`qwenvl_prep.sources.as_source`.
    model : str or ModelProfile
        Model that will read the image.
    limits : Limits
        What may be decoded, where decoding will be needed.
    **options
        The attributes of :class:`PlanOptions`, among them ``max_tokens``,
        ``max_bytes``, ``encoding`` and ``quality``.

    Returns
    -------
    ImagePlan
        With the size that is sent and the predicted tokens.

    Raises
    ------
    IllegalImageError
        If the model refuses the image and preparing cannot mend it; carries all
        findings.
    DecodeLimitError
        If decoding it would take more than *limits* allow.
    ImageError, SourceError
        As for :func:`qwenvl_prep.probe`.
    UnknownModelError, ModelFeatureError
        If the model is not known, or has no high resolution.

    Examples
    --------
    >>> import numpy as np
    >>> plan(np.zeros((1280, 1280, 3), np.uint8))
    <ImagePlan pixels: 980x980, 1227 tokens, resized 1280×1280 → 980×980>
    """
    wanted = PlanOptions.of(options)
    source = as_source(source, limits=limits)
    info = probe(source, frame=wanted.frame)
    if wanted.color == "srgb":
        info = with_profile(source, info)
    made = plan_image(
        info,
        get_model(model),
        wanted,
        name=source.name,
        suffix=source.suffix,
        label=source.label,
    )
    limits.check_header(made.info, is_whole=not made.is_resized)
    return made


def plan_image(
    info: ImageInfo,
    model: ModelProfile,
    options: PlanOptions,
    *,
    name: str = "image",
    suffix: str = "",
    label: str = "",
) -> ImagePlan:
    """Decide what will be done to an image whose header is known; see :func:`plan`."""
    findings = find(info, model, suffix=suffix, label=label, color=options.color)
    is_kept = options.encoding == "keep"
    if is_kept:
        findings = (*findings, *_unkeepable(info, model, options))
    _check_mendable(name, model, findings, is_kept=is_kept)
    cap = cap_pixels(model, options)
    upright = (info.upright_height, info.upright_width)
    if is_kept:
        upright = (info.height, info.width)
    is_high = options.high_resolution
    is_shrunk = not is_kept and is_above_cap(*upright, model, cap)
    size = upright
    if is_shrunk:
        size = shrunk_size(*upright, model, cap, high_resolution=is_high)
    is_kept = is_kept or (size == upright and _can_keep(info, model, options))
    if not is_kept and not is_shrunk:
        size = grid_size(*upright, model, high_resolution=is_high)
    tokens = billed_tokens(*size, model, high_resolution=is_high)
    _check_reached(name, model, options, tokens - model.marker_tokens)
    return ImagePlan(
        name=name,
        info=info,
        model=model,
        options=options,
        is_kept=is_kept,
        height=size[0],
        width=size[1],
        tokens=tokens,
        warnings=tuple(f for f in findings if f.severity == "warning"),
    )


def resized_plan(plan: ImagePlan, height: int, width: int) -> ImagePlan:
    """Give the plan with another size, and what that costs."""
    if (height, width) == (plan.height, plan.width):
        return plan
    tokens = billed_tokens(
        height, width, plan.model, high_resolution=plan.options.high_resolution
    )
    return replace(plan, height=height, width=width, tokens=tokens)


def lowered_plan(plan: ImagePlan, options: PlanOptions) -> ImagePlan:
    """
    Give the plan under a lower cap, with all else as it was found.

    Parameters
    ----------
    plan : ImagePlan
        Of an image whose pixels may be resized: not with ``encoding="keep"``.
    options : PlanOptions
        Those of *plan* but for ``max_tokens``, which is below its vision tokens and
        which the image can keep.
    """
    is_high = options.high_resolution
    height, width = shrunk_size(
        plan.info.upright_height,
        plan.info.upright_width,
        plan.model,
        cap_pixels(plan.model, options),
        high_resolution=is_high,
    )
    tokens = billed_tokens(height, width, plan.model, high_resolution=is_high)
    return replace(
        plan,
        options=options,
        is_kept=False,
        height=height,
        width=width,
        tokens=tokens,
    )


def count_tokens(
    source: Any,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    high_resolution: bool = False,
    max_tokens: int | None = None,
    fetch: bool | Fetcher = False,
) -> int:
    """
    Predict the tokens that one image is billed, from its header alone.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        See :func:`qwenvl_prep.sources.as_source`.
    model : str or ModelProfile
        Model that will read the image.
    high_resolution : bool
        Whether the request will set ``vl_high_resolution_images``.
    max_tokens : int, optional
        The cap that the image will be prepared under; the answer is then that of its
        :func:`plan`, and what no preparing mends is refused.
    fetch : bool or Fetcher
        Whether *source* may be an ``http`` or ``https`` address, as for
        :func:`qwenvl_prep.probe`; a few KB of it are read.

    Returns
    -------
    int
        Vision tokens and the two markers.

    Raises
    ------
    ImageError, SourceError
        As for :func:`qwenvl_prep.probe`; :class:`AspectRatioError` above 200:1.  With
        *max_tokens*, as for :func:`plan`.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.zeros((1280, 1280, 3), np.uint8)
    >>> count_tokens(picture), count_tokens(picture, max_tokens=400)
    (1227, 402)
    """
    profile = get_model(model)
    if max_tokens is not None:
        wanted = PlanOptions(high_resolution=high_resolution, max_tokens=max_tokens)
        return plan_image(probe(source, fetch=fetch), profile, wanted).tokens
    # The rule gives both ways of turning an image the same count, so that for the
    # sides alone no orientation has to be known.
    if fetch and is_url(source):
        info = probe_address(source, fetch, tail=False)
        size = info.height, info.width
    else:
        size = plain_sides(source) or _upright(probe(source))
    return billed_tokens(*size, profile, high_resolution=high_resolution)


def _upright(info: ImageInfo) -> tuple[int, int]:
    return info.upright_height, info.upright_width


def count_tokens_many(
    heights: ArrayLike,
    widths: ArrayLike,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    high_resolution: bool = False,
    max_tokens: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """
    Predict the tokens of many images from their sizes, without the GIL.

    Parameters
    ----------
    heights, widths : array_like of int, shape (n,)
        Sizes of the upright images in pixels, at least 1.
    model, high_resolution
        As for :func:`count_tokens`.
    max_tokens : int or array_like of int, shape (n,), optional
        The cap that all images, or each of them, will be prepared under.  A few long
        thin shapes are enlarged above a small cap by the server; then the count tells
        it, where :func:`plan` refuses the cap.

    Returns
    -------
    ndarray of int64, shape (n,)
        Billed tokens; 0 where the ratio is above 200:1, because such an image is
        refused and costs nothing.

    Raises
    ------
    TypeError, ValueError
        As for :func:`qwenvl_prep.smart_resize_many`; also if a cap is below what the
        model enlarges every image to.

    Examples
    --------
    >>> count_tokens_many([512, 1280, 1], [512, 1280, 201]).tolist()
    [326, 1227, 0]
    >>> count_tokens_many([512, 1280], [512, 1280], max_tokens=400).tolist()
    [326, 402]
    """
    profile = get_model(model)
    if max_tokens is None:
        return billed_tokens_many(
            heights, widths, profile, high_resolution=high_resolution
        )
    import numpy as np

    caps = np.asarray(max_tokens)
    if caps.ndim == 0:
        caps = np.full(np.shape(heights), caps)
    return tokens_under_caps(
        heights, widths, caps, profile, high_resolution=high_resolution
    )


def cap_pixels(model: ModelProfile, options: PlanOptions) -> int:
    """
    Give the area that one image is shrunk to: the model's cap or the caller's.

    Raises
    ------
    ModelFeatureError
        If high resolution is asked of a model without it.
    ValueError
        If *max_tokens* is less than the model enlarges every image to.
    """
    cap = model.cap_pixels(high_resolution=options.high_resolution)
    if options.max_tokens is None:
        return cap
    wanted = options.max_tokens * model.factor**2
    if wanted < model.min_pixels:
        raise ValueError(
            f"Expected max_tokens of at least {least_tokens(model)} "
            f"for {model.name}, which enlarges smaller images to that, but received "
            f"{options.max_tokens}"
        )
    return min(cap, wanted)


def _check_mendable(
    name: str, model: ModelProfile, findings: tuple[Finding, ...], *, is_kept: bool
) -> None:
    """Refuse what preparing does not mend; where bytes are kept, it mends nothing."""
    # A label is not part of the bytes.
    fatal = [
        finding
        for finding in findings
        if finding.severity == "error"
        and (not finding.is_mendable or (is_kept and finding.code != "label-mismatch"))
    ]
    if not fatal:
        return
    reasons = "; ".join(finding.message for finding in fatal)
    what = "be kept as it is" if is_kept else "be made legal"
    lasting = [finding.remedy for finding in fatal if not finding.is_mendable]
    remedies = "; ".join(lasting or ["another encoding, such as 'auto'"])
    raise IllegalImageError(
        f"{name} cannot {what} for {model.name}: {reasons}. What helps: {remedies}",
        findings=findings,
    )


def _unkeepable(
    info: ImageInfo, model: ModelProfile, options: PlanOptions
) -> list[Finding]:
    """Find what the caller wants done to bytes that are to be kept."""
    limit = _max_data_uri_bytes(model, options)
    length = data_uri_length(info.encoded_size, info.media_type)
    reasons = []
    if info.format == "PIXELS":
        reasons.append("pixels have no bytes that could be kept")
    if info.n_frames > 1 and info.frame is not None:
        reasons.append(f"one of {info.n_frames} frames cannot be sent alone")
    if options.strip_metadata and not can_strip(info.format):
        reasons.append(f"metadata of {info.format} is not removed without encoding")
    if length > limit:
        reasons.append(f"its data URI has {length:,} bytes where {limit:,} are allowed")
    return [
        Finding(
            "not-keepable", "error", reason, "use another encoding", is_mendable=True
        )
        for reason in reasons
    ]


def _check_reached(
    name: str, model: ModelProfile, options: PlanOptions, vision: int
) -> None:
    """
    Refuse what the server would enlarge above the caller's own cap.

    It enlarges to min_pixels and rounds both sides up, which for long thin images
    under a small cap ends above it; no size that keeps the picture helps there.
    """
    if options.max_tokens is None or vision <= options.max_tokens:
        return
    because = (
        "keeping its bytes takes"
        if options.encoding == "keep"
        else (f"{model.name} enlarges this shape to")
    )
    finding = Finding(
        "max-tokens-unreachable",
        "error",
        f"Expected at most {options.max_tokens} vision tokens but {because} {vision}",
        f"allow max_tokens={vision}",
        is_mendable=False,
        actual=vision,
        limit=options.max_tokens,
    )
    raise IllegalImageError(
        f"{name}: {finding.message}; {finding.remedy}", findings=(finding,)
    )


def _max_data_uri_bytes(model: ModelProfile, options: PlanOptions) -> int:
    limit = model.max_data_uri_bytes
    return min(limit, options.max_bytes or limit)


def _can_keep(info: ImageInfo, model: ModelProfile, options: PlanOptions) -> bool:
    """Tell whether the bytes can go as they are: legal, upright, opaque, plain."""
    wanted = _FORMAT_OF_ENCODING.get(options.encoding, info.format)
    limit = _max_data_uri_bytes(model, options)
    return (
        info.format in model.formats_for(info.height * info.width)
        and info.format == wanted
        and (info.is_lossless or options.encoding != "webp-lossless")
        and info.encoded_size <= model.max_file_bytes
        and data_uri_length(info.encoded_size, info.media_type) <= limit
        and info.orientation == 1
        and not info.has_alpha
        and info.n_frames == 1
        # Decoders disagree about the rest; what was sent must not depend on whose.
        and info.bit_depth <= 8
        and info.colour in {"grey", "rgb", "palette"}
        and (not options.strip_metadata or can_strip(info.format))
        and conversion_for(info, options.color) is None
    )
