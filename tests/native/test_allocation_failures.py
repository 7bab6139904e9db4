"""Every allocation of the native code fails in turn: MemoryError, and nothing lost."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep import _native
from qwenvl_prep._native import resample as native
from qwenvl_prep.resize import BACKEND_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).with_name("failing_malloc.c")
SHAPES = {
    "width": ((9, 70, 3), (9, 31)),
    "height": ((70, 9), (31, 9)),
    "width first": ((40, 90, 4), (30, 20)),
    "height first": ((90, 40, 3), (20, 30)),
    "enlarged": ((7, 5, 3), (61, 83)),
    "both sides to 1": ((64, 65), (1, 1)),
}


@pytest.fixture(scope="module")
def failing_malloc(tmp_path_factory) -> Path:
    """Build the library to preload."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux preloads a library that way")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to build failing_malloc.c")
    library = tmp_path_factory.mktemp("failing_malloc") / "failing_malloc.so"
    # What it defines is what the compiler would otherwise take for built in.
    flags = ["-std=gnu11", "-O1", "-Wall", "-Werror", "-fno-builtin"]
    link = ["-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    subprocess.run([compiler, *flags, *link], env=environment, check=True, timeout=60)
    return library


def run_preloaded(library: Path, **variables: str) -> dict[str, dict[str, int]]:
    """Run this file in a process of its own, where allocations can fail."""
    environment = {
        **os.environ,
        **variables,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LD_PRELOAD": f"{library}:{os.environ.get('LD_PRELOAD', '')}".rstrip(":"),
    }
    if "ASAN_OPTIONS" in os.environ:  # whose runtime insists on being the first
        environment["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
    finished = subprocess.run(
        [sys.executable, __file__, str(library)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("name", native.backends())
def test_each_failing_allocation_is_a_memory_error(failing_malloc, name):
    """Prove that any allocation may fail: MemoryError, nothing held, the next works."""
    told = run_preloaded(failing_malloc, **{BACKEND_VARIABLE: name})
    assert len(told) == 2 * len(SHAPES)
    for shape, count in told.items():
        # Positions and weights of one axis at the least: fewer were not counted.
        assert count["allocations"] >= count["held_at_most"] >= 2, shape
        assert count["refused"] == 2 * count["allocations"], shape


# What runs in the process of its own


def watched(path: str) -> ctypes.CDLL:
    """Watch every native module of ours, wherever it lies in this process."""
    library = ctypes.CDLL(path)
    library.watch.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    library.fail_allocations.argtypes = [ctypes.c_long, ctypes.c_long]
    library.allocations_made.restype = ctypes.c_long
    library.allocations_held.restype = ctypes.c_long
    library.allocations_held_at_most.restype = ctypes.c_long
    found = pkgutil.iter_modules(_native.__path__, f"{_native.__name__}.")
    modules = [importlib.import_module(module.name) for module in found]
    files = {str(Path(module.__file__).resolve()) for module in modules}
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        addresses, access, *_, name = line.split(maxsplit=5)
        if name in files and "x" in access:
            begin, end = (int(address, 16) for address in addresses.split("-"))
            if not library.watch(begin, end):
                raise RuntimeError("there are more modules than room for them")
    return library


def streamed(pixels: np.ndarray, out_height: int, out_width: int) -> np.ndarray:
    """Resize in bands of rows."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    resizer = qp.Resizer(height, width, out_height, out_width, channels=channels)
    bands = [resizer.feed(pixels[top : top + 7]) for top in range(0, height, 7)]
    return np.concatenate(bands)


def fail_each(
    library: ctypes.CDLL, shape: str, resize: Callable[..., np.ndarray]
) -> dict[str, int]:
    """Fail each allocation of one resize, alone and with all that follow."""
    source, size = SHAPES[shape]
    pixels = (np.arange(np.prod(source)) * 37 % 251).astype(np.uint8).reshape(source)
    expected = resize(pixels, *size)
    held = library.allocations_held()
    library.fail_allocations(0, 0)
    again = resize(pixels, *size)
    told = {
        "allocations": library.allocations_made(),
        "held_at_most": library.allocations_held_at_most() - held,
        "refused": 0,
    }
    if not np.array_equal(again, expected):
        raise AssertionError((shape, "no allocation failed, yet the bytes differ"))
    for first in range(1, told["allocations"] + 1):
        for last in (first, 2**31 - 1):
            # Cython keeps what the first traceback through a line needs: it is left
            # out by failing twice, and a leak shows the second time too.
            for turn in range(2):
                library.fail_allocations(first, last)
                try:
                    resize(pixels, *size)
                except MemoryError:
                    told["refused"] += turn
                library.fail_allocations(0, 0)
                again = resize(pixels, *size)
                if not np.array_equal(again, expected):
                    raise AssertionError((shape, first, last, "the next call"))
                if turn and library.allocations_held() != held:
                    raise AssertionError((shape, first, last, "memory is held"))
                held = library.allocations_held()
    return told


def main(path: str) -> None:
    library = watched(path)
    told = {
        f"{shape}, {resize.__name__}": fail_each(library, shape, resize)
        for shape in SHAPES
        for resize in (qp.resize, streamed)
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
