"""The size rule over arrays: each way to count gives what Python's integers give."""

from __future__ import annotations

import ast
import math
import os
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qwenvl_prep._native import geometry as native

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "src" / "qwenvl_prep" / "_native"
DRIVER = Path(__file__).with_name("run_counts.c")

CROSS_COMPILER = "aarch64-linux-gnu-gcc"
QEMU = "qemu-aarch64"

# factor, min_pixels, max_pixels: every pair of limits that was published.
PUBLISHED = [
    (28, 3_136, 1_003_520),
    (28, 3_136, 6_422_528),
    (28, 3_136, 12_845_056),
    (28, 3_136, 23_520_000),
    (32, 3_072, 8_388_608),
    (32, 3_072, 30_720_000),
    (32, 4_096, 1_310_720),
    (32, 4_096, 2_621_440),
    (32, 4_096, 16_777_216),
    (32, 65_536, 2_621_440),
    (32, 65_536, 16_777_216),
]
# Caps that are no multiple of a square, that floor sides to 0, that meet, and that
# are too large for vectors.
OWN = [
    (28, 3_136, 20 * 784),
    (28, 3_137, 1_003_519),
    (28, 100 * 784, 100 * 784),
    (28, 1_000_001, 1_000_001),
    (32, 1, 1),
    (32, 65_535, 65_537),
    (1, 1, 5_000),
    (1, 2**40, 2**50),
    (1, 2**50, 2**50),
    (1, 2**50, 2**50 + 1),
    (1, 2**52, 2**52),
    (7, 5_000, 5_001),
    (65_536, 1, 2**52),
    (65_521, 2**33, 2**34),
]
RULES = PUBLISHED + OWN

# Lengths around those of vectors, and some of them in a row.
LENGTHS = range(42)

needs_sources = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the C files are not beside the tests"
)
needs_arm = pytest.mark.skipif(
    not (shutil.which(CROSS_COMPILER) and shutil.which(QEMU)),
    reason=f"{CROSS_COMPILER} or {QEMU} is missing "
    "(apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)",
)
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is missing")


def stated(height, width, factor, min_pixels, max_pixels):
    """State the size rule in Python, in the published order; (0, 0) above 200:1."""
    if max(height, width) > 200 * min(height, width):
        return 0, 0
    h = round(height / factor) * factor
    w = round(width / factor) * factor
    if h * w > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        h = math.floor(height / beta / factor) * factor
        w = math.floor(width / beta / factor) * factor
    elif h * w < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        h = math.ceil(height * beta / factor) * factor
        w = math.ceil(width * beta / factor) * factor
    return h, w


