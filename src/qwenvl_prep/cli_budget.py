"""The command ``fit``: whether images fit a request, or what makes them fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from qwenvl_prep import cli_steps as steps
from qwenvl_prep import cli_tables as show
from qwenvl_prep.budget import Policy, RequestPlan
from qwenvl_prep.budget import fit as fit_images
from qwenvl_prep.cli_options import HIGH, INPUTS, JSON, MODEL, QUIET, with_options
from qwenvl_prep.errors import BudgetError, QwenVLPrepError
from qwenvl_prep.plan import ImagePlan, plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwenvl_prep.profiles import ModelProfile

__all__ = ["fit"]


@click.command()
@INPUTS
@with_options(MODEL, HIGH, JSON, QUIET)
@click.option(
    "--policy",
    type=click.Choice(get_args(Policy)),
    default="error",
    show_default=True,
    help="Where one request is too small: refuse, send smaller images, or send more "
    "requests.",
)
@click.option(
    "--max-tokens", type=click.IntRange(1), help="Vision tokens of an image, at most."
)
@click.option(
    "--floor",
    type=click.IntRange(1),
    help="With shrink: vision tokens that each image keeps.",
)
@click.option(
    "--group-by",
    type=click.Choice(["folder"]),
    help="With split: what stays together in one request.",
)
@click.option("-t", "--text", default="", help="All text of the request.")
@click.option("--text-tokens", type=click.IntRange(0), help="Its tokens, if known.")
@click.option(
    "--reserve",
    type=click.IntRange(0),
    default=0,
    help="Tokens kept free beside the chat template.",
)
def fit(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
    as_json: bool,
    quiet: bool,
    policy: str,
    max_tokens: int | None,
    floor: int | None,
    group_by: str | None,
    text: str,
    text_tokens: int | None,
    reserve: int,
) -> None:
    """Hold images and text against the model's maximum input."""
    for name, value, needed in (
        ("--floor", floor, "shrink"),
        ("--group-by", group_by, "split"),
    ):
        if value is not None and policy != needed:
            raise click.UsageError(f"{name} needs --policy {needed}.")
    planned = {"high_resolution": high_resolution, "max_tokens": max_tokens}
    profile = steps.profile_of(model, planned, quiet=quiet)
    refused: steps.Refused = []
    named = list(
        steps.each(
            inputs,
            lambda source: plan(
                source,
                model=profile,
                high_resolution=high_resolution,
                max_tokens=max_tokens,
            ),
            quiet=quiet,
            as_json=as_json,
            refused=refused,
        )
    )
    wanted: dict[str, Any] = {
        "model": profile,
        "text": text if text_tokens is None else text_tokens,
        "reserve": reserve,
        "high_resolution": high_resolution,
        "policy": policy,
    }
    if floor is not None:
        wanted["floor"] = floor
    folders: list[str] = []
    if group_by is not None:
        folders = wanted["keys"] = [str(Path(name).parent) for name, _ in named]
    plans = [made for _, made in named]
    try:
        fitted = fit_images(plans, **wanted)
    except BudgetError as exc:
        _show_refusal(exc, plans, profile, folders, as_json=as_json)
        steps.finish(refused, as_json=as_json)
        sys.exit(steps.REFUSED)
    except QwenVLPrepError:
        raise
    except ValueError as exc:
        # A folder that comes back, a floor above the cap: a mistake of the call.
        raise click.UsageError(str(exc)) from exc
    requests = fitted if isinstance(fitted, tuple) else (fitted,)
    if as_json:
        for number, request in enumerate(requests, 1):
            show.print_json(_record(request, number, len(requests), plans, policy))
    elif plans:
        _show(requests, plans, policy, folders)
    steps.finish(refused, as_json=as_json)


def _record(
    request: RequestPlan,
    number: int,
    count: int,
    plans: Sequence[ImagePlan],
    policy: str,
) -> dict[str, Any]:
    """Describe a request for ``--json``."""
    record: dict[str, Any] = {
        "model": request.model.name,
        "limit": request.limit,
        "total": request.total,
        "fits": True,
        "fitting_images": len(request.items),
        "text_tokens": request.text_tokens,
        "is_text_exact": request.is_text_exact,
        "template_tokens": request.template_tokens,
        "reserve": request.reserve,
        "images": [{"file": one.name, "tokens": one.tokens} for one in request.images],
    }
    if policy == "split":
        record |= {"request": number, "requests": count}
    if policy == "shrink":
        rows = zip(record["images"], plans, request.images, strict=True)
        for image, before, made in rows:
            image |= {
                "height": made.height,
                "width": made.width,
                "max_tokens": made.options.max_tokens,
                "tokens_before": before.tokens,
            }
    return record


