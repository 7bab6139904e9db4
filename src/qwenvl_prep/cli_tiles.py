"""The command that cuts long and large pictures: ``qwenvl-prep tiles``."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from qwenvl_prep import cli_steps as steps
from qwenvl_prep import cli_tables as show
from qwenvl_prep.cli_inputs import Inputs, expand
from qwenvl_prep.cli_options import (
    BACKGROUND,
    FRAME,
    HIGH,
    INPUTS,
    JSON,
    MODEL,
    QUALITY,
    QUIET,
    with_options,
)
from qwenvl_prep.cut import PreparedTile, prepare_tiles
from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import BudgetError, SourceError
from qwenvl_prep.options import Encoding
from qwenvl_prep.split import split_requests
from qwenvl_prep.tiles import (
    DEFAULT_MIN_SCALE,
    DEFAULT_OVERLAP,
    DEFAULT_TILES,
    MOST_TILES,
    Tile,
    TilePlan,
    plan_tiles,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["tiles_command"]

_CUTTING = with_options(
    click.option(
        "--max-tokens",
        type=click.IntRange(1),
        help="Vision tokens of all tiles of an image together, at most.",
    ),
    click.option(
        "--overlap",
        type=click.IntRange(0),
        default=DEFAULT_OVERLAP,
        show_default=True,
        help="Pixels of the image that neighbours share, at least.",
    ),
    click.option(
        "--min-scale",
        type=click.FloatRange(0, 1, min_open=True),
        default=DEFAULT_MIN_SCALE,
        show_default=True,
        help="Sent over original, at least; text should stay 10 px high.",
    ),
    click.option(
        "--max-tiles",
        type=click.IntRange(1, MOST_TILES),
        default=DEFAULT_TILES,
        show_default=True,
        help="Tiles of an image, at most.",
    ),
    click.option(
        "--encoding",
        # What is cut cannot be kept.
        type=click.Choice([one for one in get_args(Encoding) if one != "keep"]),
        default="auto",
        show_default=True,
        help="auto picks PNG or JPEG by the picture.",
    ),
    QUALITY,
    BACKGROUND,
    FRAME,
)


@click.command("tiles")
@INPUTS
@with_options(MODEL, HIGH, _CUTTING, JSON, QUIET)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the files."
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--workers", type=click.IntRange(1), help="Threads; one a core.")
def tiles_command(
    inputs: tuple[str, ...],
    model: str,
    as_json: bool,
    quiet: bool,
    output: Path | None,
    overwrite: bool,
    workers: int | None,
    **options: Any,
) -> None:
    """Cut long and large images into tiles whose text stays readable.

    Without -o only the headers are read.  With it, page.png becomes page-1.png,
    page-2.png and so on in that folder.
    """
    budget = options["max_tokens"]
    profile = steps.profile_of(model, {**options, "max_tokens": None}, quiet=quiet)
    if output is not None and output.exists() and not output.is_dir():
        raise click.UsageError(f"{output} is a file; -o names a folder.")
    refused: steps.Refused = []
    taken: set[Path] = set()
    # Stdin can be read only once, and is no file that could be overwritten.
    originals = expand(word for word in inputs if output and word != "-")
    plans: list[tuple[str, TilePlan]] = []
    too_large: list[str] = []

    def cut(source: Any) -> tuple[TilePlan, Sequence[PreparedTile]]:
        plan = plan_tiles(source, model=profile, **options)
        if output is None:
            return plan, ()
        prepared = prepare_tiles(source, model=profile, workers=workers, **options)
        # Bytes that did not fit may have made them smaller than planned.
        made = tuple(one.tile for one in prepared)
        return dataclasses.replace(plan, tiles=made), prepared

    for name, (plan, prepared) in steps.each(
        inputs, cut, quiet=quiet, as_json=as_json, refused=refused
    ):
        files: Sequence[Path] = ()
        if output is not None:
            write = partial(_write, output, taken, originals, overwrite)
            try:
                files = [write(name, one, len(prepared)) for one in prepared]
            except SourceError as exc:
                steps.refuse(refused, name, exc, as_json=as_json)
                continue
        plans.append((name, plan))
        requests = _requests(plan, prepared)
        if requests != 1:
            too_large.append(_excess(name, plan, requests))
        if as_json:
            record = _record(name, plan, prepared, files)
            record |= {"limit": profile.max_input_tokens, "fits": requests == 1}
            show.print_json(record)
    if not as_json:
        show.print_table(_table(plans))
    if not quiet:
        count = sum(len(plan.tiles) for _, plan in plans)
        tokens = sum(plan.tokens for _, plan in plans)
        steps.talk(
            f"{show.counted(len(plans), 'image')}, {show.counted(count, 'tile')}, "
            f"{tokens:,} tokens for {profile.name} "
            f"(maximum input {profile.max_input_tokens:,})"
            + (f" (at most {budget:,} an image)" if budget is not None else "")
            + (f", written to {output}" if output and plans else "")
        )
        for line in too_large:
            steps.talk(line)
    steps.finish(refused, as_json=as_json)


def _requests(plan: TilePlan, prepared: Sequence[PreparedTile]) -> int | None:
    """Tell how many requests the tiles need; None where one alone is too large."""
    made = [data_uri_length(one.encoded_size, one.media_type) for one in prepared]
    try:
        requests = split_requests(
            [tile.tokens for tile in plan.tiles],
            model=plan.model,
            taken=plan.model.template_tokens,
            # They go as data URIs; how long, is known when they are made.
            data_uri_bytes=made or [0] * len(plan.tiles),
        )
    except BudgetError:
        return None
    return len(requests)


def _excess(name: str, plan: TilePlan, requests: int | None) -> str:
    """Say that the tiles of one picture do not go together, and what helps."""
    model = plan.model
    most = model.max_input_tokens - 1 - model.template_tokens
    if plan.tokens > most:
        reason = f"{plan.tokens:,} tokens where {most:,} are left for images"
        fewer = f"--max-tokens below {most:,}"
    else:
        reason = f"{show.counted(len(plan.tiles), 'tile')} with all their bytes"
        fewer = "a smaller --max-tokens"
    ways = [fewer, "a model with a larger input (-m)"]
    if requests is not None:
        ways.append(f"{requests} requests")
    return (
        f"{name} does not fit one request of {model.name}: {reason}. What helps: "
        f"{', '.join(ways[:-1])} or {ways[-1]}."
    )


def _write(
    folder: Path,
    taken: set[Path],
    originals: Inputs,
    overwrite: bool,
    name: str,
    tile: PreparedTile,
    count: int,
) -> Path:
    """Write one tile under its picture's name and its number, in sortable order."""
    digits = len(str(count))
    stem = Path(name).stem or "image"
    # The suffix is taken off again, so that a dot in the stem stays.
    named = f"{stem}-{tile.tile.index + 1:0{digits}}.tile"
    return steps.write_image(
        dataclasses.replace(tile, name=named),
        folder,
        taken,
        originals,
        overwrite=overwrite,
    )


