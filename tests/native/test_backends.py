"""Which native kernels run, and who may choose."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import qwenvl_prep as qp
from qwenvl_prep._native import resample as native
from qwenvl_prep.errors import BackendError


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process whose environment names kernels."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "QWENVL_PREP_BACKEND": name,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )


def test_scalar_is_always_there_and_last():
    """Prove that every CPU has kernels, and the plain ones are its last choice."""
    assert native.backends()[-1] == "scalar"
    assert len(set(native.backends())) == len(native.backends())


def test_the_fastest_is_chosen():
    """Prove that without a word in the environment the first of the list runs."""
    ran = run("", "-c", "import qwenvl_prep as qp; print(qp.backend())")
    assert ran.stdout.strip() == native.backends()[0]


@pytest.mark.parametrize("name", native.backends())
def test_the_environment_chooses(name):
    """Prove that the variable takes effect, also where resize is the first call."""
    code = (
        "import numpy as np, qwenvl_prep as qp\n"
        "from qwenvl_prep._native import resample\n"
        "qp.resize(np.zeros((4, 4), np.uint8), 2, 2)\n"
        "print(resample.backend(), qp.backend())"
    )
    assert run(name, "-c", code).stdout.split() == [name, name]


@pytest.mark.parametrize("name", ["sse9", "AVX2", "scalar ", "ſcalar"])
def test_unknown_kernels_are_refused_by_name(name):
    """Prove that a wrong word is an error of ours that lists what there is."""
    code = (
        "import qwenvl_prep as qp\n"
        "try:\n"
        "    qp.backend()\n"
        "except qp.errors.BackendError as exc:\n"
        "    print(exc)"
    )
    said = run(name, "-c", code).stdout
    assert "scalar" in said
    assert "QWENVL_PREP_BACKEND" in said


def test_the_command_line_shows_no_traceback_for_it(tmp_path):
    """Prove that a wrong word ends the command with one line and status 1."""
    from PIL import Image

    path = tmp_path / "big.png"
    Image.new("RGB", (1600, 1600)).save(path)
    ran = run("sse9", "-m", "qwenvl_prep", "prepare", str(path))
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "sse9" in ran.stdout + ran.stderr


def test_use_backend_refuses_what_the_cpu_lacks():
    """Prove that kernels cannot be named into being; those in use stay."""
    before = qp.backend()
    with pytest.raises(ValueError, match="Expected one of"):
        native.use_backend("altivec")
    assert qp.backend() == before
    assert issubclass(BackendError, qp.QwenVLPrepError)