def _show_refusal(
    error: BudgetError,
    plans: Sequence[ImagePlan],
    model: ModelProfile,
    folders: Sequence[str],
    *,
    as_json: bool,
) -> None:
    if not as_json:
        if not error.groups:  # which are named, the few that are too large
            _print_sums(plans)
        steps.talk(_told(error, folders))
        return
    show.print_json(
        {
            "model": model.name,
            "limit": error.limit,
            "total": error.needed,
            "fits": False,
            "fitting_images": error.fits,
            "images": [{"file": one.name, "tokens": one.tokens} for one in plans],
            "message": _told(error, folders),
        }
    )


def _show(
    requests: Sequence[RequestPlan],
    plans: Sequence[ImagePlan],
    policy: str,
    folders: Sequence[str],
) -> None:
    if policy == "split":
        _print_requests(requests, folders)
        return
    (request,) = requests
    if policy == "shrink":
        _print_shrunk(request.images, plans)
    else:
        _print_sums(request.images)
    show.console().print(show.budget_line(request), markup=False)


def _print_sums(plans: Sequence[ImagePlan]) -> None:
    """Show what each image costs, and all until then."""
    table = show.table("file", "tokens", "sum", right=("tokens", "sum"))
    names = show.short_names([one.name for one in plans])
    total = 0
    for one in plans:
        total += one.tokens
        table.add_row(show.plain(names[one.name]), f"{one.tokens:,}", f"{total:,}")
    show.print_table(table)


def _print_shrunk(made: Sequence[ImagePlan], before: Sequence[ImagePlan]) -> None:
    """Show what each image cost, its cap, and what it costs now."""
    right = ("before", "cap", "h×w", "tokens")
    table = show.table("file", *right, right=right)
    names = show.short_names([one.name for one in made])
    for one, old in zip(made, before, strict=True):
        cap = one.options.max_tokens
        table.add_row(
            show.plain(names[one.name]),
            f"{old.tokens:,}",
            "–" if cap is None else f"{cap:,}",
            f"{one.height}×{one.width}",
            f"{one.tokens:,}",
        )
    show.print_table(table)


def _told(error: BudgetError, folders: Sequence[str]) -> str:
    """Give the refusal, with the folders of what was to stay together."""
    text = show.spoken(error)
    if folders and error.groups:
        short = show.short_names(folders)
        named = (
            _folder_names(folders[one.start : one.stop], short) for one in error.groups
        )
        text += f". Too large for one request: {', '.join(named)}"
    return text


def _folder_names(folders: Sequence[str], short: Mapping[str, str]) -> str:
    """Name the folders of one request, each once; the last stands for many."""
    names = [short[one] for one in dict.fromkeys(folders)]
    if len(names) > 3:
        names[1:-1] = ["…"]
    noun = "folder" if len(names) == 1 else "folders"
    return f"{noun} {', '.join(names)}"


def _print_requests(requests: Sequence[RequestPlan], folders: Sequence[str]) -> None:
    """Show which images go together, and what each request takes."""
    table = show.table("file", "tokens", "sum", right=("tokens", "sum"))
    names = show.short_names([name for one in requests for name, _ in one.items])
    short = show.short_names(folders)
    first = 1
    for number, request in enumerate(requests, 1):
        last = first + len(request.items) - 1
        which = f"image {first}" if first == last else f"images {first}–{last}"
        if folders:
            which = f"{_folder_names(folders[first - 1 : last], short)}, {which}"
        table.add_row(
            f"[bold]request {number}: {show.plain(which)}, {request.total:,} tokens[/]",
            "",
            "",
        )
        beside = request.total - request.image_tokens
        total = 0
        for name, tokens in request.items:
            total += tokens
            table.add_row(
                f"  {show.plain(names[name])}", f"{tokens:,}", f"{beside + total:,}"
            )
        table.add_section()
        first = last + 1
    show.print_table(table)
    images = sum(len(one.items) for one in requests)
    show.console().print(
        f"{show.counted(images, 'image')} in {show.counted(len(requests), 'request')}: "
        f"{sum(one.total for one in requests):,} tokens, each below "
        f"{requests[0].limit:,} ({requests[0].model.name})",
        markup=False,
    )
