"""
Write ``size_cases.json``: the published size rules, evaluated on chosen cases.

Only the ``smart_resize`` functions, and what they use, are taken out of the two
packages' sources, so neither torch nor transformers has to be installed::

    python make_size_tables.py --qwen-vl-utils WHEEL --transformers WHEEL

A package whose wheel is not given is looked up in the running environment.
The same sources give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Rule = Callable[..., tuple[int, int]]
Size = tuple[int, int]

OUTPUT = Path(__file__).with_name("size_cases.json")
COLUMNS = [
    "height",
    "width",
    "factor",
    "min_pixels",
    "max_pixels",
    "transformers",
    "qwen_vl_utils",
]
QWEN_VL_UTILS_FILES = ["qwen_vl_utils/vision_process.py"]
TRANSFORMERS_FILES = [
    "transformers/models/qwen2_vl/image_processing_qwen2_vl.py",
    "transformers/models/qwen2_vl/image_processing_pil_qwen2_vl.py",
]


class Limits(NamedTuple):
    """What a model sets: the grid and the two areas."""

    factor: int
    min_pixels: int
    max_pixels: int


PUBLISHED = [
    Limits(28, 3_136, 1_003_520),
    Limits(28, 3_136, 6_422_528),
    Limits(28, 3_136, 12_845_056),
    Limits(28, 3_136, 23_520_000),
    Limits(32, 3_072, 8_388_608),
    Limits(32, 3_072, 30_720_000),
    Limits(32, 4_096, 1_310_720),
    Limits(32, 4_096, 2_621_440),
    Limits(32, 4_096, 16_777_216),
    Limits(32, 65_536, 2_621_440),
    Limits(32, 65_536, 16_777_216),
]

# Caps a caller may set: so small that a side floors to 0, equal to each other, or
# no multiple of a token's area. qwen-vl-utils asserts min_pixels <= max_pixels.
CUSTOM = [
    Limits(28, 784, 784),
    Limits(28, 784, 20 * 784),
    Limits(28, 3_136, 3_136),
    Limits(28, 3_136, 20 * 784),
    Limits(28, 3_136, 64 * 784),
    Limits(28, 5_000, 1_000_000),
    Limits(28, 1_003_520, 1_003_520),
    Limits(32, 1_024, 20 * 1_024),
    Limits(32, 4_096, 4_096),
    Limits(32, 4_096, 64 * 1_024),
    Limits(32, 65_536, 65_536),
    Limits(32, 70_000, 1_234_567),
]

# Sizes with a published or recorded answer, and sizes that once told copies apart.
RECORDS = [
    (512, 512),
    (1280, 1280),
    (1365, 2048),
    (720, 1280),
    (11, 50),
    (11, 98),
    (15, 575),
    (100, 100),
    (10, 2000),
    (11, 2200),
    (29, 5615),
]
# Small sizes that on paper are enlarged to whole multiples and in floating point may
# miss them by one bit: 19x19 becomes 84x84, not 56x56, since 19 * sqrt(3136 / 361)
# is above 56. Exact arithmetic, or a division where the rule multiplies, gives other
# sizes when enlarging, and only these cases show it.
LAST_BIT = [
    (17, 17),
    (19, 19),
    (17, 68),
    (19, 76),
    (4, 289),
    (5, 405),
    (8, 578),
    (7, 343),
    (14, 686),
    (21, 525),
    (28, 343),
    (35, 315),
    (39, 351),
    (56, 686),
    (63, 567),
]
EVERYDAY = [
    (1, 1),
    (240, 320),
    (480, 640),
    (768, 1024),
    (1080, 1920),
    (2160, 3840),
    (3024, 4032),
    (3508, 2480),
    (4320, 7680),
    (6000, 8000),
    (10000, 10000),
    (100000, 100000),
]


# --- the published functions ---------------------------------------------------


class Source(NamedTuple):
    """One package: where it came from and the text of the files asked for."""

    header: dict[str, Any]
    texts: list[str]


def read_wheel(wheel: Path, files: list[str]) -> Source:
    """Read *files* of a wheel, with the version its file name states."""
    with zipfile.ZipFile(wheel) as archive:
        contents = [archive.read(name) for name in files]
    header = {
        "version": wheel.name.split("-")[1],
        "wheel": wheel.name,
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
    }
    return _source(header, files, contents)


def read_installed(package: str, files: list[str]) -> Source:
    """Read *files* of an installed package without importing it."""
    distribution = importlib.metadata.distribution(package)
    contents = [
        Path(str(distribution.locate_file(name))).read_bytes() for name in files
    ]
    return _source({"version": distribution.version}, files, contents)


def _source(header: dict[str, Any], files: list[str], contents: list[bytes]) -> Source:
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    header["files_sha256"] = dict(zip(files, digests, strict=True))
    return Source(header, [content.decode() for content in contents])


def extract(text: str, wanted: str = "smart_resize") -> Rule:
    """Build the function *wanted* from a module's *text* without running the rest."""
    defined: dict[str, ast.stmt] = {}
    for node in ast.parse(text).body:
        for name in _names_bound_by(node):
            defined[name] = node
    needed: dict[str, ast.stmt] = {}
    names = [wanted]
    while names:
        name = names.pop()
        # A name that the module does not bind is a builtin or a local variable.
        if name in defined and name not in needed:
            needed[name] = defined[name]
            names += _names_read_by(defined[name])
    kept = sorted(set(needed.values()), key=lambda node: node.lineno)
    code = compile(
        ast.Module(kept, type_ignores=[]),
        f"<{wanted}>",
        "exec",
        # The annotations need names from typing; they are not to be evaluated.
        flags=annotations.compiler_flag,
        dont_inherit=True,
    )
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    rule: Rule = namespace[wanted]
    return rule


