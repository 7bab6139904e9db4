"""
Prepare one large picture and hold the process's own peak of memory.

Run in a fresh process, with the path of the picture; ends with an error where the
peak is above the bound.  It is that of the whole process, from the interpreter on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import qwenvl_prep as qp

# Interpreter and libraries take some 45 MiB of it.
ALLOWED_KIB = 128 * 1_024


def peak_kib() -> int:
    """Give the most memory that this process has held, in KiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("no VmHWM in /proc/self/status")


def main() -> None:
    """Prepare, and look at the peak."""
    prepared = qp.prepare(sys.argv[1])
    info = prepared.plan.info
    peak = peak_kib()
    sys.stdout.write(f"{peak}\n")
    whole = info.height * info.width * 3 // 1_024
    if whole < 2 * ALLOWED_KIB:
        sys.exit(f"the picture would take {whole} KiB: too little to prove anything")
    if peak > ALLOWED_KIB:
        sys.exit(f"the peak was {peak} KiB")


if __name__ == "__main__":
    main()
