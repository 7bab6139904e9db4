"""
Run the benchmark and write its tables into ``docs/benchmarks.md`` and ``README.md``.

Usage: ``python benches/report.py [arguments of python -m qwenvl_prep.bench]``.
It runs twice, with ``--peers`` and without.  Nothing is written where an answer was
wrong or an input was refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl_prep.bench import number_text, spread_text, target_text, told_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
PAGE, README = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"

COLUMNS = ("bench", "input", "ours/s", "MP/s", "peer", "peer/s", "× peer", "min..max")
TARGET_COLUMNS = ("wanted", "reached", "bytes that differ")
SHORT_COLUMNS = ("measured", "beside", "× peer", "wanted", "reached")


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the tables between the markers."""
    runs = []
    for more in (["--peers"], []):
        command = [sys.executable, "-m", "qwenvl_prep.bench", "--json", *more]
        run = subprocess.run(
            [*command, *arguments], stdout=subprocess.PIPE, text=True, check=False
        )
        if run.returncode != 0:
            print(run.stdout, end="", file=sys.stderr)
            return run.returncode
        runs.append([json.loads(line) for line in run.stdout.splitlines()])
    (peers_header, *peers), (header, *rows) = runs
    missing = [row for row in peers if "missing" in row]
    peers = [row for row in peers if "missing" not in row]
    long = [
        "### Beside the fastest libraries",
        "",
        *facts(peers_header),
        *table(peers),
        *([""] * bool(missing)),
        *(f"- {row['message']}" for row in missing),
        "",
        "### Beside what one would write",
        "",
        *facts(header),
        *table(rows),
    ]
    if not (put(PAGE, long) and put(README, list(short_table(peers)))):
        return 1
    print(f"{len(peers) + len(rows)} rows written to {PAGE.name}", file=sys.stderr)
    return 0


def put(page: Path, lines: Iterable[str]) -> bool:
    """Write lines between the markers of a page, if it has them."""
    before, start, rest = page.read_text("utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        print(f"{page.name} has no {START} ... {END}", file=sys.stderr)
        return False
    made = "\n".join(lines)
    page.write_text(f"{before}{START}\n\n{made}\n\n{END}{after}", "utf-8")
    return True


def facts(header: dict[str, Any]) -> Iterable[str]:
    """Give what was measured on what, in one line of Markdown."""
    yield ", ".join(f"{key} {value}" for key, value in header.items())
    yield ""


def table(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Give all rows as Markdown, line by line; targets only where there are any."""
    has_targets = any(row["target"] is not None for row in rows)
    yield line([*COLUMNS, *TARGET_COLUMNS * has_targets])
    yield "|---|---|--:|--:|---|--:|--:|--:|" + "--:|---|---|" * has_targets
    for row in rows:
        cells = [row["bench"], row["input"], *(told(row) or race(row))]
        if has_targets:
            cells += [*wanted(row), difference(row)]
        yield line(cells)


def short_table(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Give the rows that have a target, in a form that fits a README."""
    yield line(SHORT_COLUMNS)
    yield "|---|---|--:|--:|---|"
    for row in rows:
        if row["target"] is None:
            continue
        ratio = row.get("ratio")
        value = told(row)[0] if ratio is None else f"{ratio['median']:.2f}"
        yield line([row["input"], row.get("peer", ""), value, *wanted(row)])


def race(row: dict[str, Any]) -> list[str]:
    """Give the cells of a row that is about time."""
    ours, ratio, area = row["ours_per_second"], row["ratio"], row["megapixels"]
    return [
        spread_text(ours),
        "" if area is None else number_text(ours["median"] * area),
        row["peer"],
        spread_text(row["peer_per_second"]),
        f"{ratio['median']:.2f}",
        f"{ratio['min']:.2f}..{ratio['max']:.2f}",
    ]


def told(row: dict[str, Any]) -> list[str]:
    """Give the cells of a row that is about anything else, or nothing."""
    if "value" not in row:
        return []
    return [told_text(row), "", "", "", "", ""]


def wanted(row: dict[str, Any]) -> list[str]:
    """Give the target and whether it is reached."""
    if row["target"] is None:
        return ["", ""]
    return [target_text(row), "yes" if row["reached"] else "not yet"]


def difference(row: dict[str, Any]) -> str:
    """Tell how far the peer's pixels are from ours."""
    differs = row.get("differs")
    if differs is None:
        return ""
    return f"{differs['percent']:g} %, by {differs['most']:g} at most"


def line(cells: Iterable[str]) -> str:
    """Give one row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
