"""
How fast this is, measured beside what one would write without it.

``python -m qwenvl_prep.bench`` counts and prepares pictures in turns with Pillow,
NumPy and plain Python; with ``--peers``, beside the fastest libraries for the same
work.  Every answer is checked before it is timed.  Exit status 0: fine; 1: an answer
was wrong or an input was refused; 2: wrong usage.  A target that is not reached is
told, and no error.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyvips
from PIL import Image
from rich.markup import escape

import qwenvl_prep as qp
from qwenvl_prep import cli_tables as show
from qwenvl_prep.bench_accounting import counting_cases
from qwenvl_prep.bench_cases import (
    Picture,
    count_files,
    count_sizes,
    prepare_cases,
    prepare_many_cases,
    resize_cases,
)
from qwenvl_prep.bench_header import header as what_on_what
from qwenvl_prep.bench_large import large_cases
from qwenvl_prep.bench_measure import measure
from qwenvl_prep.bench_pictures import make_pictures
from qwenvl_prep.bench_rivals import (
    missing_rivals,
    rival_versions,
    vips_on_one_thread,
)
from qwenvl_prep.bench_targets import (
    exact_case,
    fast_case,
    kept_case,
    kernel_case,
    photo_case,
    two_threads_cases,
)
from qwenvl_prep.cli_inputs import expand
from qwenvl_prep.errors import QwenVLPrepError, UnsupportedFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qwenvl_prep.bench_measure import Comparison, Measurement


__all__ = ["main", "number_text", "spread_text", "target_text", "told_text"]

_REFUSED, _USAGE = 1, 2

_GROUPS = ("count-sizes", "count-files", "resize", "prepare", "prepare-many")
_PEER_GROUPS = (
    *("kernel", "photo", "large", "prepare-many", "kept", "exact"),
    "counting",
)

_ROUNDS, _QUICK_ROUNDS = 9, 2

# A call that is over sooner is repeated until one turn takes this long.
_LEAST_SECONDS = 0.02

# Megapixels of the photo that the peers are measured on: what phones make.
_PHOTO_AREA = (10, 15)

_Refused = list[tuple[str, QwenVLPrepError]]


# ---------------------------------------------------------------- the command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("inputs", nargs=-1)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help=f"Turns each; {_ROUNDS}, with --quick {_QUICK_ROUNDS}.",
)
@click.option("--quick", is_flag=True, help="A smoke run on small pictures.")
@click.option("--peers", is_flag=True, help="Beside the fastest libraries instead.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(dict.fromkeys(_GROUPS + _PEER_GROUPS))),
    help="Just these.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def _bench(
    inputs: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    peers: bool,
    only: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Measure throughput beside Pillow, NumPy and plain Python.

    INPUTS are files and folders; without any, pictures are made for the occasion.
    A ratio of 1.8 × Pillow means that ours is 1.8 times as fast.

    With --peers, libvips is kept to one thread and every row has its target; the
    first JPEG of about 12 megapixels among INPUTS is the photo.
    """
    known = _PEER_GROUPS if peers else _GROUPS
    for group in only:
        if group not in known:
            raise click.UsageError(
                f"Expected one of {', '.join(known)} {'with' if peers else 'without'} "
                f"--peers but received {group}"
            )
    if peers and not hasattr(pyvips, "concurrency_set"):
        raise click.UsageError("--peers needs pyvips 3.2: pip install -U pyvips")
    say = functools.partial(_say, quiet=quiet)
    refused: _Refused = []
    rows = []
    facts = what_on_what()
    with (
        tempfile.TemporaryDirectory(prefix="qwenvl_prep-") as name,
        vips_on_one_thread() if peers else contextlib.nullcontext(),
    ):
        folder = Path(name)
        if peers:
            facts |= {"libvips_threads": pyvips.concurrency_get(), **rival_versions()}
        if as_json:
            show.print_json(facts)
        make = _peer_cases if peers else _cases
        for case in make(only or known, inputs, folder, refused, quick=quick, say=say):
            say(f"{case.group}: {case.subject}")
            for row in measure(
                case,
                rounds=rounds or (_QUICK_ROUNDS if quick else _ROUNDS),
                least=0 if quick else _LEAST_SECONDS,
            ):
                rows.append(row)
                if as_json:
                    show.print_json(row)
    missing = _missing() if peers else []
    if as_json:
        for record in missing:
            show.print_json(record)
        for name, error in refused:
            show.print_json(show.error_record(name, error))
    else:
        _print_table(facts, rows)
        for record in missing:
            show.console().print(record["message"], markup=False, soft_wrap=True)
        show.refusals(refused)
    is_right = all(row["correct"] for row in rows)
    return 0 if is_right and not refused else _REFUSED


