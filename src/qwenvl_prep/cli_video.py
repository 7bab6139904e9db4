"""The video command: which frames are sent, at which size, and what they cost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qwenvl_prep import cli_steps as steps
from qwenvl_prep import cli_tables as show
from qwenvl_prep.cli_options import INPUTS, JSON, MODEL, QUIET, with_options
from qwenvl_prep.errors import (
    ImagesRefusedError,
    NotAnImageError,
    QwenVLPrepError,
)
from qwenvl_prep.video import VideoPlan, check_frame_count, plan_video

if TYPE_CHECKING:
    from qwenvl_prep.options import PlanKeywords

__all__ = ["video"]

# With what stands around them, so many frames fit a terminal of 24 lines.
_ROWS = 16
_ROWS_ABOVE = 12


@click.command()
@INPUTS
@with_options(MODEL, JSON, QUIET)
@click.option(
    "--max-frames",
    type=click.IntRange(2),
    help="Send at most so many, sampled evenly; the model's limit holds anyway.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    help="Vision tokens of the whole video, at most; its frames get smaller.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    help="Frames a second among the inputs, to tell what to send as fps.",
)
def video(
    inputs: tuple[str, ...],
    model: str,
    as_json: bool,
    quiet: bool,
    max_frames: int | None,
    max_tokens: int | None,
    fps: float | None,
) -> None:
    """Choose the frames of one video and predict its tokens, from headers alone."""
    profile = steps.profile_of(model, quiet=quiet)
    if not profile.takes_video:  # before a folder of frames is walked
        check_frame_count(0, profile)
    refused: steps.Refused = []
    frames: list[tuple[str, Any]] = []
    for name, source in steps.expanded_inputs(inputs, quiet=quiet).sources:
        if isinstance(source, QwenVLPrepError):
            steps.refuse(refused, name, source, as_json=as_json)
        else:
            frames.append((name, source))
    options: PlanKeywords = {"max_tokens": max_tokens}
    try:
        # A frame that is missing would move all others: nothing is planned then.
        if not refused:
            made = plan_video(
                [source for _, source in frames],
                model=profile,
                max_frames=max_frames,
                fps=fps,
                **options,
            )
    except ImagesRefusedError as exc:
        for index, _, reason in exc.refused:
            steps.refuse(refused, frames[index][0], reason, as_json=as_json)
    except QwenVLPrepError:
        raise
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if refused:
        _leave(refused, as_json=as_json, quiet=quiet)
    names = [frames[index][0] for index in made.indices]
    if as_json:
        show.print_json(_record(made, names))
        return
    table = show.table("frame", "file", right=("frame",))
    short = show.short_names(names)
    rows = list(zip(made.indices, names, strict=True))
    left_out = len(rows) - _ROWS
    for place, (index, name) in enumerate(rows):
        if left_out > 0 and place == _ROWS_ABOVE:
            table.add_row("…", f"{left_out:,} more; --json names all")
        if left_out <= 0 or not _ROWS_ABOVE <= place < _ROWS_ABOVE + left_out:
            table.add_row(f"{index + 1}", show.plain(short[name]))
    show.print_table(table)
    if not quiet:
        steps.talk(_summary(made))


def _leave(refused: steps.Refused, *, as_json: bool, quiet: bool) -> NoReturn:
    """List what was refused; tell who gave the video itself how to get frames."""
    if not as_json:
        show.refusals(refused)
    is_video = any(
        isinstance(exc, NotAnImageError) and "video" in exc.kind for _, exc in refused
    )
    if is_video and not quiet:
        steps.talk(
            "video takes the frames of one video as pictures; ffmpeg extracts them: "
            "ffmpeg -i clip.mp4 -vf fps=2 frames/%04d.png"
        )
    sys.exit(steps.REFUSED)


def _record(made: VideoPlan, names: list[str]) -> dict[str, Any]:
    return {
        "model": made.model.name,
        "n_frames": made.n_frames,
        "indices": list(made.indices),
        "files": names,
        "height": made.height,
        "width": made.width,
        "tokens": made.tokens,
        "limit": made.model.max_input_tokens,
        "fits": made.tokens < made.model.max_input_tokens,
        "seconds": made.seconds,
        "sent_fps": made.sent_fps,
    }


def _summary(made: VideoPlan) -> str:
    limit = made.model.max_input_tokens
    sent = show.counted(len(made.indices), "frame")
    text = (
        f"{sent} of {made.n_frames:,} at {made.height}×{made.width}, "
        f"{made.tokens:,} tokens for {made.model.name} (maximum input {limit:,})"
    )
    if made.tokens >= limit:
        text += "; too many: --max-tokens or --max-frames lowers them"
    if made.sent_fps is not None:
        text += f"; send fps={made.sent_fps:.4g}"
    return text