def _record(
    name: str, plan: TilePlan, prepared: Sequence[PreparedTile], files: Sequence[Path]
) -> dict[str, Any]:
    """Describe the tiles of a picture for ``--json``."""
    tiles = [_tile_record(tile) for tile in plan.tiles]
    for record, made, path in zip(tiles, prepared, files, strict=False):
        record["media_type"] = made.media_type
        record["encoded_size"] = made.encoded_size
        record["output"] = str(path)
    return {
        "file": name,
        "original_height": plan.info.upright_height,
        "original_width": plan.info.upright_width,
        "model": plan.model.name,
        "rows": plan.rows,
        "columns": plan.columns,
        "scale": plan.scale,
        "tokens": plan.tokens,
        "tiles": tiles,
    }


def _tile_record(tile: Tile) -> dict[str, Any]:
    return {
        name: getattr(tile, name)
        for name in ("top", "left", "height", "width", "sent_height", "sent_width")
    } | {"tokens": tile.tokens}


def _table(plans: Sequence[tuple[str, TilePlan]]) -> Any:
    """Show where each tile lies, how it is sent and what it costs."""
    numbers = ("tile", "top", "left", "h×w", "sent", "tokens")
    made = show.table("file", *numbers, right=numbers)
    names = show.short_names([name for name, _ in plans])
    for name, plan in plans:
        for tile in plan.tiles:
            made.add_row(
                show.plain(names[name]) if not tile.index else "",
                f"{tile.index + 1}",
                f"{tile.top}",
                f"{tile.left}",
                f"{tile.height}×{tile.width}",
                f"{tile.sent_height}×{tile.sent_width}",
                f"{tile.tokens:,}",
            )
    return made
