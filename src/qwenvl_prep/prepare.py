"""The straight line from an input to a data URI, for one image and for many."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from qwenvl_prep.changes import lost
from qwenvl_prep.damage import broken
from qwenvl_prep.data_uri import to_data_uri
from qwenvl_prep.errors import (
    DamagedImageError,
    IllegalImageError,
    ImageError,
    QwenVLPrepError,
    SourceError,
    UnsupportedFormatError,
    named,
    without_frames,
)
from qwenvl_prep.fidelity import UNTOUCHED, FidelityReport
from qwenvl_prep.geometry import integer
from qwenvl_prep.integrity import reaches_end
from qwenvl_prep.jpeg_structure import is_sound_jpeg
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.metadata import without_metadata
from qwenvl_prep.options import PlanKeywords, PlanOptions
from qwenvl_prep.plan import ImagePlan, cap_pixels, plan_image, resized_plan
from qwenvl_prep.probe import probe, probe_file, with_profile
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sources import Source, as_source, listed, name_of, open_source
from qwenvl_prep.validate import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qwenvl_prep.decode import Pixels
    from qwenvl_prep.encode import EncodedImage
    from qwenvl_prep.findings import Finding
    from qwenvl_prep.headers import ImageInfo

__all__ = ["PreparedImage", "carry_out", "prepare", "prepare_many", "usable_cores"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PreparedImage:
    """
    One image, ready to be sent.

    Attributes
    ----------
    name : str
        Name of the input.
    data : bytes
        The file that is sent.
    media_type : str
        The label that belongs to it.
    plan : ImagePlan
        What was decided, with the original's header in ``plan.info``.
    changes : tuple of str
        What was done, in words; empty where the original bytes are sent untouched.
    report : FidelityReport or None
        How far the file is from the exact pixels, where that was asked for.
    """

    name: str
    data: bytes
    media_type: str
    plan: ImagePlan
    changes: tuple[str, ...]
    report: FidelityReport | None = None

    @property
    def data_uri(self) -> str:
        """The file as a ``data:`` URI; made anew on each call, never kept."""
        return to_data_uri(self.data, self.media_type)

    @property
    def height(self) -> int:
        """Height that is sent, in pixels."""
        return self.plan.height

    @property
    def width(self) -> int:
        """Width that is sent, in pixels."""
        return self.plan.width

    @property
    def tokens(self) -> int:
        """Predicted billed tokens: vision tokens and the two markers."""
        return self.plan.tokens

    @property
    def encoded_size(self) -> int:
        """Length of the file that is sent, in bytes."""
        return len(self.data)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What the original's header showed that is worth knowing."""
        return self.plan.warnings

    def to_original(self, boxes: Any, **how: Any) -> Any:
        """
        Bring boxes that the model answered back to the original image.

        Parameters are those of :meth:`qwenvl_prep.CoordinateMap.to_original`.

        Examples
        --------
        >>> import numpy as np
        >>> image = prepare(np.zeros((600, 800, 3), np.uint8))
        >>> image.to_original((0, 0, 500, 1000), convention="relative-1000")
        (0.0, 0.0, 400.0, 600.0)
        """
        return self.plan.to_original(boxes, **how)

    def to_sent(self, boxes: Any, **how: Any) -> Any:
        """
        Bring boxes on the original image to the numbers that the model uses.

        Parameters are those of :meth:`qwenvl_prep.CoordinateMap.to_sent`.
        """
        return self.plan.to_sent(boxes, **how)

    def __repr__(self) -> str:
        return (
            f"<PreparedImage {self.name}: {self.height}x{self.width} "
            f"{self.media_type}, {self.tokens} tokens, {self.encoded_size:,} bytes>"
        )


def prepare(
    source: Any,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    limits: Limits = DEFAULT_LIMITS,
    **options: Unpack[PlanKeywords],
) -> PreparedImage:
    """
    Make an image ready for a model: legal, upright, opaque, no larger than needed.

    Bytes that are legal, upright, opaque and sRGB already, and that the cap would not
    shrink, are kept untouched.  Everything else is decoded, brought to sRGB, laid on
    white, resized onto the model's grid with Pillow's bicubic pixels, turned upright
    and encoded without metadata.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        See :func:`qwenvl_prep.sources.as_source`.
    model : str or ModelProfile
        Model that will read the image.
    limits : Limits
        What may be read and decoded.
    **options
        The attributes of :class:`qwenvl_prep.PlanOptions`, among them
        ``max_tokens``, ``max_bytes``, ``encoding``, ``quality`` and ``fidelity``.

    Returns
    -------
    PreparedImage
        Its bytes pass :func:`qwenvl_prep.validate` for the same model.

    Raises
    ------
    SourceError
        If the input cannot be read.
    ImageError
        If the image is refused; the subclass tells why, see :mod:`qwenvl_prep.errors`.
    UnknownModelError, ModelFeatureError
        If the model is not known, or has no high resolution.

    Examples
    --------
    >>> import numpy as np
    >>> prepare(np.zeros((1280, 1280, 3), np.uint8)).media_type
    'image/png'
    """
    profile, wanted = get_model(model), PlanOptions.of(options)
    name = name_of(source, 0)
    try:
        source = as_source(source, limits=limits)
        name = source.name
        return _prepare(source, profile, wanted, limits)
    except QwenVLPrepError as exc:
        named(exc, name)
        raise


