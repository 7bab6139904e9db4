"""
What a list of frames costs, and how to make it fit.

A video is sent as a list of pictures.  The model takes them in pairs: two frames of
one size become one layer of patches, so that their tokens are
``ceil(frames / 2) · (height / factor) · (width / factor)`` and two markers (RULES 2,
confidence M).  All frames of a list get one size: that of the image rule with a cap of
their own, which sinks as frames are added so that the whole stays within a total.

The rule is that of ``fetch_video`` in qwen-vl-utils (QwenLM/Qwen3-VL at 004d5e0,
``vision_process.py``), which published copies of the provider's own token sample
share: the cap of a frame is ``max(min(frame_max, total / frames · 2),
int(frame_min · 1.05))``.  So the total counts a pair once.  Read as a sum over all
frames it would be half of that; this rule gives the larger count, so that a budget
made with it holds either way.  What the hosted server does is not published: the
count is a prediction.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from qwenvl_prep.errors import (
    BudgetError,
    IllegalImageError,
    ImagesRefusedError,
    ModelFeatureError,
    QwenVLPrepError,
    RequestError,
    without_frames,
)
from qwenvl_prep.geometry import integer, server_size
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.options import PlanKeywords, PlanOptions
from qwenvl_prep.plan import plan
from qwenvl_prep.prepare import PreparedImage, prepare_many
from qwenvl_prep.probe import probe
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sizes import least_tokens
from qwenvl_prep.sources import Source, as_source, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "VideoPlan",
    "check_frame_count",
    "count_video_tokens",
    "frame_profile",
    "plan_video",
    "prepare_video",
    "sample_frames",
]

# Frames that share one layer of patches: temporal_patch_size of every open Qwen-VL.
_FRAMES_A_PATCH = 2

# The cap of a frame never sinks below its least area and a twentieth.
_MARGIN_ABOVE_MIN = 1.05


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VideoPlan:
    """
    Which frames of a video are sent, at which size, and what they cost.

    Attributes
    ----------
    model : ModelProfile
        Model that will read them.
    n_frames : int
        How many frames there were to choose from.
    indices : tuple of int
        Which of them are sent, in order, from 0.
    height, width : int
        Size at which the model sees every frame, in pixels.
    tokens : int
        Predicted billed tokens of the whole video, markers included.  A budget takes
        them as a fixed cost: ``fit(images, reserve=video.tokens)``.
    fps : float or None
        Frames a second among the *n_frames*, if that was told.
    """

    model: ModelProfile
    n_frames: int
    indices: tuple[int, ...]
    height: int
    width: int
    tokens: int
    fps: float | None = None

    @property
    def vision_tokens(self) -> int:
        """Predicted tokens without the markers."""
        return self.tokens - self.model.marker_tokens

    @property
    def seconds(self) -> float | None:
        """From the first frame to the last, in seconds; None without *fps*."""
        return None if self.fps is None else (self.n_frames - 1) / self.fps

    @property
    def sent_fps(self) -> float | None:
        """
        Frames a second among those that are sent; None without *fps*.

        This is the ``fps`` that may stand beside the list in a request: it tells the
        model that ``1 / fps`` seconds lie between two frames, and chooses none.
        Without it, the API assumes 2.
        """
        seconds = self.seconds
        return None if not seconds else (len(self.indices) - 1) / seconds

    def __repr__(self) -> str:
        return (
            f"<VideoPlan {len(self.indices)} of {self.n_frames} frames, "
            f"{self.height}x{self.width}, {self.tokens:,} tokens for "
            f"{self.model.name}>"
        )


def sample_frames(n: int, limit: int) -> tuple[int, ...]:
    """
    Choose frames evenly, the first and the last among them.

    Parameters
    ----------
    n : int
        How many frames there are, at least 1.
    limit : int
        How many are wanted at most, at least 2.

    Returns
    -------
    tuple of int
        Positions from 0, ascending, each once; all of them where *n* is within the
        limit.  Neighbours are as far apart as each other, up to one frame.

    Raises
    ------
    TypeError, ValueError
        If a number is no int or too small.

    Notes
    -----
    ``linspace(0, n - 1, limit)``, rounded, as all open video processors do; in whole
    numbers and with halves upwards, so that gaps never differ by more than one.

    Examples
    --------
    >>> sample_frames(10, 4), sample_frames(3, 80)
    ((0, 3, 6, 9), (0, 1, 2))
    """
    # Plain ints from here on: NumPy's would overflow in the product below.
    n, limit = integer("n", n, least=1), integer("limit", limit, least=2)
    if n <= limit:
        return tuple(range(n))
    gaps = limit - 1
    return tuple((2 * i * (n - 1) + gaps) // (2 * gaps) for i in range(limit))


def check_frame_count(count: int, model: ModelProfile) -> None:
    """
    Refuse a list of frames that the API would refuse for its length.

    Raises
    ------
    ModelFeatureError
        If the model takes no video.
    RequestError
        If there are too few frames for it, or too many.
    """
    least, most = _frame_counts(model)
    if not least <= count <= most:
        raise RequestError(
            f"Expected {least} to {most} frames for {model.name} but received {count}; "
            f"sample the video differently"
        )


def frame_profile(model: ModelProfile, n_frames: int) -> ModelProfile:
    """
    Give the profile with the limits of one frame in the place of an image's.

    Parameters
    ----------
    model : ModelProfile
        Model that reads the video.
    n_frames : int
        How many frames are sent with it: the more, the smaller each may be.

    Raises
    ------
    ModelFeatureError
        If the model takes no video.

    Examples
    --------
    >>> model = get_model("qwen3-vl-plus")
    >>> [frame_profile(model, n).max_pixels for n in (4, 200, 2000)]
    [655360, 655360, 67108]
    """
    least, most, total = (
        model.frame_min_pixels,
        model.frame_max_pixels,
        model.video_pixels,
    )
    if least is None or most is None or total is None:
        raise _no_video(model)
    share = total // _pairs(n_frames)
    return model.replace(
        min_pixels=least,
        max_pixels=max(min(most, share), int(least * _MARGIN_ABOVE_MIN)),
        # A frame's cap is fixed; vl_high_resolution_images is about images.
        high_resolution_pixels=None,
        high_resolution_wires=(),
    )


def count_video_tokens(
    n_frames: int, height: int, width: int, *, model: str | ModelProfile = DEFAULT_MODEL
) -> int:
    """
    Predict the tokens that a list of frames is billed.

    Parameters
    ----------
    n_frames : int
        How many frames are sent.
    height, width : int
        Size of each in pixels, upright.
    model : str or ModelProfile
        Model that will read them.

    Returns
    -------
    int
        Vision tokens of all pairs and the two markers; an odd frame counts as a pair.

    Raises
    ------
    ModelFeatureError
        If the model takes no video.
    RequestError
        If the number of frames is not legal for it.
    AspectRatioError
        If one side is more than 200 times the other.

    Examples
    --------
    >>> count_video_tokens(8, 360, 640)
    1198
    """
    profile = get_model(model)
    n_frames = integer("n_frames", n_frames)
    check_frame_count(n_frames, profile)
    size = server_size(height, width, frame_profile(profile, n_frames))
    return _vision_tokens(n_frames, size, profile) + profile.marker_tokens


def plan_video(
    frames: Iterable[Any],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    max_frames: int | None = None,
    fps: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    **options: Unpack[PlanKeywords],
) -> VideoPlan:
    """
    Choose the frames of a video and count them, from the headers of those chosen.

    Parameters
    ----------
    frames : iterable
        All frames in order: inputs of :func:`qwenvl_prep.plan`, or prepared images.
    model : str or ModelProfile
        Model that will read them.
    max_frames : int, optional
        How many to send at most, below the model's own limit; more are sampled
        evenly, see :func:`sample_frames`.
    fps : float, optional
        Frames a second among *frames*; only remembered, see :class:`VideoPlan`.
    limits : Limits
        What may be decoded, where decoding will be needed.
    **options
        As for :func:`qwenvl_prep.plan`, with one difference: ``max_tokens`` is the
        most vision tokens of the *whole* video.  Frames get smaller to keep it, and
        are never dropped for it; that is what *max_frames* is for.

    Returns
    -------
    VideoPlan
        Its ``tokens`` are those of what :func:`prepare_video` makes with the same
        arguments.

    Raises
    ------
    ModelFeatureError
        If the model takes no video, or high resolution is asked of frames.
    RequestError
        If there are too few frames, or the chosen ones do not come out at one size.
    BudgetError
        If ``max_tokens`` is below what the chosen frames cost at their smallest.
    ImagesRefusedError
        If some of the chosen frames are refused; carries every one of them.  Where
        there are too few, because they are no pictures: a video file is one input.

    Examples
    --------
    >>> import numpy as np
    >>> plan_video([np.zeros((360, 640, 3), np.uint8)] * 240, max_frames=8)
    <VideoPlan 8 of 240 frames, 364x644, 1,198 tokens for qwen-vl-max>
    """
    return _Choice.of(frames, model, max_frames, fps, limits, options).plan


def prepare_video(
    frames: Iterable[Any],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    max_frames: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
    **options: Unpack[PlanKeywords],
) -> tuple[PreparedImage, ...]:
    """
    Choose the frames of a video and make them ready, for ``chat_request(video=…)``.

    Parameters
    ----------
    frames, model, max_frames, limits, **options
        As for :func:`plan_video`; so ``max_tokens`` is that of the whole video.
    workers : int, optional
        Threads; by default one for each core this process may use.

    Returns
    -------
    tuple of PreparedImage
        The chosen frames in order, within the limits of a frame.  The ``tokens`` of
        each are what it would cost alone; the video's are those of its plan.

    Raises
    ------
    ModelFeatureError, RequestError, BudgetError, ImagesRefusedError
        As for :func:`plan_video`.

    Examples
    --------
    >>> import numpy as np
    >>> frames = [np.zeros((720, 1280, 3), np.uint8)] * 6
    >>> [(one.height, one.width) for one in prepare_video(frames, max_frames=4)]
    [(560, 1008), (560, 1008), (560, 1008), (560, 1008)]
    """
    choice = _Choice.of(frames, model, max_frames, None, limits, options)
    results = prepare_many(
        choice.sources,
        model=choice.profile,
        limits=limits,
        workers=workers,
        **choice.options,
    )
    made: list[PreparedImage] = []
    refused: list[tuple[int, str, QwenVLPrepError]] = []
    for index, result in zip(choice.plan.indices, results, strict=True):
        if isinstance(result, PreparedImage):
            made.append(result)
        else:
            refused.append((index, f"frame {index + 1}", result))
    if refused:
        raise ImagesRefusedError.of(refused, len(choice.plan.indices), "frame")
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The chosen frames, and how each is to be prepared."""

    plan: VideoPlan
    sources: tuple[Source, ...]
    profile: ModelProfile
    options: PlanKeywords

    @classmethod
    def of(
        cls,
        frames: Iterable[Any],
        model: str | ModelProfile,
        max_frames: int | None,
        fps: float | None,
        limits: Limits,
        options: PlanKeywords,
    ) -> _Choice:
        profile = get_model(model)
        wanted = PlanOptions.of(options)
        _check_fps(fps)
        limit = _frame_limit(profile, max_frames)
        given = list(listed(frames))
        least, _ = _frame_counts(profile)
        if len(given) < least:
            # A film in the place of its frames is told as what it is.
            _check_content(given, limits)
            check_frame_count(len(given), profile)
        indices = sample_frames(len(given), limit)
        of_frame = frame_profile(profile, len(indices))
        of_frame.cap_pixels(high_resolution=wanted.high_resolution)
        # As the server would take them; a cap of the caller's own only where it bites.
        own: PlanKeywords = {**options, "max_tokens": None}
        chosen = [(index, given[index]) for index in indices]
        sources, size = _planned(chosen, of_frame, limits, own)
        cap = wanted.max_tokens
        if cap is not None and _vision_tokens(len(indices), size, profile) > cap:
            share = _share(cap // _pairs(len(indices)), sources[0], of_frame, own)
            own["max_tokens"] = share
            chosen = list(zip(indices, sources, strict=True))
            sources, size = _planned(chosen, of_frame, limits, own)
            if _vision_tokens(len(indices), size, profile) > cap:
                raise _above(cap, share, of_frame, len(indices))
        plan = VideoPlan(
            model=profile,
            n_frames=len(given),
            indices=indices,
            height=size[0],
            width=size[1],
            tokens=_vision_tokens(len(indices), size, profile) + profile.marker_tokens,
            fps=fps,
        )
        return cls(plan=plan, sources=sources, profile=of_frame, options=own)


def _check_content(frames: Sequence[Any], limits: Limits) -> None:
    """Refuse frames that are no pictures, before they are counted as some."""
    refused: list[tuple[int, str, QwenVLPrepError]] = []
    for index, frame in enumerate(frames):
        if isinstance(frame, PreparedImage):
            continue
        try:
            probe(as_source(frame, limits=limits))
        except QwenVLPrepError as exc:
            refused.append((index, f"frame {index + 1}", without_frames(exc)))
    if refused:
        raise ImagesRefusedError.of(refused, len(frames), "frame")


def _planned(
    chosen: Sequence[tuple[int, Any]],
    of_frame: ModelProfile,
    limits: Limits,
    options: PlanKeywords,
) -> tuple[tuple[Source, ...], tuple[int, int]]:
    """Give the chosen frames, and the one size at which all of them are seen."""
    sources: list[Source] = []
    sizes: list[tuple[int, int]] = []
    refused: list[tuple[int, str, QwenVLPrepError]] = []
    for index, frame in chosen:
        try:
            if isinstance(frame, PreparedImage):
                source = as_source(frame.data, name=frame.name, limits=limits)
            else:
                source = as_source(frame, limits=limits)
            made = plan(source, model=of_frame, limits=limits, **options)
        except QwenVLPrepError as exc:
            refused.append((index, f"frame {index + 1}", without_frames(exc)))
            continue
        sources.append(source)
        sizes.append(server_size(made.height, made.width, of_frame))
    if refused:
        raise ImagesRefusedError.of(refused, len(chosen), "frame")
    first = sizes[0]
    for (index, _), size in zip(chosen, sizes, strict=True):
        if size != first:  # the open models stack them
            raise RequestError(
                f"Expected frames of one size, {first[0]} × {first[1]} as the first "
                f"comes out, but frame {index + 1} comes out at {size[0]} × {size[1]}; "
                f"cut or resize the frames of one video alike"
            )
    return tuple(sources), first


def _share(
    wanted: int, source: Source, of_frame: ModelProfile, options: PlanKeywords
) -> int:
    """
    Give the tokens that a pair of frames may have: what is wanted, or near it.

    The server enlarges small pictures and rounds both sides up, so that some shapes
    miss some small caps: then the next smaller one that can be kept, or the least.
    """
    least = least_tokens(of_frame)
    most = of_frame.max_pixels // of_frame.factor**2
    above = max(wanted + 1, least)
    share: int
    for share in (*range(wanted, least - 1, -1), *range(above, most + 1)):
        try:
            own: PlanKeywords = {**options, "max_tokens": share}
            plan(source, model=of_frame, **own)
        except IllegalImageError as exc:
            if not any(one.code == "max-tokens-unreachable" for one in exc.findings):
                raise
        else:
            return share
    return most


def _above(
    max_tokens: int, share: int, of_frame: ModelProfile, n_frames: int
) -> BudgetError:
    needed = share * _pairs(n_frames)
    fits = max_tokens // share * _FRAMES_A_PATCH
    least, _ = _frame_counts(of_frame)
    advice = f"; {fits} frames would fit, see max_frames" if fits >= least else ""
    return BudgetError(
        f"Expected max_tokens of at least {needed} for {n_frames} frames of this shape "
        f"for {of_frame.name}, of which a pair takes {share}, but received "
        f"{max_tokens}{advice}",
        needed=needed,
        limit=max_tokens,
        fits=fits,
        items=(),
    )


def _vision_tokens(n_frames: int, size: tuple[int, int], model: ModelProfile) -> int:
    patches = (size[0] // model.factor) * (size[1] // model.factor)
    return _pairs(n_frames) * patches


def _pairs(n_frames: int) -> int:
    # An odd frame is doubled: qwen-vl-utils appends the last one once more.
    return -(-n_frames // _FRAMES_A_PATCH)


def _frame_counts(model: ModelProfile) -> tuple[int, int]:
    if model.min_frames is None or model.max_frames is None:
        raise _no_video(model)
    return model.min_frames, model.max_frames


def _frame_limit(model: ModelProfile, max_frames: int | None) -> int:
    least, most = _frame_counts(model)
    if max_frames is None:
        return most
    if integer("max_frames", max_frames) < least:
        raise ValueError(
            f"Expected at least {least} for max_frames, which {model.name} needs, but "
            f"received {max_frames}"
        )
    return min(most, max_frames)


def _check_fps(fps: float | None) -> None:
    if fps is None:
        return
    if isinstance(fps, bool) or not isinstance(fps, (int, float)):
        raise TypeError(f"Expected a number for fps but received {fps!r}")
    if not 0 < fps <= sys.float_info.max:  # an int above it is no float
        raise ValueError(
            f"Expected more than 0 for fps, and a finite number, but received {fps}"
        )


def _no_video(model: ModelProfile) -> ModelFeatureError:
    return ModelFeatureError(
        f"Expected a model that takes video but received {model.name}; send the "
        f"frames as images or take another model",
        model=model.name,
        feature="video",
    )
