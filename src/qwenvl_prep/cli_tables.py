"""How results look on a terminal, and as JSON lines."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import sys
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qwenvl_prep.budget import RequestPlan
    from qwenvl_prep.errors import QwenVLPrepError
    from qwenvl_prep.findings import Finding
    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.prepare import PreparedImage
    from qwenvl_prep.profiles import ModelProfile, Prices
    from qwenvl_prep.validate import ValidationReport

__all__ = [
    "budget_line",
    "console",
    "counted",
    "error_record",
    "findings_table",
    "model_details",
    "models_table",
    "plain",
    "prepared_record",
    "prepared_table",
    "price_text",
    "print_json",
    "print_table",
    "probe_record",
    "probe_table",
    "refusals",
    "short_names",
    "spoken",
    "table",
]

# What is said of bytes that are kept as they are, by the finding's code.
_UNMENDED = {
    "not-upright": "not upright for the model",
    "transparent": "transparent parts may arrive black",
    "many-frames": "only one frame is seen",
    "colour-profile": "colours arrive changed",
}

# Areas of a profile that stand for a number of tokens.
_BILLED_AREAS = frozenset(
    {
        "min_pixels",
        "max_pixels",
        "high_resolution_pixels",
        "frame_min_pixels",
        "frame_max_pixels",
    }
)

# What messages say to a caller in Python, and what a person types for it.  Whole
# phrases only, so that no name of a file is touched, and true in every command.
_WORDS = {
    "hand it to chat_request, and the server reads it, or count it with fetch=True": (
        "hand it to qwenvl-prep request, and the server reads it, or count it with "
        "qwenvl-prep count --fetch"
    ),
    "allow_private=True": "--allow-private",
    "lower max_tokens or let policy='shrink' do that": (
        "or lower --max-tokens: qwenvl-prep fit --policy shrink shows the caps that fit"
    ),
    "Not even the first image fits; lower max_tokens": (
        "Not even the first image fits; lower --max-tokens"
    ),
    "as policy='split' does": "as qwenvl-prep fit --policy split does",
    "with encoding='keep'": "with --encoding keep",
    "or take what arrived: on_truncated='accept'": (
        "or take what arrived: qwenvl-prep prepare --on-truncated accept"
    ),
    "see list_models().": "see qwenvl-prep models.",
    "pass get_model(...).replace(name=..., ...), or name a file": "name a file",
}

# Wide enough that nothing is cut where no terminal sets a width.
_WIDTH_WITHOUT_TERMINAL = 160


def console(*, stderr: bool = False) -> Console:
    """
    Give a console that fits what it writes to.

    rich finds out itself about colours and ``NO_COLOR``; where there is no terminal,
    its 80 columns would cut names that a program wants to read.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, highlight=False, emoji=False)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Start a table; the columns named in *right* are aligned to the right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        is_number = column in right
        made.add_column(
            column,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    return made


def short_names(names: Sequence[str]) -> dict[str, str]:
    """
    Leave out the folders that all names share.

    Examples
    --------
    >>> short_names(["a/b/one.png", "a/c/two.png"])
    {'a/b/one.png': 'b/one.png', 'a/c/two.png': 'c/two.png'}
    """
    folders = {os.path.dirname(name) for name in names}  # noqa: PTH120
    try:
        shared = os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative names together
        shared = ""
    return {name: os.path.relpath(name, shared) if shared else name for name in names}


def print_json(record: dict[str, Any]) -> None:
    """Write one object as one line on stdout."""
    print(json.dumps(record, ensure_ascii=False), flush=True)  # noqa: T201


def bytes_text(size: int) -> str:
    """
    Give a size in bytes as a person reads it.

    Examples
    --------
    >>> bytes_text(999), bytes_text(231_338), bytes_text(1_467_701)
    ('999 B', '231 kB', '1.5 MB')
    """
    if size < 1000:
        return f"{size} B"
    if size < 999_500:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.1f} MB"


