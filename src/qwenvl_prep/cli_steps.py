"""The steps that several commands of the command line share."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from qwenvl_prep import cli_tables as show
from qwenvl_prep.addresses import shown
from qwenvl_prep.budget import fit
from qwenvl_prep.cli_inputs import Inputs, expand
from qwenvl_prep.errors import (
    ImageError,
    QwenVLPrepError,
    RequestError,
    SourceError,
    without_frames,
)
from qwenvl_prep.geometry import billed_tokens, is_above_ratio
from qwenvl_prep.options import PlanOptions
from qwenvl_prep.plan import cap_pixels, plan
from qwenvl_prep.prepare import PreparedImage, prepare_many
from qwenvl_prep.probe import probe
from qwenvl_prep.profiles import ModelProfile, get_model
from qwenvl_prep.request import Wire, chat_request, from_http_body
from qwenvl_prep.sources import Source
from qwenvl_prep.video import check_frame_count, frame_profile, plan_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qwenvl_prep.plan import ImagePlan
    from qwenvl_prep.reply import Reply

# Exit status where some input was refused.
REFUSED = 1

# What written files are called: by their content, never by the input's name.
_SUFFIX_OF_TYPE = {
    "image/bmp": ".bmp",
    "image/heic": ".heic",
    "image/icns": ".icns",
    "image/jp2": ".jp2",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/sgi": ".sgi",
    "image/tiff": ".tif",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
}

_Read = TypeVar("_Read")

# Refused inputs, by name.
Refused: TypeAlias = list[tuple[str, QwenVLPrepError]]


def preparing(options: dict[str, Any]) -> dict[str, Any]:
    """Pick what concerns preparing out of a command's options."""
    return {
        field.name: options[field.name]
        for field in fields(PlanOptions)
        if field.name in options
    }


def profile_of(
    model: str, options: dict[str, Any] | None = None, *, quiet: bool = True
) -> ModelProfile:
    """Give the profile, or refuse the whole call before any image is read."""
    profile = get_model(model)
    if profile.retired and not quiet:
        talk(
            f"{profile.name} keeps the rule of early 2025; since {profile.retired} the "
            f"provider bills that name by another. Today's is -m {profile.successor}."
        )
    try:
        cap_pixels(profile, PlanOptions(**preparing(options or {})))
    except QwenVLPrepError:
        raise
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    return profile


def talk(text: str) -> None:
    """Say something to the person; stdout is kept for data."""
    show.console(stderr=True).print(text, markup=False, soft_wrap=True)


def refuse(refused: Refused, name: str, exc: QwenVLPrepError, *, as_json: bool) -> None:
    """Remember a refusal; with --json it also takes its place in the output."""
    refused.append((name, without_frames(exc)))
    if as_json:
        show.print_json(show.error_record(name, exc))


def finish(refused: Refused, *, as_json: bool) -> None:
    """List what was refused, and leave with the status that says so."""
    if not refused:
        return
    if not as_json:
        show.refusals(refused)
    sys.exit(REFUSED)


def expanded_inputs(
    inputs: Sequence[str], *, quiet: bool, allow_urls: bool = False
) -> Inputs:
    """Turn words into inputs, and tell what was left out."""
    expanded = expand(inputs, allow_urls=allow_urls)
    if expanded.skipped and not quiet:
        names = ", ".join(Path(name).name for name in expanded.skipped[:3])
        more = ", …" if len(expanded.skipped) > 3 else ""
        count = show.counted(len(expanded.skipped), "file")
        talk(f"Left out {count} that no picture is in: {names}{more}")
    if not expanded.sources:
        raise click.UsageError("There is no picture among the inputs.")
    return expanded


def each(
    inputs: Sequence[str],
    read: Callable[[Any], _Read],
    *,
    quiet: bool,
    as_json: bool,
    refused: Refused,
    allow_urls: bool = False,
) -> Iterator[tuple[str, _Read]]:
    """Read every input; what is refused is remembered and stops no other."""
    expanded = expanded_inputs(inputs, quiet=quiet, allow_urls=allow_urls)
    for word, source in _progress(expanded.sources, len(expanded.sources), quiet=quiet):
        # The query of an address may be a signature, and output is kept in logs.
        name = shown(word) if isinstance(source, str) else word
        try:
            if isinstance(source, QwenVLPrepError):
                raise source
            made = read(source)
        except QwenVLPrepError as exc:
            refuse(refused, name, exc, as_json=as_json)
        else:
            yield name, made