def prepare_many(
    sources: Iterable[Any],
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
    **options: Unpack[PlanKeywords],
) -> Iterator[PreparedImage | QwenVLPrepError]:
    """
    Make many images ready, on several threads, in the order given.

    Parameters
    ----------
    sources : iterable
        Inputs of :func:`prepare`; taken one by one, a few ahead of the results, so
        that an endless iterable works and memory stays bounded.
    model, limits, **options
        As for :func:`prepare`.
    workers : int, optional
        Threads; by default one for each core this process may use.

    Yields
    ------
    PreparedImage or QwenVLPrepError
        One for each input, in order.  A refused image is yielded as its error, so
        that it neither stops nor hides the others; its ``source_name`` tells which
        one.

    Raises
    ------
    UnknownModelError, ModelFeatureError, ValueError
        At once, for a mistake that concerns every image.

    Examples
    --------
    >>> import numpy as np
    >>> good, bad = np.zeros((56, 56), np.uint8), np.zeros((5, 56), np.uint8)
    >>> [type(one).__name__ for one in prepare_many([good, bad])]
    ['PreparedImage', 'IllegalImageError']
    """
    profile = get_model(model)
    wanted = PlanOptions.of(options)
    where_it_stands = dataclasses.replace(wanted, frame=None)
    cap_pixels(profile, wanted)
    if workers is None:
        workers = usable_cores()
    workers = integer("workers", workers, least=1)

    def recognise(numbered: tuple[int, Any]) -> Source | QwenVLPrepError:
        index, source = numbered
        name = name_of(source, index)
        try:
            known = as_source(source, limits=limits)
            name = known.name
            return _own(known, wanted.frame, limits)
        except QwenVLPrepError as exc:
            return named(without_frames(exc), name)
        except TypeError as exc:  # a hole in a column of a million rows
            return named(SourceError(str(exc)), name)
        except MemoryError:
            return named(ImageError("There was no memory to copy an image"), name)

    def attempt(source: Source | QwenVLPrepError) -> PreparedImage | QwenVLPrepError:
        if isinstance(source, QwenVLPrepError):
            return source
        try:
            # A copy of a Pillow image stands at 0, whatever its owner's stands at.
            options = wanted if source.pixels is None else where_it_stands
            return _prepare(source, profile, options, limits)
        except QwenVLPrepError as exc:
            return named(without_frames(exc), source.name)
        except MemoryError:
            lack = ImageError(f"There was no memory to prepare {source.name}")
            return named(lack, source.name)

    # Recognised on the caller's thread, before a generator goes on and closes the
    # file or fills the buffer anew.
    return _in_order(attempt, map(recognise, enumerate(listed(sources))), workers)


def _own(source: Source, frame: int | None, limits: Limits) -> Source:
    """Copy pixels that belong to the caller; files are read when it is their turn."""
    if source.pixels is None:
        return source
    from qwenvl_prep.decode import own_pixels

    info = probe(source, frame=frame)
    limits.check_header(info)
    return dataclasses.replace(source, pixels=own_pixels(source.pixels, info))


def _in_order(
    attempt: Any, sources: Iterator[Any], workers: int
) -> Iterator[PreparedImage | QwenVLPrepError]:
    waiting: deque[Future[PreparedImage | QwenVLPrepError]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="qwenvl_prep")
    failure = None
    try:
        while True:
            try:
                waiting.append(pool.submit(attempt, next(sources)))
            except StopIteration:
                break
            except Exception as exc:  # noqa: BLE001 - the caller's own, raised below
                failure = exc
                break
            while waiting and (len(waiting) >= 2 * workers or waiting[0].done()):
                yield waiting.popleft().result()
        # What is finished is handed over before the caller's own failure is.
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        # Reached too when the caller stops early: nothing goes on in the background.
        pool.shutdown(cancel_futures=True)