def _names_bound_by(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.Import(names=[ast.alias(name="math", asname=None)]):
            return ["math"]
    return []


def _names_read_by(node: ast.stmt) -> list[str]:
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]


def evaluate(rule: Rule, size: Size, limits: Limits) -> list[int] | None:
    """Answer as JSON: ``[height, width]``, or null where the ratio is refused."""
    try:
        height, width = rule(
            height=size[0],
            width=size[1],
            factor=limits.factor,
            min_pixels=limits.min_pixels,
            max_pixels=limits.max_pixels,
        )
    except ValueError:
        return None
    return [height, width]


# --- the cases -----------------------------------------------------------------


def ties(factor: int) -> Iterator[Size]:
    """Sides of half a factor too much, where ``round`` goes to the even multiple."""
    half = factor // 2
    sides = [half + factor * k for k in (0, 1, 2, 3, 7, 22, 39, 60)]
    yield from ((side, side) for side in sides)
    for side in sides:
        for other in (factor, 3 * factor, 720, side + factor):
            yield side, other
            yield other, side


def sides_under_half_a_factor(factor: int) -> Iterator[Size]:
    """Short sides that round to 0 or just not, with long sides up to the ratio."""
    half = factor // 2
    for short in (1, 2, 5, 10, 11, half - 1, half, half + 1):
        for ratio in (1, 2, 4, 7, 9, 15, 20, 33, 50, 80, 127, 150, 199):
            yield short, short * ratio
    for short in (11, half):
        for long in (3.5, 4.5, 7.8, 8.2, 16.5, 63.5):
            yield int(long * factor), short
            yield short, int(long * factor) - 1