def counted(count: int, noun: str) -> str:
    """
    Give a number with its noun.

    Examples
    --------
    >>> counted(1, "image"), counted(5, "image")
    ('1 image', '5 images')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def print_table(made: Table) -> None:
    """Write a table on stdout, unless it has no rows."""
    if made.row_count:
        console().print(made)


def spoken(error: Exception) -> str:
    """
    Give a message in the words of the command line where it names Python's.

    Examples
    --------
    >>> spoken(ValueError("did you mean? see list_models()."))
    'did you mean? see qwenvl-prep models.'
    """
    text = str(error)
    for python, words in _WORDS.items():
        text = text.replace(python, words)
    return text


def error_record(name: str, error: QwenVLPrepError) -> dict[str, Any]:
    """Describe a refusal for ``--json``."""
    return {"file": name, "error": type(error).__name__, "message": spoken(error)}


def refusals(refused: Iterable[tuple[str, QwenVLPrepError]]) -> None:
    """List on stderr what was refused, each with its reason."""
    err = console(stderr=True)
    for name, error in refused:
        err.print(
            f"[red]refused[/] {plain(name)}: {plain(spoken(error))}", soft_wrap=True
        )


def probe_record(name: str, info: ImageInfo) -> dict[str, Any]:
    """Describe a header for ``--json``."""
    return {
        "file": name,
        "format": info.format,
        "media_type": info.media_type,
        "height": info.height,
        "width": info.width,
        "orientation": info.orientation,
        "channels": info.channels,
        "bit_depth": info.bit_depth,
        "has_alpha": info.has_alpha,
        "colour": info.colour,
        "n_frames": info.n_frames,
        "has_icc": info.has_icc,
        "encoded_size": info.encoded_size,
    }


def probe_table(rows: Iterable[tuple[str, ImageInfo]]) -> Table:
    """Show headers."""
    made = table(
        "file",
        "type",
        "h×w",
        "turn",
        "colour",
        "bit",
        "frames",
        "bytes",
        right=("h×w", "turn", "bit", "frames", "bytes"),
    )
    rows = list(rows)
    names = short_names([name for name, _ in rows])
    for name, info in rows:
        made.add_row(
            plain(names[name]),
            info.media_type,
            f"{info.height}×{info.width}",
            str(info.orientation),
            info.colour + (" + alpha" if info.has_alpha else ""),
            str(info.bit_depth),
            str(info.n_frames),
            bytes_text(info.encoded_size),
        )
    return made


def findings_table(reports: Iterable[ValidationReport]) -> Table:
    """Show what was found about each image, and what mends it."""
    made = table("file", "found")
    reports = list(reports)
    names = short_names([report.name for report in reports])
    for report in reports:
        found = [_finding_text(finding) for finding in report.findings]
        made.add_row(
            plain(names[report.name]),
            "\n".join(found) or "[green]ok[/] legal as it is",
        )
    return made


def _finding_text(finding: Finding) -> str:
    colour = "red" if finding.severity == "error" else "yellow"
    return (
        f"[{colour}]{finding.severity}[/] [bold]{finding.code}[/] "
        f"{plain(finding.message)}\n→ {plain(finding.remedy)}"
    )


def prepared_record(image: PreparedImage, *, with_data_uri: bool) -> dict[str, Any]:
    """Describe a prepared image for ``--json``."""
    info = image.plan.info
    record = {
        "file": image.name,
        "original_height": info.upright_height,
        "original_width": info.upright_width,
        "original_size": info.encoded_size,
        "height": image.height,
        "width": image.width,
        "tokens": image.tokens,
        "encoded_size": image.encoded_size,
        "media_type": image.media_type,
        "is_kept": image.plan.is_kept,
        "changes": list(image.changes),
        "warnings": [finding.code for finding in image.warnings],
    }
    if image.report is not None:
        psnr = image.report.psnr
        # JSON has no infinity.
        record["psnr"] = psnr if math.isfinite(psnr) else None
        record["ssim"] = image.report.ssim
    if with_data_uri:
        record["data_uri"] = image.data_uri
    return record


def prepared_table(images: Iterable[PreparedImage]) -> Table:
    """
    Show what is sent, and what was done to get there.

    Each image has two lines, so that a row fits 80 columns: the original above, what
    is sent below.
    """
    made = table(
        "file / what was done",
        "height×width",
        "bytes",
        "tokens",
        "type",
        right=("height×width", "bytes", "tokens"),
    )
    images = list(images)
    names = short_names([image.name for image in images])
    for image in images:
        info = image.plan.info
        # The sizes stand in their own column already.
        done = ", ".join(
            change.partition(" ")[0] if change.startswith("resized") else change
            for change in image.changes
        )
        done = done or "kept as it is"
        if image.plan.is_kept:
            # What somebody would see otherwise, and nobody has mended.
            done += "".join(
                f", {_UNMENDED[one.code]}"
                for one in image.warnings
                if one.code in _UNMENDED
            )
        if image.report is not None:
            is_same = math.isinf(image.report.psnr)
            done += f", {'the same pixels' if is_same else image.report}"
        made.add_row(
            f"{plain(names[image.name])}\n  [dim]{plain(done)}[/]",
            f"{info.upright_height}×{info.upright_width}\n"
            f"→ {image.height}×{image.width}",
            f"{bytes_text(info.encoded_size)}\n→ {bytes_text(image.encoded_size)}",
            f"\n{image.tokens:,}",
            f"{info.media_type}\n{image.media_type}",
        )
    return made


def budget_line(request: RequestPlan) -> str:
    """Give the arithmetic of a request in one line."""
    parts = [
        f"{counted(len(request.items), 'image')} with {request.image_tokens:,} tokens"
    ]
    if request.text_tokens:
        bound = "" if request.is_text_exact else "at most "
        parts.append(f"text {bound}{request.text_tokens:,}")
    if request.template_tokens:
        parts.append(f"template {request.template_tokens:,}")
    if request.reserve:
        parts.append(f"reserve {request.reserve:,}")
    return (
        f"{' + '.join(parts)} = {request.total:,} of {request.limit:,} "
        f"({request.model.name}); room for {request.remaining:,} more"
    )


def models_table(models: Iterable[ModelProfile]) -> Table:
    """
    Show the models side by side; tokens are vision tokens of one image.

    The headers are short, so that the longest name keeps its line at 80 columns.
    """
    made = table(
        "model",
        "factor",
        "tokens",
        "high",
        "input",
        "in/out",
        right=("factor", "tokens", "high", "input", "in/out"),
    )
    for model in models:
        square = model.factor**2
        high = model.high_resolution_pixels
        price = "–"
        if model.prices is not None:
            first = model.prices.tiers[0]
            price = f"{first.input}/{first.output}"
        made.add_row(
            model.name + (" (retired)" if model.retired else ""),
            str(model.factor),
            f"{model.min_pixels // square}–{model.max_pixels // square:,}",
            f"{high // square:,}" if high else "–",
            f"{model.max_input_tokens:,}",
            price,
        )
    return made


def model_record(model: ModelProfile) -> dict[str, Any]:
    """Describe a model for ``--json``."""
    return {name: _as_json(value) for name, value in asdict(model).items()}


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(one) for one in value]
    if isinstance(value, Decimal):
        return float(value)
    return str(value) if isinstance(value, dt.date) else value


def model_details(model: ModelProfile) -> Table:
    """Show everything that is known about one model."""
    made = table("field", "value")
    for name, value in model_record(model).items():
        lines = _field_text(name, value, model).splitlines()
        made.add_row(name, "\n".join(plain(line) for line in lines))
    return made


def _field_text(name: str, value: Any, model: ModelProfile) -> str:
    if value is None or value == "":
        return "–"
    if name == "prices" and model.prices is not None:
        return price_text(model.prices)
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        per_token = f" = {value // model.factor**2:,} tokens"
        return f"{value:,}" + (per_token if name in _BILLED_AREAS else "")
    return str(value)


def price_text(prices: Prices) -> str:
    """Give a price list as a person reads it, with its date."""
    lines = []
    for tier in prices.tiers:
        until = "" if tier.up_to is None else f" up to {tier.up_to:,} input tokens"
        lines.append(
            f"{tier.input} in, {tier.output} out, {prices.currency} a million{until}"
        )
    lines.append(
        f"Batch × {prices.batch_factor}, {prices.region}, {prices.date}, confidence "
        f"{prices.confidence}"
    )
    return "\n".join(lines)


def plain(text: str) -> str:
    """Keep brackets in names from being read as markup, and controls from acting."""
    visible = "".join(char if char.isprintable() else "�" for char in text)
    return visible.replace("[", r"\[")