def stated_count(height, width, factor, min_pixels, max_pixels, markers):
    if max(height, width) > 200 * min(height, width):
        return 0
    h, w = stated(height, width, factor, min_pixels, max_pixels)
    return (h // factor) * (w // factor) + markers


def counted(heights, widths, rule, markers=2):
    counts = np.full(len(heights), -7)
    refused = native.billed_tokens_many(heights, widths, counts, *rule, markers)
    return refused, counts


def resized(heights, widths, rule):
    sizes = np.full((len(heights), 2), -7)
    refused = native.smart_resize_many(heights, widths, sizes, *rule, False)
    return refused, sizes


def hard_sides(rng: np.random.Generator, n: int, factor: int) -> np.ndarray:
    """Draw sides of all magnitudes, halves of a factor, and neighbours of either."""
    spread = np.exp(rng.uniform(0, math.log(2**27), n))
    usual = np.exp(rng.uniform(0, math.log(12_000), n))
    halves = rng.integers(1, 2_000, n) * factor / 2 + rng.integers(-1, 2, n)
    kind = rng.integers(0, 4, n)
    sides = np.choose(kind, [spread, usual, halves, usual])
    return np.maximum(sides, 1).astype(np.int64)


def hard_sizes(seed: int, n: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw sizes of which some are too long, some square, and some huge."""
    rng = np.random.default_rng(seed)
    heights = hard_sides(rng, n, factor)
    shape = np.exp(rng.uniform(-math.log(300), math.log(300), n))
    widths = np.maximum(heights * shape, 1).astype(np.int64)
    widths = np.where(rng.random(n) < 0.3, hard_sides(rng, n, factor), widths)
    # Right at 200:1 and one beyond.
    edge = rng.random(n) < 0.1
    widths = np.where(edge, heights * 200 + rng.integers(0, 2, n), widths)
    return heights, widths


@pytest.fixture(params=native.backends())
def backend(request) -> str:
    """Count in each way that this CPU has."""
    before = native.backend()
    native.use_backend(request.param)
    yield request.param
    native.use_backend(before)


# ------------------------------------------------------------------ the same numbers


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.usefixtures("backend")
def test_sizes_and_counts_are_python_s(rule):
    """Prove that a few thousand hard sizes come out as in Python's own numbers."""
    heights, widths = hard_sizes(sum(rule), 3_000, rule[0])
    sizes = [stated(*size, *rule) for size in zip(*both(heights, widths), strict=True)]
    refused, given_ = resized(heights, widths, rule)
    assert refused == -1
    differs = np.flatnonzero((given_ != sizes).any(axis=1))
    assert [(heights[i], widths[i], given_[i], sizes[i]) for i in differs[:3]] == []
    expected = [
        stated_count(*size, *rule, 2)
        for size in zip(*both(heights, widths), strict=True)
    ]
    refused, counts = counted(heights, widths, rule)
    assert refused == -1
    assert counts.tolist() == expected


def both(heights, widths):
    return heights.tolist(), widths.tolist()


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.usefixtures("backend")
def test_every_way_is_the_plain_one(rule):
    """Prove the same for a hundred thousand sizes beside the plain version."""
    heights, widths = hard_sizes(sum(rule) + 1, 100_000, rule[0])
    counts, sizes = counted(heights, widths, rule), resized(heights, widths, rule)
    native.use_backend("scalar")
    assert np.array_equal(counts[1], counted(heights, widths, rule)[1])
    assert np.array_equal(sizes[1], resized(heights, widths, rule)[1])


@pytest.mark.parametrize("rule", RULES[::3], ids=str)
@pytest.mark.usefixtures("backend")
def test_all_small_sizes_are_the_plain_ones(rule):
    """Prove it for every pair of sides up to 300, where most ties are."""
    side = np.arange(1, 301)
    heights, widths = (np.ravel(one) for one in np.meshgrid(side, side))
    counts, sizes = counted(heights, widths, rule), resized(heights, widths, rule)
    native.use_backend("scalar")
    assert np.array_equal(counts[1], counted(heights, widths, rule)[1])
    assert np.array_equal(sizes[1], resized(heights, widths, rule)[1])


side_of_any_size = st.one_of(
    st.integers(1, 20_000),
    st.integers(2**26 - 2, 2**26 + 2),
    st.integers(1, 2**31 - 2**17),
)


@st.composite
def rules(draw):
    """Draw a factor and limits of one's own, published ones among them."""
    if draw(st.booleans()):
        return draw(st.sampled_from(RULES))
    factor = draw(st.sampled_from([1, 2, 3, 14, 27, 28, 32, 100, 65_535, 65_536]))
    most = draw(st.integers(1, draw(st.sampled_from([2**12, 2**24, 2**50, 2**52]))))
    return factor, draw(st.integers(1, most)), most


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(side_of_any_size, side_of_any_size), max_size=20),
    rule=rules(),
    markers=st.sampled_from([0, 2, -1, 2**31, 2**31 + 1, 2**40]),
)
@example(sizes=[(15, 575)] * 9, rule=(28, 3_136, 20 * 784), markers=2)
@example(sizes=[(2**26, 2**26)] * 9, rule=(28, 1, 2**50), markers=2)
@example(sizes=[(2**26, 2**26 + 1)] * 9, rule=(1, 2**52, 2**52), markers=2**31)
@example(sizes=[(1, 200), (1, 201)] * 5, rule=(1, 2**50, 2**50), markers=0)
@pytest.mark.usefixtures("backend")
def test_any_size_is_python_s(sizes, rule, markers):
    """Prove it for drawn rules, sides beyond what vectors take, and any markers."""
    heights = np.array([height for height, _ in sizes], dtype=np.int64)
    widths = np.array([width for _, width in sizes], dtype=np.int64)
    expected = [stated(*size, *rule) for size in sizes]
    assert resized(heights, widths, rule)[1].tolist() == [list(e) for e in expected]
    expected = [stated_count(*size, *rule, markers) for size in sizes]
    assert counted(heights, widths, rule, markers)[1].tolist() == expected


