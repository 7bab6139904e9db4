"""The native functions give back what they take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "isolated" / "check_leaks.py"


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)
def test_memory_stays_flat():
    """Prove in a fresh process that 20,000 calls of each kind leave memory flat."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if "ASAN_OPTIONS" in environment:  # which holds freed memory back, to watch it
        environment["ASAN_OPTIONS"] += ":quarantine_size_mb=0"
        environment["ASAN_OPTIONS"] += ":thread_local_quarantine_size_kb=0"
    finished = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) <= 1_024