def _missing() -> list[dict[str, str]]:
    """Tell which peers were not measured, and what to install."""
    return [
        {
            "missing": name,
            "message": f"{name} was not measured: pip install {package}, "
            f"which is in the extra 'bench'",
        }
        for name, package in missing_rivals().items()
    ]


def _cases(
    groups: Sequence[str],
    inputs: Sequence[str],
    folder: Path,
    refused: _Refused,
    *,
    quick: bool,
    say: Callable[[str], None],
) -> Iterator[Comparison]:
    """Give the comparisons one by one, so that one set of pixels is held at a time."""
    if "count-sizes" in groups:
        yield from count_sizes(quick=quick)
    if "resize" in groups:
        yield from resize_cases(quick=quick)
    if not {"count-files", "prepare", "prepare-many"}.intersection(groups):
        return
    files = _pictures(inputs, folder, refused, quick=quick, say=say)
    pictures = list(_accepted(files, refused))
    if not pictures:
        return
    if "count-files" in groups:
        yield from count_files(pictures)
    if "prepare" in groups:
        yield from prepare_cases(pictures)
    if "prepare-many" in groups:
        yield from prepare_many_cases(pictures)


def _peer_cases(
    groups: Sequence[str],
    inputs: Sequence[str],
    folder: Path,
    refused: _Refused,
    *,
    quick: bool,
    say: Callable[[str], None],
) -> Iterator[Comparison | Measurement]:
    """Give what is measured beside the real peers: one photo, and counting."""
    pictures: Iterable[Picture] = ()
    if set(groups) - {"exact", "kept"}:
        files = _pictures(inputs, folder, refused, quick=quick, say=say)
        pictures = _accepted(files, refused)
    if "counting" in groups:
        pictures = list(pictures)
    if set(groups) - {"exact", "kept", "counting"}:
        photo = _photo(pictures, folder, quick=quick)
        if "kernel" in groups:
            yield kernel_case(photo)
        if "photo" in groups:
            yield photo_case(photo)
            yield fast_case(photo)
        if "prepare-many" in groups:
            yield from two_threads_cases(photo, folder, quick=quick)
        if "large" in groups:
            try:
                yield from large_cases(photo, folder, quick=quick)
            except QwenVLPrepError as exc:
                refused.append(("the large picture", exc))
    if "kept" in groups:
        yield kept_case(folder)
    if "exact" in groups:
        yield exact_case(quick=quick)
    if "counting" in groups:
        yield from counting_cases(list(pictures), quick=quick)


def _pictures(
    inputs: Sequence[str],
    folder: Path,
    refused: _Refused,
    *,
    quick: bool,
    say: Callable[[str], None],
) -> Iterator[tuple[str, Path]]:
    if inputs:
        return _files(inputs, refused)
    say("making pictures")
    return ((path.name, path) for path in make_pictures(folder, quick=quick))


def _photo(pictures: Iterable[Picture], folder: Path, *, quick: bool) -> Picture:
    """Find a photo as a phone makes it, that everybody opens the same way."""
    least, most = _PHOTO_AREA
    for picture in pictures:
        info = picture.plan.info
        is_plain = info.format == "JPEG" and info.channels == 3
        is_upright = info.orientation in {None, 1}
        is_large = quick or least <= picture.megapixels <= most
        if is_plain and is_upright and is_large and picture.plan.is_resized:
            # Under a name of ours: libvips takes what stands in brackets for options.
            path = folder / "photo.jpg"
            shutil.copyfile(picture.path, path)
            return replace(picture, path=path)
    raise click.UsageError(
        f"Expected a JPEG of {least} to {most} megapixels, in colour and upright, "
        f"among the inputs of --peers but there is none"
    )


def _files(words: Sequence[str], refused: _Refused) -> Iterator[tuple[str, Path]]:
    sources = expand(words).sources
    if not sources:
        raise click.UsageError("There is no picture among the inputs.")
    for name, source in sources:
        if isinstance(source, QwenVLPrepError):
            refused.append((name, source))
        elif source.path is None:
            raise click.UsageError("Give files and folders: reading is measured too.")
        else:
            yield name, source.path


def _accepted(
    files: Iterable[tuple[str, Path]], refused: _Refused
) -> Iterator[Picture]:
    """Prepare each file once, both ways; what either refuses is no race."""
    for name, path in files:
        try:
            image = qp.prepare(path)
            _load_with_pillow(path, image.plan.info.format)
        except QwenVLPrepError as exc:
            refused.append((name, exc))
        else:
            yield Picture(name, path, image.plan)


