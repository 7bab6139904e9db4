"""The C core alone: Pillow's bytes as arm64 code under qemu, and under sanitizers."""

from __future__ import annotations

import ast
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "src" / "qwenvl_prep" / "_native"
DRIVER = Path(__file__).with_name("run_kernels.c")

CROSS_COMPILER = "aarch64-linux-gnu-gcc"
QEMU = "qemu-aarch64"

# The driver puts what the core allocates beside guard pages, too.
ALLOCATORS = [
    f"-D{name}=test_{name}" for name in ("malloc", "calloc", "aligned_alloc", "free")
]

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65]

N_DRAWN = 300
# Height, width, out_height, out_width, and the channels.
EXTREMES = [
    ((1, 100_000, 1, 134), 3),  # 3,000 taps
    ((100_000, 1, 134, 1), 3),
    ((1, 2000, 1, 7), 4),
    ((1, 1, 300, 200), 1),
    ((40, 1200, 20, 500), 3),  # rows beyond a chunk of columns
    ((200, 500, 90, 499), 4),
    ((33, 700, 33, 700), 1),
]

# Where the tests run beside an installed package, there is nothing to compile.
needs_sources = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the C files are not beside the tests"
)
needs_arm = pytest.mark.skipif(
    not (shutil.which(CROSS_COMPILER) and shutil.which(QEMU)),
    reason=f"{CROSS_COMPILER} or {QEMU} is missing "
    "(apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)",
)
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is missing")


def build(target: Path, compiler: str, *options: str) -> Path:
    """Compile the driver and the C files with the flags of setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    flags = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLAGS"
    )
    files = [*sorted(NATIVE.glob("*.c")), DRIVER]
    command = [compiler, *flags, *options, *ALLOCATORS, f"-I{NATIVE}", *files]
    subprocess.run([*command, "-lm", "-o", target], check=True)
    return target


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by the installed Pillow; along one axis, every version does the same."""
    channels = pixels.shape[2]
    size = (pixels.shape[1], pixels.shape[0])
    image = Image.frombytes(MODES[channels], size, pixels.tobytes())
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, channels)


def one_case(
    random_: random.Random, sides: tuple[int, int, int, int], channels: int
) -> bytes:
    """Give a picture, the flags drawn for it and what Pillow makes of it, as bytes."""
    height, width, out_height, out_width = sides
    height_first, mirrored_across, mirrored_down = (
        random_.random() < 0.5 for _ in range(3)
    )
    upright = np.index_exp[
        :: -1 if mirrored_down else 1, :: -1 if mirrored_across else 1
    ]
    rng = np.random.default_rng(random_.getrandbits(32))
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if random_.random() < 0.3:  # black and white, to be clipped on both sides
        pixels = (pixels >> 7) * np.uint8(255)
    between = (out_height, width) if height_first else (height, out_width)
    expected = resized(
        resized(np.ascontiguousarray(pixels[upright]), *between), out_height, out_width
    )[upright]
    head = struct.pack(
        "=9q",
        *sides,
        channels,
        height_first,
        mirrored_across,
        mirrored_down,
        random_.randint(1, 40),
    )
    return head + pixels.tobytes() + expected.tobytes()


@pytest.fixture(scope="module")
def cases() -> bytes:
    """Draw shapes, a third of them along one axis, and add the extremes."""
    random_ = random.Random(64)

    def side() -> int:
        return random_.choice([random_.choice(EDGES), random_.randint(1, 150)])

    drawn = []
    for index in range(N_DRAWN):
        height, width, out_height, out_width = side(), side(), side(), side()
        if index % 6 == 0:
            out_height = height
        elif index % 6 == 1:
            out_width = width
        sides = (height, width, out_height, out_width)
        drawn.append(one_case(random_, sides, random_.choice([1, 3, 4])))
    drawn += [one_case(random_, sides, channels) for sides, channels in EXTREMES]
    return b"".join(drawn)


def kernels_without_fault(
    cases: bytes, *command: str | Path, **environment: str
) -> list[str]:
    """Run the driver; tell which kernels gave all cases, which all have to."""
    ran = subprocess.run(
        command,
        input=cases,
        capture_output=True,
        cwd=Path(command[-1]).parent,  # where a crash may leave its core
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )
    said = ran.stderr.decode(errors="replace")
    assert ran.returncode == 0, said
    lines = [line.split() for line in ran.stdout.decode().splitlines()]
    n_cases = str(N_DRAWN + len(EXTREMES))
    assert lines == [[name, n_cases, "0"] for name, *_ in lines], said
    return [name for name, *_ in lines]


@pytest.fixture(scope="module")
def arm_driver(tmp_path_factory) -> Path:
    """Cross-compile, statically, so that qemu needs no arm64 library."""
    target = tmp_path_factory.mktemp("arm") / "run_kernels"
    return build(target, CROSS_COMPILER, "-static")


@needs_sources
@needs_arm
@pytest.mark.parametrize(
    ("cpu", "names"),
    [
        ("cortex-a53", ["neon", "scalar"]),  # ARMv8.0, the least there is
        ("max", ["neon", "scalar"]),
    ],
)
def test_arm64_kernels_give_pillow_s_bytes(arm_driver, cases, cpu, names):
    """Prove that arm64 code gives Pillow's bytes, within its buffers, on both CPUs."""
    ran = kernels_without_fault(cases, QEMU, "-cpu", cpu, arm_driver)
    assert ran == names


@needs_sources
@needs_arm
@pytest.mark.parametrize("end", ["before", "behind"])
def test_guard_pages_kill_under_qemu(arm_driver, tmp_path, end):
    """Prove that one byte beside a buffer would have ended those runs."""
    ran = subprocess.run(
        [QEMU, arm_driver, end], capture_output=True, cwd=tmp_path, check=False
    )
    assert ran.returncode < 0


@needs_sources
@needs_gcc
def test_sanitizers_find_nothing(tmp_path, cases):
    """Prove that this CPU's kernels neither stray nor rely on undefined behaviour."""
    driver = build(
        tmp_path / "run_kernels",
        "gcc",
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    )
    # Leaks are test_leaks.py's; looking for them needs a right that containers lack.
    ran = kernels_without_fault(cases, driver, ASAN_OPTIONS="detect_leaks=0")
    assert ran[-1] == "scalar"


@needs_sources
def test_setup_compiles_every_c_file():
    """Prove that no file that another machine needs is left out of the build."""
    listed = (ROOT / "setup.py").read_text()
    assert [
        path.name for path in NATIVE.glob("*.c") if f'"{path.name}"' not in listed
    ] == []
