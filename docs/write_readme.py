"""Write the output of the demo between the markers of README.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
# Everything between the markers belongs to this script.
MARKED = re.compile(r"(<!-- demo:start -->\n).*?(<!-- demo:end -->)", re.DOTALL)
ARGUMENTS = ("request", "examples", "--text", "What do these pictures show?")


def demo_output() -> str:
    """Run the demo as ``make demo`` does, at 80 columns, and give what it says."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(  # noqa: S603 - our own program
            [
                *(sys.executable, "-m", "qwenvl_prep", *ARGUMENTS),
                *("--output", str(Path(folder, "request.json"))),
            ],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    lines = [line.rstrip() for line in run.stderr.splitlines()]
    # The last line names the file that was written, which here is a temporary one.
    return "\n".join(lines[:-1])


def main() -> None:
    """Replace the marked part of README.md."""
    text = README.read_text("utf-8")
    block = f"```text\n{demo_output()}\n```\n"
    README.write_text(MARKED.sub(lambda m: m[1] + block + m[2], text), "utf-8")


if __name__ == "__main__":
    main()
