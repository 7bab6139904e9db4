"""
Run the benchmark and write its table into ``docs/benchmarks.md``.

Usage: ``python benches/report.py [arguments of python -m qwenvl_prep.bench]``.
Nothing is written where an answer was wrong or an input was refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl_prep.bench import number_text, spread_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"

COLUMNS = ("bench", "input", "ours/s", "MP/s", "peer", "peer/s", "× peer", "min..max")


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the table between the markers."""
    command = [sys.executable, "-m", "qwenvl_prep.bench", "--json", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        print(run.stdout, end="", file=sys.stderr)
        return run.returncode
    header, *rows = [json.loads(line) for line in run.stdout.splitlines()]
    before, start, rest = PAGE.read_text("utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        print(f"{PAGE.name} has no {START} ... {END}", file=sys.stderr)
        return 1
    made = "\n".join(lines(header, rows))
    PAGE.write_text(f"{before}{START}\n\n{made}\n\n{END}{after}", "utf-8")
    print(f"{len(rows)} rows written to {PAGE.name}", file=sys.stderr)
    return 0


def lines(header: dict[str, Any], rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Give the Markdown, line by line."""
    yield ", ".join(f"{key} {value}" for key, value in header.items())
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---|---|--:|--:|---|--:|--:|--:|"
    for row in rows:
        ours, ratio, area = row["ours_per_second"], row["ratio"], row["megapixels"]
        cells = (
            row["bench"],
            row["input"].replace("|", "\\|"),
            spread_text(ours),
            "" if area is None else number_text(ours["median"] * area),
            row["peer"],
            spread_text(row["peer_per_second"]),
            f"{ratio['median']:.2f}",
            f"{ratio['min']:.2f}..{ratio['max']:.2f}",
        )
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
