"""What was measured on what: the facts that stand above every table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

import qwenvl_prep as qp
from qwenvl_prep._native import resample as _native
from qwenvl_prep.prepare import usable_cores
from qwenvl_prep.profiles import DEFAULT_MODEL

__all__ = ["header"]

# What compilers write into the objects that they make.
_CLANG = re.compile(rb"clang version ([\d.]+)")
_GCC = re.compile(rb"GCC: \([^)]*\) ([\d.]+)")


def header() -> dict[str, Any]:
    """
    Tell what is measured on what.

    Returns
    -------
    dict
        Facts in the order in which they are shown; what is not known is left out.
    """
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "load": round(os.getloadavg()[0], 2),
        "compiler": _compiler(Path(_native.__file__).read_bytes()),
        "backend": qp.backend(),
        "python": platform.python_version(),
        "qwenvl_prep": qp.__version__,
        "pillow": importlib.metadata.version("pillow"),
        "numpy": np.__version__,
        "pyvips": importlib.metadata.version("pyvips"),
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        "model": DEFAULT_MODEL,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


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


def _compiler(library: bytes) -> str | None:
    r"""
    Read out of a built library who built it, unless that was stripped.

    Examples
    --------
    >>> _compiler(b"\0GCC: (Debian 12.2.0-14) 12.2.0\0")
    'gcc 12.2.0'
    """
    # Clang's libraries name gcc too: its start files are linked in.
    for name, pattern in (("clang", _CLANG), ("gcc", _GCC)):
        found = pattern.search(library)
        if found is not None:
            return f"{name} {found[1].decode()}"
    return None
