"""
Run tests/isolated/native_calls.py under valgrind, on each backend that it knows.

Errors count where one of our modules is on the stack, and where a byte is written out
that nobody set: CPython and NumPy have some of their own, which differ by version.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ISOLATED = Path(__file__).parent / "isolated"
# It ends at the first instruction of AVX-512, which it does not know.
BACKENDS = (
    ("avx2", "scalar") if platform.machine() in {"x86_64", "AMD64"} else ("scalar",)
)
OPTIONS = (
    "--quiet",
    "--xml=yes",
    "--partial-loads-ok=no",  # or a vector that begins inside a block passes
    "--track-origins=yes",
    "--leak-check=full",
    "--show-leak-kinds=definite",
    "--num-callers=20",
)


def is_ours(error: ET.Element) -> bool:
    """Tell whether an error is one of the native code's."""
    if error.findtext("kind") == "SyscallParam":
        return True
    modules = (frame.findtext("obj", "") for frame in error.iter("frame"))
    return any("qwenvl_prep/_native/" in module for module in modules)


def told(error: ET.Element) -> str:
    """Give what is wrong, and where, in one line."""
    what = error.findtext("what") or error.findtext("xwhat/text")
    frames = [frame.findtext("fn", "?") for frame in error.iter("frame")]
    return f"{error.findtext('kind')}: {what}: {' < '.join(frames[:6])}"


def errors_of(backend: str, script: str, *arguments: str) -> list[str]:
    """Run a script under valgrind and give the errors that are ours."""
    environment = {
        **os.environ,
        "QWENVL_PREP_BACKEND": backend,
        "PYTHONMALLOC": "malloc",  # each object a block of its own
        "OPENBLAS_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = ["valgrind", *OPTIONS, f"--xml-file={report}", sys.executable]
        finished = subprocess.run(
            [*command, str(ISOLATED / script), *arguments],
            env=environment,
            check=False,
            timeout=600,
        )
        errors = [told(one) for one in ET.parse(report).iter("error") if is_ours(one)]
    if finished.returncode:
        errors.append(f"{script} ended with {finished.returncode}")
    return errors


def main() -> None:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: apt-get install valgrind")
    tasks = ("caps", "content", "content_colours", "content_sample", "flatten")
    for module in (*tasks, "geometry", "resample", "scan", "shaper"):
        found = errors_of("scalar", "overread.py", module)
        if not any(line.startswith("InvalidRead") for line in found):
            sys.exit(f"one byte read beyond a buffer in {module} was not reported")
    is_clean = True
    for backend in BACKENDS:
        found = errors_of(backend, "native_calls.py")
        lines = [f"{backend}: {len(found)} errors", *found]
        sys.stdout.write("\n  ".join(lines) + "\n")
        is_clean = is_clean and not found
    sys.exit(not is_clean)


if __name__ == "__main__":
    main()
