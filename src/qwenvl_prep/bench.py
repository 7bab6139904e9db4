"""
How fast this is, measured beside what one would write without it.

``python -m qwenvl_prep.bench`` counts and prepares pictures in turns with Pillow,
NumPy and plain Python.  Every answer is checked before it is timed.  Exit status 0:
fine; 1: an answer was wrong or an input was refused; 2: wrong usage.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import math
import os
import platform
import sys
import tempfile
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pyvips
from PIL import Image, ImageOps
from rich.markup import escape

import qwenvl_prep as qp
from qwenvl_prep import cli_tables as show
from qwenvl_prep.bench_pictures import make_pictures, photo_pixels
from qwenvl_prep.cli_inputs import expand
from qwenvl_prep.decode import decode
from qwenvl_prep.errors import QwenVLPrepError, UnsupportedFormatError
from qwenvl_prep.profiles import DEFAULT_MODEL, get_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from qwenvl_prep.plan import Encoding, ImagePlan
    from qwenvl_prep.prepare import PreparedImage

__all__ = [
    "count_in_numpy",
    "count_in_python",
    "main",
    "number_text",
    "prepare_with_pillow",
    "spread_text",
]

_REFUSED, _USAGE = 1, 2

_GROUPS = ("count-sizes", "count-files", "resize", "prepare", "prepare-many")

_ROUNDS, _QUICK_ROUNDS = 9, 2

# A call that is over sooner is repeated until one turn takes this long; a single
# call of some microseconds would measure the clock.
_LEAST_SECONDS = 0.02

_MODEL = get_model(DEFAULT_MODEL)

# Read once, so that the plain loops pay for no attribute either.
_FACTOR, _MARKERS, _MAX_RATIO = _MODEL.factor, _MODEL.marker_tokens, _MODEL.max_ratio
_MIN_PIXELS, _MAX_PIXELS = _MODEL.min_pixels, _MODEL.max_pixels

_Refused = list[tuple[str, QwenVLPrepError]]


# ---------------------------------------------------------------- the other ways


def count_in_python(height: int, width: int) -> int:
    """
    Count billed tokens as the provider's sample code does, for the default model.

    Parameters
    ----------
    height, width : int
        Size of the upright image in pixels, at least 1.

    Returns
    -------
    int
        Vision tokens and markers; 0 where the ratio is above 200:1.

    Examples
    --------
    >>> count_in_python(1280, 1280)
    1227
    """
    if max(height, width) > _MAX_RATIO * min(height, width):
        return 0
    rows = round(height / _FACTOR) * _FACTOR
    columns = round(width / _FACTOR) * _FACTOR
    if rows * columns > _MAX_PIXELS:
        beta = math.sqrt(height * width / _MAX_PIXELS)
        rows = math.floor(height / beta / _FACTOR) * _FACTOR
        columns = math.floor(width / beta / _FACTOR) * _FACTOR
    elif rows * columns < _MIN_PIXELS:
        beta = math.sqrt(_MIN_PIXELS / (height * width))
        rows = math.ceil(height * beta / _FACTOR) * _FACTOR
        columns = math.ceil(width * beta / _FACTOR) * _FACTOR
    return rows * columns // _FACTOR**2 + _MARKERS


def count_in_numpy(
    heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """
    Count billed tokens of many images with whole-array arithmetic.

    Parameters
    ----------
    heights, widths : ndarray of int64, shape (n,)
        Sizes of the upright images in pixels, at least 1.

    Returns
    -------
    ndarray of int64, shape (n,)
        As :func:`count_in_python`, one by one.
    """
    rows = np.rint(heights / _FACTOR)
    columns = np.rint(widths / _FACTOR)
    squares = rows * columns
    large = squares > _MAX_PIXELS // _FACTOR**2
    small = squares < _MIN_PIXELS // _FACTOR**2
    high, wide = heights[large], widths[large]
    beta = np.sqrt(high * wide / _MAX_PIXELS)
    squares[large] = np.floor(high / beta / _FACTOR) * np.floor(wide / beta / _FACTOR)
    high, wide = heights[small], widths[small]
    beta = np.sqrt(_MIN_PIXELS / (high * wide))
    squares[small] = np.ceil(high * beta / _FACTOR) * np.ceil(wide * beta / _FACTOR)
    longest, shortest = np.maximum(heights, widths), np.minimum(heights, widths)
    return np.where(
        longest > _MAX_RATIO * shortest, 0, squares.astype(np.int64) + _MARKERS
    )


def prepare_with_pillow(path: Path, height: int, width: int, label: str) -> str:
    """
    Go from a file to a data URI with Pillow and the standard library alone.

    Parameters
    ----------
    path : Path
        The file.
    height, width : int
        Size to send, in pixels.
    label : str
        How to encode: ``"PNG"`` or, for example, ``"JPEG 90 4:2:0"``.

    Returns
    -------
    str
        The data URI.
    """
    picture = _picture_of_pillow(path, height, width)
    file = io.BytesIO()
    name, *settings = label.split()
    if settings:
        quality, chroma = settings
        picture.save(file, name, quality=int(quality), subsampling=chroma)
    else:
        picture.save(file, name)
    body = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{name.lower()};base64,{body}"


def _picture_of_pillow(path: Path, height: int, width: int) -> Image.Image:
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I;16"):
        # convert("RGB") would clip everything above 255 to white.
        high_bytes = (np.asarray(picture) >> 8).astype(np.uint8)
        picture = Image.fromarray(high_bytes)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    picture = picture.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return picture


# ---------------------------------------------------------------- what is compared


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to do it: who, the call, and how many items a call works off."""

    name: str
    run: Callable[[], object]
    items: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Our way beside others on one input; *problem* says what ours got wrong."""

    group: str
    subject: str
    unit: str
    ours: _Way
    peers: tuple[_Way, ...]
    problem: str
    megapixels: float | None = None


@dataclass(frozen=True, slots=True)
class _Picture:
    """A file that was prepared once without refusal, by us and by Pillow."""

    name: str
    path: Path
    plan: ImagePlan

    @property
    def megapixels(self) -> float:
        return self.plan.info.height * self.plan.info.width / 1e6


def _count_sizes(*, quick: bool) -> Iterator[_Comparison]:
    n, n_sample = (20_000, 2_000) if quick else (1_000_000, 20_000)
    rng = np.random.default_rng(1)
    # Evenly spread over orders of magnitude: every branch of the rule is taken.
    heights, widths = np.exp(rng.uniform(0, math.log(12_000), (2, n))).astype(np.int64)
    sample = list(
        zip(heights[:n_sample].tolist(), widths[:n_sample].tolist(), strict=True)
    )
    counts = qp.count_tokens_many(heights, widths)
    by_rule = [count_in_python(height, width) for height, width in sample]
    problem = ""
    if counts[:n_sample].tolist() != by_rule:
        problem = "counts differ from the rule in Python"
    elif not np.array_equal(counts, count_in_numpy(heights, widths)):
        problem = "counts differ from the rule in NumPy"
    yield _Comparison(
        group="count-sizes",
        subject=f"{n:,} random sizes",
        unit="sizes",
        ours=_Way("ours", lambda: qp.count_tokens_many(heights, widths), n),
        peers=(
            _Way("NumPy", lambda: count_in_numpy(heights, widths), n),
            _Way(
                "Python loop",
                lambda: [count_in_python(height, width) for height, width in sample],
                n_sample,
            ),
        ),
        problem=problem,
    )


def _count_files(pictures: Sequence[_Picture]) -> Iterator[_Comparison]:
    paths = [picture.path for picture in pictures]

    def with_pillow() -> list[int]:
        counts = []
        for path in paths:
            with Image.open(path) as image:
                width, height = image.size
            # The rule is symmetric, so the orientation does not matter to the count.
            counts.append(count_in_python(height, width))
        return counts

    def ours() -> list[int]:
        return [qp.count_tokens(path) for path in paths]

    peers = [_Way("Pillow", with_pillow, len(paths))]
    if importlib.util.find_spec("imagesize") is not None:
        imagesize = importlib.import_module("imagesize")

        def with_imagesize() -> list[int]:
            sizes = [imagesize.get(path) for path in paths]
            return [count_in_python(height, width) for width, height in sizes]

        # It raises, or gives (-1, -1), for what it does not read; half an answer is
        # no peer.
        with contextlib.suppress(Exception):
            if with_imagesize() == with_pillow():
                peers.append(_Way("imagesize", with_imagesize, len(paths)))
    is_right = ours() == with_pillow()
    yield _Comparison(
        group="count-files",
        subject=f"{len(paths)} files, from the page cache",
        unit="files",
        ours=_Way("ours", ours, len(paths)),
        peers=tuple(peers),
        problem="" if is_right else "counts differ from the rule on Pillow's sizes",
    )


def _resize(*, quick: bool) -> Iterator[_Comparison]:
    rng = np.random.default_rng(2)
    pixels = photo_pixels(*((900, 1200) if quick else (3024, 4032)), rng=rng)
    height, width = qp.smart_resize(*pixels.shape[:2])
    # Each side gets the pixels where it keeps them anyway.
    picture = Image.fromarray(pixels)

    def with_pillow() -> Image.Image:
        return picture.resize((width, height), Image.Resampling.BICUBIC)

    is_right = np.array_equal(
        qp.resize(pixels, height, width), np.asarray(with_pillow())
    )
    yield _Comparison(
        group="resize",
        subject=f"{picture.height}×{picture.width} → {height}×{width}, pixels only",
        unit="images",
        ours=_Way("ours", lambda: qp.resize(pixels, height, width)),
        peers=(_Way("Pillow", with_pillow),),
        problem="" if is_right else "pixels differ from Pillow's",
        megapixels=picture.height * picture.width / 1e6,
    )


def _prepare(pictures: Sequence[_Picture]) -> Iterator[_Comparison]:
    for picture in pictures:
        yield _prepare_one(picture, "auto")
        # "auto" writes a lossless original twice and keeps the shorter: by choice
        # twice the work.  The second row is the like-for-like one.
        if picture.plan.info.is_lossless and not picture.plan.is_kept:
            yield _prepare_one(picture, "jpeg")


def _prepare_one(picture: _Picture, encoding: Encoding) -> _Comparison:
    path = picture.path
    image = qp.prepare(path, encoding=encoding)
    info = image.plan.info
    # Where we keep the bytes, Pillow's way is still the whole way.
    label = "JPEG 90 4:2:0" if image.plan.is_kept else image.changes[-1]
    peers = [
        _Way(
            "Pillow",
            lambda: prepare_with_pillow(path, image.height, image.width, label),
        )
    ]
    size = f"{picture.name} {info.upright_height}×{info.upright_width}"
    if image.plan.is_kept:
        done = "kept"
        peers.append(_Way("read + base64", lambda: _as_it_is(path, image.media_type)))
    else:
        is_chosen = encoding == "auto" and info.is_lossless
        done = f"→ {image.height}×{image.width} {'auto: ' * is_chosen}{label}"
    return _Comparison(
        group="prepare",
        subject=f"{size} {done}",
        unit="images",
        ours=_Way("ours", lambda: qp.prepare(path, encoding=encoding).data_uri),
        peers=tuple(peers),
        problem=_problem_of(path, image),
        megapixels=picture.megapixels,
    )


def _as_it_is(path: Path, media_type: str) -> str:
    body = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{media_type};base64,{body}"


def _problem_of(path: Path, image: PreparedImage) -> str:
    """Say what is wrong with a prepared image, or nothing."""
    info = image.plan.info
    if image.tokens != count_in_python(info.upright_height, info.upright_width):
        return "tokens differ from the rule in Python"
    if image.plan.is_kept:
        is_right = image.data_uri == _as_it_is(path, image.media_type)
        return "" if is_right else "kept bytes differ from the file's"
    with Image.open(io.BytesIO(image.data)) as sent:
        if sent.size != (image.width, image.height):
            return f"sent as {sent.height}×{sent.width}, planned otherwise"
    # Compared before JPEG, which would hide what it rounds away.
    pixels = decode(path.read_bytes(), info).data
    if image.plan.is_resized:
        pixels = qp.resize(pixels, image.height, image.width)
    of_pillow = np.asarray(_picture_of_pillow(path, image.height, image.width))
    return "" if np.array_equal(pixels, of_pillow) else "pixels differ from Pillow's"


def _prepare_many(pictures: Sequence[_Picture]) -> Iterator[_Comparison]:
    paths = [picture.path for picture in pictures]

    def prepare(workers: int) -> list[str]:
        # As JPEG: writing one PNG beside it would take longer than all the rest.
        results = qp.prepare_many(paths, encoding="jpeg", workers=workers)
        # None was refused when it was prepared alone.
        return [one.data_uri for one in results if not isinstance(one, QwenVLPrepError)]

    one_by_one = [qp.prepare(path, encoding="jpeg").data_uri for path in paths]
    is_right = prepare(2) == one_by_one
    yield _Comparison(
        group="prepare-many",
        subject=f"{len(paths)} pictures as JPEG, 2 workers",
        unit="images",
        ours=_Way("ours", lambda: prepare(2), len(paths)),
        peers=(_Way("1 worker", lambda: prepare(1), len(paths)),),
        problem="" if is_right else "results differ from those of prepare",
        megapixels=sum(picture.megapixels for picture in pictures) / len(paths),
    )


# ---------------------------------------------------------------- measuring


def _measure(comparison: _Comparison, *, rounds: int, least: float) -> Iterator[Any]:
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


def _seconds(way: _Way, repeats: int) -> float:
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
        "cores": _usable_cores(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "qwenvl_prep": qp.__version__,
        "pillow": importlib.metadata.version("pillow"),
        "numpy": np.__version__,
        "pyvips": importlib.metadata.version("pyvips"),
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        "model": _MODEL.name,
    }


def _usable_cores() -> int:
    # A container may be given fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
) -> Iterator[_Comparison]:
    """Give the comparisons one by one, so that one set of pixels is held at a time."""
    if "count-sizes" in groups:
        yield from _count_sizes(quick=quick)
    if "resize" in groups:
        yield from _resize(quick=quick)
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
        yield from _count_files(pictures)
    if "prepare" in groups:
        yield from _prepare(pictures)
    if "prepare-many" in groups:
        yield from _prepare_many(pictures)


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


def _accepted(files: Iterable[tuple[str, Path]], refused: _Refused) -> list[_Picture]:
    """Prepare each file once, both ways; what either refuses is no race."""
    pictures = []
    for name, path in files:
        try:
            image = qp.prepare(path)
            _load_with_pillow(path, image.plan.info.format)
        except QwenVLPrepError as exc:
            refused.append((name, exc))
        else:
            pictures.append(_Picture(name, path, image.plan))
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
    right = ("ours/s", "peer/s", "MP/s", "× peer", "min..max")
    made = show.table(
        "bench", "input", "ours/s", "MP/s", "peer", "peer/s", "× peer", "min..max",
        "answer", right=right,
    )  # fmt: skip
    for row in rows:
        ours, ratio = row["ours_per_second"], row["ratio"]
        area = row["megapixels"]
        made.add_row(
            row["bench"],
            escape(row["input"]),
            spread_text(ours),
            "" if area is None else number_text(ours["median"] * area),
            row["peer"],
            spread_text(row["peer_per_second"]),
            f"{ratio['median']:.2f}",
            f"{ratio['min']:.2f}..{ratio['max']:.2f}",
            "correct" if row["correct"] else f"[red]WRONG[/]: {row['problem']}",
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