def _load_with_pillow(path: Path, name: str) -> None:
    try:
        with Image.open(path) as image:
            image.load()
    # Pillow's plugins raise whatever they run into.
    except Exception as exc:
        raise UnsupportedFormatError(
            f"Expected a picture that Pillow reads too but it gives up on this {name} "
            f"({exc}); there is nothing to compare with",
            format=name,
        ) from exc


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        show.console(stderr=True).print(text, markup=False, soft_wrap=True)


def _print_table(header: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    out = show.console()
    facts = ", ".join(f"{key} {value}" for key, value in header.items())
    out.print(facts, markup=False, soft_wrap=True)
    has_targets = any(row["target"] is not None for row in rows)
    made = show.table(
        *("what / beside whom", "ours/s", "peer/s", "× peer"),
        *(["wanted"] if has_targets else []),
        right=("× peer", "wanted"),
    )
    for row in rows:
        wrong = "" if row["correct"] else f"\n[red]WRONG[/]: {escape(row['problem'])}"
        told = _told_cells(row) if "value" in row else _race_cells(row)
        made.add_row(
            f"{row['bench']}: {escape(row['input'])}{told[0]}{wrong}",
            *told[1:],
            *([_wanted_cell(row)] if has_targets else []),
        )
    out.print(made)


def _race_cells(row: dict[str, Any]) -> tuple[str, ...]:
    ours, ratio = row["ours_per_second"], row["ratio"]
    area = row["megapixels"]
    rate = "" if area is None else f"\n{number_text(ours['median'] * area)} MP/s"
    return (
        f"\n  [dim]beside {escape(row['peer'])}[/]",
        spread_text(ours).replace(" ", "\n", 1) + rate,
        spread_text(row["peer_per_second"]).replace(" ", "\n", 1),
        f"{ratio['median']:.2f}\n{ratio['min']:.2f}..{ratio['max']:.2f}",
    )


def _told_cells(row: dict[str, Any]) -> tuple[str, ...]:
    return "", told_text(row), "", ""


def _wanted_cell(row: dict[str, Any]) -> str:
    if row["target"] is None:
        return ""
    colour, word = ("green", "reached") if row["reached"] else ("red", "not yet")
    return f"{target_text(row)}\n[{colour}]{word}[/]"


def target_text(row: dict[str, Any]) -> str:
    """
    Give what a row has to reach: a ratio at least, or a value at most.

    Examples
    --------
    >>> target_text({"ratio": {}, "target": 2.6, "unit": "images"})
    '≥ 2.6'
    >>> target_text({"value": {}, "target": 220, "unit": "MB"})
    '≤ 220 MB'
    """
    if "value" in row:
        return f"≤ {row['target']:g} {row['unit']}"
    return f"≥ {row['target']:g}"


def spread_text(spread: dict[str, float]) -> str:
    """
    Give a median with its spread as a person reads it.

    Examples
    --------
    >>> spread_text({"median": 9.124, "min": 8.8, "max": 12_340.0})
    '9.12 (8.80..12.3k)'
    """
    lowest, highest = number_text(spread["min"]), number_text(spread["max"])
    return f"{number_text(spread['median'])} ({lowest}..{highest})"


def told_text(row: dict[str, Any]) -> str:
    """
    Give what was measured that is not per second, so that its unit stands beside it.

    Examples
    --------
    >>> told_text({"value": {"median": 1_203.4}, "unit": "MB"})
    '1,203 MB'
    >>> told_text({"value": {"median": 0.034}, "unit": "× NumPy's import"})
    "0.03 × NumPy's import"
    """
    value = row["value"]["median"]
    text = f"{value:,.0f}" if value == 0 or abs(value) >= 10 else f"{value:.2f}"
    return f"{text} {row['unit']}"


def number_text(value: float) -> str:
    """
    Give a number with three digits, which is more than its spread allows anyway.

    Examples
    --------
    >>> number_text(0.5), number_text(62.04), number_text(184_300_000)
    ('0.50', '62.0', '184M')
    """
    unit = ""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            value, unit = value / limit, letter
            break
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}{unit}"


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the benchmark.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 fine, 1 an answer was wrong or an input refused, 2 usage.
    """
    arguments = None if argv is None else list(argv)
    try:
        with warnings.catch_warnings():
            # What decoders warn about, the refusals say.
            warnings.simplefilter("ignore")
            return int(
                _bench.main(arguments, "qwenvl-prep bench", standalone_mode=False)
            )
    except click.ClickException as exc:
        exc.show()
        return _USAGE
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader of our output has left; nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _REFUSED
    except QwenVLPrepError as exc:
        _say(f"Error: {exc}", quiet=False)
        return _REFUSED


if __name__ == "__main__":
    raise SystemExit(main())
