"""The sanitized build is one: each module is instrumented, and an overrun is told."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwenvl_prep import _native

SCRIPT = Path(__file__).parents[1] / "isolated" / "overread.py"
MODULES = [module.name for module in pkgutil.iter_modules(_native.__path__)]

# Set by the script that makes that build, so these cannot be left out there.
pytestmark = pytest.mark.skipif(
    "QVP_SANITIZE" not in os.environ, reason="make test-asan builds and runs that"
)


@pytest.mark.parametrize("name", MODULES)
def test_each_module_is_instrumented(name):
    """Prove that reads, writes and signed sums are checked in the loaded file."""
    module = importlib.import_module(f"{_native.__name__}.{name}")
    content = Path(module.__file__).read_bytes()
    assert b"__asan_report_load" in content
    assert b"__asan_report_store" in content
    # Not there under -fwrapv, with which CPython is compiled.
    assert b"__ubsan_handle_add_overflow_abort" in content
    if name in ("caps", "content", "geometry"):
        assert b"__ubsan_handle_float_cast_overflow_abort" in content


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("caps", "AddressSanitizer: heap-buffer-overflow"),
        ("content", "AddressSanitizer: heap-buffer-overflow"),
        ("content_colours", "AddressSanitizer: heap-buffer-overflow"),
        ("content_sample", "AddressSanitizer: heap-buffer-overflow"),
        ("flatten", "AddressSanitizer: heap-buffer-overflow"),
        ("geometry", "AddressSanitizer: heap-buffer-overflow"),
        ("resample", "AddressSanitizer: heap-buffer-overflow"),
        ("scan", "AddressSanitizer: heap-buffer-overflow"),
        ("shaper", "AddressSanitizer: heap-buffer-overflow"),
        ("alignment", "runtime error: load of misaligned address"),
    ],
)
def test_a_broken_rule_is_reported(task, expected):
    """Prove that one byte read too far, in each module, ends in a report."""
    # A vector kernel may end a row with a masked load, which GCC does not instrument.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "QWENVL_PREP_BACKEND": "scalar",
    }
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), task],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    assert finished.returncode < 0
    assert expected in finished.stderr
    assert "_native/" in finished.stderr
