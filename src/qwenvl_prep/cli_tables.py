"""How results look on a terminal, and as JSON lines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from qwenvl_prep.errors import QwenVLPrepError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qwenvl_prep.budget import RequestPlan
    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.prepare import PreparedImage
    from qwenvl_prep.profiles import ModelProfile
    from qwenvl_prep.validate import ValidationReport

__all__ = [
    "budget_line",
    "console",
    "error_record",
    "findings_table",
    "model_details",
    "models_table",
    "prepared_record",
    "prepared_table",
    "print_json",
    "probe_record",
    "probe_table",
    "refusals",
    "table",
]

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


def error_record(name: str, error: QwenVLPrepError) -> dict[str, Any]:
    """Describe a refusal for ``--json``."""
    return {"file": name, "error": type(error).__name__, "message": str(error)}


def refusals(refused: Iterable[tuple[str, QwenVLPrepError]]) -> None:
    """List on stderr what was refused, each with its reason."""
    err = console(stderr=True)
    for name, error in refused:
        err.print(f"[red]refused[/] {_plain(name)}: {_plain(str(error))}", soft_wrap=True)


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
        "file", "type", "h×w", "turn", "colour", "bit", "frames", "bytes",
        right=("h×w", "turn", "bit", "frames", "bytes"),
    )
    for name, info in rows:
        made.add_row(
            _plain(name),
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
    made = table("file", "", "code", "finding", "what helps")
    for report in reports:
        if not report.findings:
            made.add_row(_plain(report.name), "[green]ok[/]", "", "legal as it is", "")
        for finding in report.findings:
            is_error = finding.severity == "error"
            made.add_row(
                _plain(report.name),
                "[red]error[/]" if is_error else "[yellow]warning[/]",
                finding.code,
                _plain(finding.message),
                _plain(finding.remedy),
            )
    return made


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
    if with_data_uri:
        record["data_uri"] = image.data_uri
    return record


def prepared_table(images: Iterable[PreparedImage]) -> Table:
    """Show what is sent, and what was done to get there."""
    made = table(
        "file", "original", "sent", "tokens", "bytes", "type", "done",
        right=("original", "sent", "tokens", "bytes"),
    )
    for image in images:
        info = image.plan.info
        made.add_row(
            _plain(image.name),
            f"{info.upright_height}×{info.upright_width}",
            f"{image.height}×{image.width}",
            f"{image.tokens:,}",
            f"{bytes_text(info.encoded_size)} → {bytes_text(image.encoded_size)}",
            image.media_type,
            # The sizes stand in their own columns already.
            ", ".join(
                change.split(" ")[0] if change.startswith("resized") else change
                for change in image.changes
            )
            or "kept",
        )
    return made


def budget_line(request: RequestPlan) -> str:
    """Give the arithmetic of a request in one line."""
    parts = [f"{len(request.items)} images with {request.image_tokens:,} tokens"]
    if request.text_tokens:
        parts.append(f"text at most {request.text_tokens:,}")
    if request.reserve:
        parts.append(f"reserve {request.reserve:,}")
    return (
        f"{' + '.join(parts)} = {request.total:,} of {request.limit:,} "
        f"({request.model.name}); {request.remaining:,} left"
    )


def models_table(models: Iterable[ModelProfile]) -> Table:
    """Show the models side by side; tokens are vision tokens of one image."""
    made = table(
        "model", "factor", "least", "cap", "high resolution", "input below",
        "video frames", "as of", "",
        right=("factor", "least", "cap", "high resolution", "input below"),
    )
    for model in models:
        square = model.factor**2
        high = model.high_resolution_pixels
        made.add_row(
            model.name,
            str(model.factor),
            str(model.min_pixels // square),
            f"{model.max_pixels // square:,}",
            f"{high // square:,}" if high else "–",
            f"{model.max_input_tokens:,}",
            f"{model.min_frames}–{model.max_frames}" if model.max_frames else "–",
            str(model.date),
            f"retired, see {model.successor}" if model.retired else "",
        )
    return made


def model_record(model: ModelProfile) -> dict[str, Any]:
    """Describe a model for ``--json``."""
    record = {name: getattr(model, name) for name in model.__dataclass_fields__}
    return {**record, "date": str(model.date), "formats": list(model.formats)}


def model_details(model: ModelProfile) -> Table:
    """Show everything that is known about one model."""
    made = table("field", "value")
    for name, value in model_record(model).items():
        shown = ", ".join(value) if isinstance(value, list) else value
        text = f"{shown:,}" if type(shown) is int else str(shown)
        made.add_row(name, _plain(text))
    return made


def _plain(text: str) -> str:
    """Keep brackets in names from being read as markup, and controls from acting."""
    visible = "".join(char if char.isprintable() else "�" for char in text)
    return visible.replace("[", r"\[")