def _progress(items: Any, total: int, *, quiet: bool) -> Any:
    """Show a bar on a terminal where the work is long enough to wonder."""
    if quiet or total < 2 or not sys.stderr.isatty():
        return items
    from rich.progress import track

    return track(
        items,
        total=total,
        description="",
        console=show.console(stderr=True),
        transient=True,
    )


def prepared(
    expanded: Inputs, profile: ModelProfile, options: dict[str, Any], *, quiet: bool
) -> Iterator[tuple[str, PreparedImage | QwenVLPrepError | str]]:
    """Prepare what the inputs stand for; addresses are handed on as they are."""
    from qwenvl_prep.decode import empty_vips_cache

    empty_vips_cache()
    todo = [
        source
        for _, source in expanded.sources
        if not isinstance(source, (QwenVLPrepError, str))
    ]
    results = prepare_many(
        todo, model=profile, workers=options["workers"], **preparing(options)
    )
    for name, source in _progress(expanded.sources, len(expanded.sources), quiet=quiet):
        is_ready = isinstance(source, (QwenVLPrepError, str))
        yield name, source if is_ready else next(results)


def build_request(
    inputs: Sequence[str],
    profile: ModelProfile,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> dict[str, Any]:
    """Prepare, show and budget the images, and build the request."""
    high_resolution = options["high_resolution"]
    refused: Refused = []
    pictures: list[PreparedImage | str] = []
    expanded = expanded_inputs(inputs, quiet=quiet, allow_urls=True)
    reader = profile
    if options["video"]:
        # A frame has a cap of its own, which sinks as their number grows.
        _check_frames(expanded, profile)
        reader = frame_profile(profile, len(expanded.sources))
    else:
        _check_budget(expanded, profile, options)
    for name, image in prepared(expanded, reader, options, quiet=quiet):
        if isinstance(image, QwenVLPrepError):
            refused.append((name, image))
        else:
            pictures.append(image)
    images = [picture for picture in pictures if isinstance(picture, PreparedImage)]
    if images and not quiet:
        show.console(stderr=True).print(show.prepared_table(images))
    if refused:
        show.refusals(refused)
        total = show.counted(len(expanded.sources), "image")
        talk(f"No request was made: {len(refused)} of {total} refused.")
        sys.exit(REFUSED)
    text = (options["system"] or "") + options["text"]
    if options["video"]:
        # Frames behind an address are counted by nobody here.
        if len(images) == len(pictures):
            video = plan_video(images, model=profile)
            fit((), model=profile, text=text, reserve=video.tokens)
            if not quiet:
                talk(
                    f"{len(images)} frames as one video of {video.height}×"
                    f"{video.width} with {video.tokens:,} tokens"
                )
    else:
        request_plan = fit(
            images, model=profile, text=text, high_resolution=high_resolution
        )
        if not quiet:
            talk(show.budget_line(request_plan))
    return chat_request(
        () if options["video"] else pictures,
        video=pictures if options["video"] else (),
        text=options["text"],
        model=profile,
        wire=options["wire"],
        system=options["system"],
        stream=options["stream"],
        high_resolution=high_resolution,
    )


def _check_frames(expanded: Inputs, profile: ModelProfile) -> None:
    """Refuse a number of frames; but a video file in their place as what it is."""
    frames = [source for _, source in expanded.sources if isinstance(source, Source)]
    is_short = len(frames) < (profile.min_frames or 0)
    if is_short and len(frames) == len(expanded.sources):
        plan_video(frames, model=profile)
    check_frame_count(len(expanded.sources), profile)


def _check_budget(
    expanded: Inputs, profile: ModelProfile, options: dict[str, Any]
) -> None:
    """
    Refuse images that do not fit one request before any pixel of them is made ready.

    Raises
    ------
    BudgetError
        If their headers alone tell that.
    """
    wanted = preparing(options)
    plans: list[ImagePlan] = []
    for _, source in expanded.sources:
        # Of addresses nothing is known here, and refusals are listed all together.
        if isinstance(source, (QwenVLPrepError, str)):
            return
        try:
            made = plan(source, model=profile, **wanted)
        except QwenVLPrepError:
            return
        if _may_get_smaller(made):
            return
        plans.append(made)
    text = (options["system"] or "") + options["text"]
    high_resolution = options["high_resolution"]
    fit(plans, model=profile, text=text, high_resolution=high_resolution)


def _may_get_smaller(made: ImagePlan) -> bool:
    """Tell whether bytes that do not fit could lower the tokens that are planned."""
    if made.options.encoding == "keep":
        return False
    if made.options.max_bytes is not None:
        return True
    # Noise at the least quality tried takes less than that a pixel, as base64;
    # losslessly, three bytes, what frames them, and a third for base64.
    a_pixel = 2.5 if made.options.encoding in {"auto", "jpeg"} else 4.5
    return a_pixel * made.height * made.width > made.model.max_data_uri_bytes


def answer(sender: Any, request: dict[str, Any], *, as_json: bool) -> Reply:
    """Send, and write the answer as it arrives."""
    if not request.get("stream"):
        reply = sender.send(request)
        if not as_json:
            click.echo(reply.text)
        return reply  # type: ignore[no-any-return]
    with sender.stream(request) as pieces:
        for piece in pieces:
            if not as_json:
                click.echo(piece, nl=False)
        if not as_json:
            click.echo()
        return pieces.reply  # type: ignore[no-any-return]


def usage_line(reply: Reply, predicted: int | None) -> str:
    """Hold what was billed against what was predicted."""
    usage = reply.usage
    told = "not for video or addresses" if predicted is None else f"{predicted:,}"
    if usage is None:
        return f"Image tokens: predicted {told}; the server told no usage."
    billed = "not told" if usage.image_tokens is None else f"{usage.image_tokens:,}"
    return (
        f"Image tokens: predicted {told}, billed {billed}. All input: "
        f"{usage.input_tokens:,}, output: {usage.output_tokens:,}."
    )


def stored_request(path: Path) -> tuple[dict[str, Any], Wire]:
    """Read back what the request command wrote."""
    try:
        return from_http_body(json.loads(path.read_bytes()))
    except (OSError, ValueError) as exc:
        raise RequestError(f"{path} cannot be sent: {exc}") from exc


def is_high_resolution(request: dict[str, Any]) -> bool:
    """Tell whether a request sets ``vl_high_resolution_images``, on either wire."""
    extra = request.get("extra_body", {})
    return bool({**request, **extra}.get("vl_high_resolution_images"))


def sent_sizes(request: dict[str, Any]) -> list[tuple[int, int]] | None:
    """
    Read the sizes of a request's images from the headers in its data URIs.

    None where it carries an address, which only the server reads, or a video, whose
    frames are counted in another way.
    """
    sizes = []
    for part in _parts(request["messages"]):
        if "video" in part:
            return None
        image = part.get("image_url", part.get("image"))
        if image is None:
            continue
        try:
            info = probe(image.get("url") if isinstance(image, dict) else image)
        except (ImageError, SourceError, TypeError):
            return None
        sizes.append((info.upright_height, info.upright_width))
    return sizes


def predicted_tokens(
    sizes: Sequence[tuple[int, int]], profile: ModelProfile, *, high_resolution: bool
) -> int:
    """Count what the images of a request will be billed."""
    return sum(
        billed_tokens(*size, profile, high_resolution=high_resolution)
        for size in sizes
        if not is_above_ratio(*size)
    )


def _parts(messages: Any) -> Iterator[dict[str, Any]]:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield part


def shortened(value: Any) -> Any:
    """Cut data URIs, which nobody reads on a terminal."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(item) for item in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > 80:
        return f"{value[:60]}… ({len(value):,} characters)"
    return value


def write_image(
    image: PreparedImage,
    folder: Path,
    taken: set[Path],
    originals: Inputs,
    *,
    overwrite: bool,
) -> Path:
    """Write a prepared image under its own name, with the suffix of its content."""
    suffix = _SUFFIX_OF_TYPE[image.media_type]
    stem = Path(image.name).stem or "image"
    path = folder / f"{stem}{suffix}"
    number = 2
    while path in taken:  # two inputs of one name from two folders
        path = folder / f"{stem}-{number}{suffix}"
        number += 1
    if path.exists():
        if originals.is_among(path):
            raise SourceError(f"{path} is an original, which is never overwritten")
        if not overwrite:
            raise SourceError(f"{path} exists already; --overwrite replaces it")
    taken.add(path)
    write_file(path, image.data)
    return path


def write_file(path: Path, data: bytes) -> None:
    """Write all or nothing: a reader never finds half a file under the name."""
    half = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(data)
        half.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
        raise SourceError(f"Writing {path} failed: {exc.strerror}") from exc