@pytest.mark.usefixtures("backend")
def test_sizes_beyond_vectors_are_counted_among_others():
    """Prove that one huge size leaves its neighbours in the vector as they are."""
    rule = PUBLISHED[0]
    for position in range(24):
        heights, widths = np.full(24, 1280), np.full(24, 1280)
        heights[position] = widths[position] = 2**31
        refused, counts = counted(heights, widths, rule)
        assert refused == -1
        expected = [1227] * 24
        expected[position] = stated_count(2**31, 2**31, *rule, 2)
        assert counts.tolist() == expected


# ------------------------------------------------------------------ memory and refusals


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.usefixtures("backend")
def test_every_length_is_filled_and_not_more(n):
    """Prove that the last sizes are counted, and nothing is written behind them."""
    rule = PUBLISHED[0]
    heights, widths = hard_sizes(n, 50, 28)
    for offset in range(9):
        part = slice(offset, offset + n)
        counts, sizes = np.full(60, -7), np.full((60, 2), -7)
        native.billed_tokens_many(heights[part], widths[part], counts[part], *rule, 2)
        native.smart_resize_many(heights[part], widths[part], sizes[part], *rule, False)
        taken = list(zip(*both(heights[part], widths[part]), strict=True))
        assert counts[part].tolist() == [stated_count(*one, *rule, 2) for one in taken]
        assert sizes[part].tolist() == [list(stated(*one, *rule)) for one in taken]
        for rest in (slice(None, offset), slice(offset + n, None)):
            assert (counts[rest] == -7).all()
            assert (sizes[rest] == -7).all()


@pytest.mark.parametrize("bad", [0, -1, -(2**63), 2**62])
@pytest.mark.parametrize("second", ["heights", "widths"])
@pytest.mark.usefixtures("backend")
def test_first_bad_side_is_named(bad, second):
    """Prove that the index of the first refused size comes back, wherever it is."""
    for n in (1, 5, 8, 17, 33):
        for position in range(n):
            sides = {"heights": np.full(n, 900), "widths": np.full(n, 1200)}
            sides[second][position] = bad
            sides["heights"][position + 1 :: 3] = 0
            if bad == 2**62:  # alone it is only too long; twice it leaves 64 bits
                sides["heights"][position] = sides["widths"][position] = bad
            for given_ in (
                counted(*sides.values(), PUBLISHED[0])[0],
                resized(*sides.values(), PUBLISHED[0])[0],
                resized(*sides.values(), (1, 2**52, 2**52))[0],
            ):
                assert given_ == position


@pytest.mark.usefixtures("backend")
def test_lengths_are_compared_beside_the_pointers():
    """Prove that arrays of several lengths are refused before anything is read."""
    long, short = np.full(9, 100), np.full(8, 100)
    with pytest.raises(ValueError, match="same length"):
        native.billed_tokens_many(long, short, long, 28, 1, 784, 2)
    with pytest.raises(ValueError, match="same length"):
        native.billed_tokens_many(long, long, short, 28, 1, 784, 2)
    with pytest.raises(ValueError, match="same length"):
        native.smart_resize_many(
            long, long, np.zeros((8, 2), np.int64), 28, 1, 784, False
        )


