"""
How fast this is, measured beside what one would write without it.

``python -m qwenvl_prep.bench`` counts and prepares pictures in turns with Pillow,
NumPy and plain Python.  Every answer is checked before it is timed.  Exit status 0:
fine; 1: an answer was wrong or an input was refused; 2: wrong usage.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import math
import os
import platform
import sys
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pyvips
from PIL import Image
from rich.markup import escape

import qwenvl_prep as qp
from qwenvl_prep import cli_tables as show
from qwenvl_prep.bench_cases import (
    Comparison,
    Picture,
    Way,
    count_files,
    count_sizes,
    prepare_cases,
    prepare_many_cases,
    resize_cases,
)
from qwenvl_prep.bench_pictures import make_pictures
from qwenvl_prep.cli_inputs import expand
from qwenvl_prep.errors import QwenVLPrepError, UnsupportedFormatError
from qwenvl_prep.prepare import usable_cores
from qwenvl_prep.profiles import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


__all__ = ["main", "number_text", "spread_text"]

_REFUSED, _USAGE = 1, 2

_GROUPS = ("count-sizes", "count-files", "resize", "prepare", "prepare-many")

_ROUNDS, _QUICK_ROUNDS = 9, 2

# A call that is over sooner is repeated until one turn takes this long; a single
# call of some microseconds would measure the clock.
_LEAST_SECONDS = 0.02

_Refused = list[tuple[str, QwenVLPrepError]]


# ---------------------------------------------------------------- measuring


def _measure(comparison: Comparison, *, rounds: int, least: float) -> Iterator[Any]:
    """Time all ways in turns, A B A B, and give one record for each peer."""
    ways = (comparison.ours, *comparison.peers)
    # The warm-up also tells how often a short call is repeated within one turn.
    repeats = [max(1, math.ceil(least / _seconds(way, 1))) for way in ways]
    rates: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, repeat, known in zip(ways, repeats, rates, strict=True):
            known.append(repeat * way.items / _seconds(way, repeat))
    ours, *others = rates
    for peer, theirs in zip(comparison.peers, others, strict=True):
        yield {
            "bench": comparison.group,
            "input": comparison.subject,
            "unit": comparison.unit,
            "megapixels": comparison.megapixels,
            "peer": peer.name,
            "rounds": rounds,
            "ours_per_second": _spread(ours),
            "peer_per_second": _spread(theirs),
            # Pair by pair: what slows the machine down for a while slows both.
            "ratio": _spread([a / b for a, b in zip(ours, theirs, strict=True)]),
            "correct": not comparison.problem,
            "problem": comparison.problem,
        }


def _seconds(way: Way, repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        way.run()
    # Never 0, whatever the clock's resolution.
    return max(perf_counter() - start, 1e-9)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def _header() -> dict[str, Any]:
    """Tell what was measured on what."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "qwenvl_prep": qp.__version__,
        "pillow": importlib.metadata.version("pillow"),
        "numpy": np.__version__,
        "pyvips": importlib.metadata.version("pyvips"),
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        "model": DEFAULT_MODEL,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


# ---------------------------------------------------------------- the command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("inputs", nargs=-1)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help=f"Turns each; {_ROUNDS}, with --quick {_QUICK_ROUNDS}.",
)
@click.option("--quick", is_flag=True, help="A smoke run on small pictures.")
@click.option("--only", multiple=True, type=click.Choice(_GROUPS), help="Just these.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def _bench(
    inputs: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    only: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Measure throughput beside Pillow, NumPy and plain Python.

    INPUTS are files and folders; without any, pictures are made for the occasion.
    A ratio of 1.8 × Pillow means that ours is 1.8 times as fast.
    """
    say = functools.partial(_say, quiet=quiet)
    refused: _Refused = []
    rows = []
    header = _header()
    if as_json:
        show.print_json(header)
    with tempfile.TemporaryDirectory(prefix="qwenvl_prep-") as folder:
        comparisons = _comparisons(
            only or _GROUPS, inputs, Path(folder), refused, quick=quick, say=say
        )
        for comparison in comparisons:
            say(f"{comparison.group}: {comparison.subject}")
            for row in _measure(
                comparison,
                rounds=rounds or (_QUICK_ROUNDS if quick else _ROUNDS),
                least=0 if quick else _LEAST_SECONDS,
            ):
                rows.append(row)
                if as_json:
                    show.print_json(row)
    if as_json:
        for name, error in refused:
            show.print_json(show.error_record(name, error))
    else:
        _print_table(header, rows)
        show.refusals(refused)
    is_right = all(row["correct"] for row in rows)
    return 0 if is_right and not refused else _REFUSED


def _comparisons(
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
    if inputs:
        files = _files(inputs, refused)
    else:
        say("making pictures")
        files = ((path.name, path) for path in make_pictures(folder, quick=quick))
    pictures = _accepted(files, refused)
    if not pictures:
        return
    if "count-files" in groups:
        yield from count_files(pictures)
    if "prepare" in groups:
        yield from prepare_cases(pictures)
    if "prepare-many" in groups:
        yield from prepare_many_cases(pictures)


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


def _accepted(files: Iterable[tuple[str, Path]], refused: _Refused) -> list[Picture]:
    """Prepare each file once, both ways; what either refuses is no race."""
    pictures = []
    for name, path in files:
        try:
            image = qp.prepare(path)
            _load_with_pillow(path, image.plan.info.format)
        except QwenVLPrepError as exc:
            refused.append((name, exc))
        else:
            pictures.append(Picture(name, path, image.plan))
    return pictures


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


def _print_table(header: dict[str, Any], rows: Iterable[dict[str, Any]]) -> None:
    out = show.console()
    facts = ", ".join(f"{key} {value}" for key, value in header.items())
    out.print(facts, markup=False, soft_wrap=True)
    made = show.table(
        "what / beside whom", "ours/s", "peer/s", "× peer", right=("× peer",)
    )
    for row in rows:
        ours, ratio = row["ours_per_second"], row["ratio"]
        area = row["megapixels"]
        rate = "" if area is None else f"\n{number_text(ours['median'] * area)} MP/s"
        wrong = "" if row["correct"] else f"\n[red]WRONG[/]: {escape(row['problem'])}"
        made.add_row(
            f"{row['bench']}: {escape(row['input'])}\n"
            f"  [dim]beside {escape(row['peer'])}[/]{wrong}",
            spread_text(ours).replace(" ", "\n", 1) + rate,
            spread_text(row["peer_per_second"]).replace(" ", "\n", 1),
            f"{ratio['median']:.2f}\n{ratio['min']:.2f}..{ratio['max']:.2f}",
        )
    out.print(made)


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