def next_to_area(factor: int, pixels: int) -> Iterator[Size]:
    """Sizes whose rounded area or own area lies on either side of *pixels*."""
    tokens = pixels // factor**2
    for rows in sorted({1, 2, 3, 5, round(tokens**0.25), round(tokens**0.5)}):
        columns = tokens // rows
        if columns > 190 * rows:
            continue
        edge = int((columns + 0.5) * factor)
        for width in (edge - 1, edge, edge + 1):
            yield rows * factor, width
    root = int(pixels**0.5)
    for height in (root, root + 1, root * 3 // 2):
        width = pixels // height
        yield from ((height, width), (height, width + 1))


def exact_scalings(factor: int, pixels: int) -> Iterator[Size]:
    """
    Enlarge and shrink shapes of *pixels*, so that the way back is a whole number.

    The last bit of ``side / beta / factor`` then decides between a multiple and
    the one below it, which tells apart orders of the same arithmetic.
    """
    tokens = pixels // factor**2
    divisors = [n for n in range(1, int(tokens**0.5) + 1) if tokens % n == 0]
    for rows in [n for n in divisors if tokens <= 200 * n * n][-4:]:
        height, width = rows * factor, tokens // rows * factor
        for times in (2, 3, 5, 7, 11):
            yield height * times, width * times
        for parts in (2, 7):
            if height % parts == width % parts == 0:
                yield height // parts, width // parts


def thin() -> Iterator[Size]:
    """Images at, just under and just over 200:1."""
    for short in (1, 11, 14, 16, 29, 31, 47, 100, 333, 499):
        for long in (200 * short - 1, 200 * short, 200 * short + 1):
            yield short, long
            yield long, short
    yield from ((28, 5460), (5461, 28), (33, 6444), (6447, 33), (43, 8390), (61, 11990))


def log_uniform(
    random_source: random.Random, count: int, ratio: float = 220.0
) -> Iterator[Size]:
    """Random sizes, sides 1 to 100,000 and log-uniform, mostly within the ratio."""
    while count:
        height, width = (round(10 ** random_source.uniform(0, 5)) for _ in range(2))
        if max(height, width) <= ratio * min(height, width):
            count -= 1
            yield height, width


def published_cases() -> Iterator[tuple[Size, Limits]]:
    """Yield every size for every published set of limits."""
    random_source = random.Random(20250125)
    for limits in PUBLISHED:
        sizes = [*RECORDS, *LAST_BIT, *EVERYDAY]
        sizes += [(width, height) for height, width in sizes]
        sizes += ties(limits.factor)
        sizes += sides_under_half_a_factor(limits.factor)
        sizes += next_to_area(limits.factor, limits.min_pixels)
        sizes += next_to_area(limits.factor, limits.max_pixels)
        sizes += exact_scalings(limits.factor, limits.min_pixels)
        sizes += exact_scalings(limits.factor, limits.max_pixels)
        sizes += thin()
        sizes += log_uniform(random_source, 200)
        yield from ((size, limits) for size in sizes)


def custom_cases() -> Iterator[tuple[Size, Limits]]:
    """Yield long, small and random sizes for limits that nobody publishes."""
    random_source = random.Random(20250126)
    for limits in CUSTOM:
        sizes = [*RECORDS, (98, 11), (575, 15), (5615, 29), (1000, 20)]
        sizes += exact_scalings(limits.factor, limits.max_pixels)
        sizes += log_uniform(random_source, 40)
        for _ in range(15):
            short = random_source.randint(limits.factor // 3, 3 * limits.factor)
            sizes.append((short, short * random_source.randint(20, 199)))
        yield from ((size, limits) for size in sizes)


# --- the file ------------------------------------------------------------------


def evaluate_all(
    cases: Iterable[tuple[Size, Limits]], transformers: list[Rule], utils: Rule
) -> list[list[Any]]:
    """Evaluate each case once, sorted by limits and then by size."""
    table: list[list[Any]] = []
    for limits, size in sorted({(limits, size) for size, limits in cases}):
        answers = [evaluate(rule, size, limits) for rule in transformers]
        if any(answer != answers[0] for answer in answers):
            raise SystemExit(f"transformers disagrees with itself: {size} {limits}")
        table.append([*size, *limits, answers[0], evaluate(utils, size, limits)])
    return table


def to_json(header: dict[str, Any], tables: dict[str, list[list[Any]]]) -> str:
    """Lay the file out with one case a line, so that a change is a short diff."""
    parts = [f'"header": {json.dumps(header, indent=1)}']
    for name, table in tables.items():
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in table)
        parts.append(f'"{name}": [\n{lines}\n]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Read the sources named on the command line and write the table."""
    parser = argparse.ArgumentParser(description="Write size_cases.json.")
    parser.add_argument("--qwen-vl-utils", type=Path, metavar="WHEEL")
    parser.add_argument("--transformers", type=Path, metavar="WHEEL")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()

    def read(package: str, wheel: Path | None, files: list[str]) -> Source:
        return read_wheel(wheel, files) if wheel else read_installed(package, files)

    utils = read("qwen-vl-utils", options.qwen_vl_utils, QWEN_VL_UTILS_FILES)
    transformers = read("transformers", options.transformers, TRANSFORMERS_FILES)
    rules = [extract(text) for text in transformers.texts]
    utils_rule = extract(utils.texts[0])
    tables = {
        "published_caps": evaluate_all(published_cases(), rules, utils_rule),
        "custom_caps": evaluate_all(custom_cases(), rules, utils_rule),
    }
    header = {
        "made_by": "tests/reference/make_size_tables.py",
        "transformers": transformers.header,
        "qwen_vl_utils": utils.header,
        "cases": {name: len(table) for name, table in tables.items()},
        "columns": COLUMNS,
    }
    options.output.write_text(to_json(header, tables), encoding="utf-8")
    sys.stdout.write(f"{options.output.name}: {header['cases']}\n")


if __name__ == "__main__":
    main()