def _prepare(
    source: Source, model: ModelProfile, options: PlanOptions, limits: Limits
) -> PreparedImage:
    if source.pixels is not None:
        info = probe(source, frame=options.frame)
        plan = plan_image(info, model, options, name=source.name)

        def convert(size: tuple[int, int] | None, _: int) -> Pixels:
            from qwenvl_prep.decode import decode_pixels

            return decode_pixels(
                source.pixels, info, size=size, options=options, limits=limits
            )

        return carry_out(plan, convert)
    with open_source(source, at_once=model.max_file_bytes, limits=limits) as file:
        info = probe_file(file, frame=options.frame)
        if options.color == "srgb":
            info = with_profile(file, info)
        plan = plan_image(
            info,
            model,
            options,
            name=source.name,
            suffix=source.suffix,
            label=source.label,
        )
        limits.check_header(info, is_whole=not plan.is_resized)
        # A file that is read piece by piece is too large to be kept.
        if plan.is_kept and isinstance(file, bytes):
            kept = _kept(plan, file, limits)
            if kept is not None:
                return kept
        # Where bytes could have been kept, all pixels may be there but not the file's
        # own end, so the pixels are sent.
        plan = dataclasses.replace(plan, is_kept=False)

        def read(size: tuple[int, int] | None, shrink: int) -> Pixels:
            from qwenvl_prep.decode import decode

            return decode(
                file, info, size=size, shrink=shrink, options=options, limits=limits
            )

        return carry_out(plan, read)


def _kept(plan: ImagePlan, data: bytes, limits: Limits) -> PreparedImage | None:
    """Keep a file that is whole; None where its pixels have to be sent instead."""
    is_wanted = plan.options.encoding == "keep"
    if not reaches_end(data, plan.info):
        if is_wanted:
            raise broken(plan.info.format, "its end is not found")
        return None
    try:
        _prove(data, plan.info, limits)
    except DamagedImageError:
        if is_wanted or plan.options.on_truncated == "error":
            raise
        return None
    bare = data
    if plan.options.strip_metadata:
        try:
            bare = without_metadata(data, plan.info)
        except DamagedImageError:  # decoders are less strict about what is no pixel
            if is_wanted:
                raise
            return None
    return PreparedImage(
        name=plan.name,
        data=bare,
        media_type=plan.info.media_type,
        plan=plan,
        # There may have been none.
        changes=() if bare is data else plan.steps,
        report=UNTOUCHED if plan.options.report else None,
    )


def _prove(data: bytes, info: ImageInfo, limits: Limits) -> None:
    """
    Refuse bytes that do not hold what their header says.

    Decoding them is the proof; a JPEG alone may prove it by its tables, its length
    and end.
    """
    if info.format == "JPEG" and is_sound_jpeg(data):
        return
    from qwenvl_prep.decode import prove

    try:
        prove(data, info, limits=limits)
    except UnsupportedFormatError as exc:
        if exc.extra is None:
            raise
        # Legal for this model, only not readable here.


def carry_out(
    plan: ImagePlan, pixels_at: Callable[[tuple[int, int] | None, int], Pixels]
) -> PreparedImage:
    """
    Make pixels and encode them; smaller ones where the bytes have to fit.

    Parameters
    ----------
    plan : ImagePlan
        What was decided.
    pixels_at : callable
        Given the upright size to resize to, or None for the picture's own, and by
        what its sides may be divided while it is decoded, it gives the pixels.

    Raises
    ------
    ImageError
        As for :func:`prepare`.
    """
    from qwenvl_prep.within import encode_within

    upright = (plan.info.upright_height, plan.info.upright_width)

    def render(height: int, width: int) -> Pixels:
        size = (height, width)
        at = dataclasses.replace(plan, height=height, width=width)
        return pixels_at(None if size == upright else size, at.shrink)

    encoded, pixels = encode_within(render, plan)
    plan = resized_plan(plan, pixels.height, pixels.width)
    findings = find(probe_file(encoded.data), plan.model)
    if any(finding.severity == "error" for finding in findings):
        raise IllegalImageError(
            f"{plan.name} would be refused by {plan.model.name} after preparing: "
            f"{'; '.join(finding.message for finding in findings)}",
            findings=findings,
        )
    report = None
    if plan.options.report:
        size = None if not plan.is_resized else (plan.height, plan.width)
        exact = pixels if plan.shrink == 1 else pixels_at(size, 1)
        report = _report(encoded, exact)
    verb = "encoded" if plan.info.format == "PIXELS" else "re-encoded"
    return PreparedImage(
        name=plan.name,
        data=encoded.data,
        media_type=encoded.media_type,
        plan=plan,
        changes=(*plan.steps, *lost(pixels, plan.options), f"{verb} {encoded.label}"),
        report=report,
    )


def _report(encoded: EncodedImage, exact: Pixels) -> FidelityReport:
    """Decode what is sent, as its receiver will, and hold it against the pixels."""
    from qwenvl_prep.decode import decode
    from qwenvl_prep.fidelity import compare

    sent = decode(encoded.data, probe_file(encoded.data))
    return compare(sent.data, exact.data)


def usable_cores() -> int:
    """Count the cores that this process may use."""
    # A container may be given fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