@pytest.mark.parametrize("markers", [-(2**63), 2**52 + 1, 2**63 - 1])
def test_markers_that_leave_64_bits_are_refused(markers):
    """Prove that no sum with them overflows, whatever the caller checked."""
    sides, counts = np.full(1, 2**31), np.empty(1, np.int64)
    with pytest.raises(ValueError, match="marker_tokens"):
        native.billed_tokens_many(sides, sides, counts, 1, 1, 2**52, markers)


# ------------------------------------------------------------------ which way is taken


def test_the_fastest_is_taken_and_the_plain_one_is_last():
    """Prove that every CPU has a way, and that without a word the first is taken."""
    assert native.backends()[-1] == "scalar"
    assert native.backend() == native.backends()[0]
    with pytest.raises(ValueError, match="Expected one of"):
        native.use_backend("altivec")
    assert native.backend() == native.backends()[0]


# ------------------------------------------------------------------ the C files alone


def build(target: Path, compiler: str, *options: str) -> Path:
    """Compile the driver and the C files with the flags of setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    flags = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLAGS"
    )
    files = [*sorted(NATIVE.glob("many_sizes*.c")), DRIVER]
    command = [compiler, *flags, *options, f"-I{NATIVE}", *files, "-lm", "-o", target]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def cases() -> bytes:
    """Draw arrays of all lengths under all rules, some of them with a bad side."""
    random_ = random.Random(5)
    drawn = []
    for index in range(10 * len(RULES)):
        rule = RULES[index % len(RULES)]
        n = random_.choice([*LENGTHS, 100])
        heights, widths = both(*hard_sizes(index, n, rule[0]))
        refused = -1
        if n and random_.random() < 0.3:
            refused = random_.randrange(n)
            heights[refused] = random_.choice([0, -1, -(2**63)])
        numbers = [*rule, 2, n, refused, *heights, *widths]
        if refused < 0:
            taken = list(zip(heights, widths, strict=True))
            numbers += [stated_count(*one, *rule, 2) for one in taken]
            numbers += [side for one in taken for side in stated(*one, *rule)]
        drawn.append(np.array(numbers, dtype=np.int64).tobytes())
    return b"".join(drawn)


def ways_without_fault(cases: bytes, *command: str | Path) -> list[str]:
    """Run the driver; tell which ways gave all cases, which all have to."""
    ran = subprocess.run(
        command,
        input=cases,
        capture_output=True,
        cwd=Path(command[-1]).parent,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "LD_PRELOAD": ""},
        check=False,
        timeout=120,
    )
    said = ran.stderr.decode(errors="replace")
    assert ran.returncode == 0, said
    lines = [line.split() for line in ran.stdout.decode().splitlines()]
    assert lines == [[name, str(10 * len(RULES)), "0"] for name, *_ in lines], said
    return [name for name, *_ in lines]


@needs_sources
@needs_arm
@pytest.mark.parametrize("cpu", ["cortex-a53", "max"])
def test_arm64_code_counts_as_python_does(tmp_path, cases, cpu):
    """Prove that arm64 code gives the numbers, within its buffers, on both CPUs."""
    driver = build(tmp_path / "run_counts", CROSS_COMPILER, "-static")
    assert ways_without_fault(cases, QEMU, "-cpu", cpu, driver) == ["neon", "scalar"]
    over = subprocess.run(
        [QEMU, driver, "over"], capture_output=True, cwd=tmp_path, check=False
    )
    assert over.returncode < 0


@needs_sources
@needs_gcc
def test_sanitizers_find_nothing(tmp_path, cases):
    """Prove that nothing relies on undefined behaviour, nor strays by one size."""
    driver = build(
        tmp_path / "run_counts",
        "gcc",
        "-O1",
        "-g",
        "-fno-wrapv",
        "-fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero",
        "-fno-sanitize-recover=all",
    )
    assert ways_without_fault(cases, driver) == native.backends()
    over = subprocess.run(
        [driver, "over"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "LD_PRELOAD": ""},
        check=False,
    )
    assert over.returncode != 0
