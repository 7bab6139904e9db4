"""House rules that code can hold: who imports whom, what loads when, what is told."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import qwenvl_prep

PACKAGE = Path(qwenvl_prep.__file__).parent
NAMES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
# The bench measures other libraries, so it may enter them.
BENCH = {name for name in NAMES if name.startswith("bench")}

# From the bottom up; a file imports at run time only what stands before it.
LAYERS = [
    {"_version", "errors", "findings", "_native"},
    {"model_profile"},
    {"model_tables"},
    {"profiles", "headers", "data_uri", "jpeg_structure", "strips", "damage"},
    {"limits", "geometry", "icc_shaper", "metadata", "fidelity"},
    {"addresses", "coordinates", "icc", "tile_grid"},
    {"answers", "sizes", "text_tokens"},
    {"shrink"},
    {"options", "remote"},
    {"sources", "integrity", "resize", "content", "decode_vips", "decode_pillow"},
    {"pixels", "changes"},
    {"decode"},
    {"probe"},
    {"validate"},
    {"plan"},
    {"encode", "tiles"},
    {"within"},
    {"prepare"},
    {"split"},
    {"budget", "cut", "video"},
    {"cost", "tile_boxes"},
    {"scenarios"},
    {"request"},
    {"reply"},
    {"bills", "billed_rule"},
    {"reconcile"},
    {"sender"},
    {"cli_inputs", "cli_options", "cli_tables", "bench_pictures", "bench_peers"},
    {"bench_header", "bench_measure", "bench_rivals"},
    {"cli_steps", "bench_cases"},
    {"cli_budget", "cli_cost", "cli_fetch", "cli_tiles", "cli_video"},
    {"bench_targets", "bench_accounting"},
    {"bench_large"},
    {"bench"},
    {"cli"},
    {"__main__"},
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}


def module_of(name: str) -> str:
    """Give the name in DESIGN's table that a file belongs to."""
    return name.removesuffix(".py").split("/")[0]


def imports_of(path: Path, *, with_types: bool = False) -> set[str]:
    """Give the full names that a file imports, without those for types alone."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if with_types or not isinstance(node, ast.If):
            continue
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def own_imports(path: Path) -> set[str]:
    """Give the files of ours that a file imports at run time."""
    return {
        name.split(".")[1]
        for name in imports_of(path)
        if name.startswith("qwenvl_prep.") and name.split(".")[1] in LAYER_OF
    }


def foreign_imports(path: Path) -> set[str]:
    """Give the top names of the libraries that a file imports at run time."""
    return {name.split(".")[0] for name in imports_of(path)}


# -------------------------------------------------------------------------- imports


def test_every_file_has_its_layer():
    """A new file is put into the table above, where its neighbours can be seen."""
    unknown = {module_of(name) for name in NAMES} - set(LAYER_OF) - {"__init__"}
    assert unknown == set()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__init__.py"])
def test_imports_point_down(name):
    """A file imports only what stands below it, or its own folder."""
    own = module_of(name)
    above = {
        other
        for other in own_imports(PACKAGE / name) - {own}
        if LAYER_OF[other] >= LAYER_OF[own]
    }
    assert above == set()


@pytest.mark.parametrize("name", NAMES)
def test_bottom_imports_nothing_of_ours(name):
    """Errors, profiles, headers and the native part know nothing above them."""
    allowed = {
        "errors": set(),
        "_native": {"_native"},
        "_version": set(),
        "model_profile": {"errors"},
        "model_tables": {"model_profile"},
        "profiles": {"errors", "model_profile", "model_tables"},
        "headers": {"errors", "headers"},
    }
    own = module_of(name)
    if own in allowed:
        assert own_imports(PACKAGE / name) <= allowed[own]


def test_nothing_imports_the_command_line():
    """The command line is a front door: only __main__ opens it; its parts are its own.

    The bench is the other door, and shows its tables the same way.
    """
    users = {name: own_imports(PACKAGE / name) for name in NAMES}
    assert {name for name in NAMES if "cli" in users[name]} == {"__main__.py"}
    shared = {"cli_inputs", "cli_tables"}
    for name, others in users.items():
        if not name.startswith("cli"):
            parts = {other for other in others if other.startswith("cli_")}
            assert parts <= (shared if name == "bench.py" else set())


def test_there_is_no_drawer_for_everything():
    """No file is called utils, helpers, common or misc: each answers one question."""
    drawers = ("util", "utils", "helper", "helpers", "common", "misc")
    assert [name for name in NAMES if Path(name).stem in drawers] == []


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("pyvips", {"decode_vips.py"}),
        ("pillow_heif", {"decode_pillow.py"}),
        ("PIL", {"decode_pillow.py", "encode.py", "icc.py"}),
        ("httpx2", {"sender.py"}),
        ("httpcore2", {"remote.py"}),
        ("tiktoken", {"text_tokens.py"}),
        ("click", {name for name in NAMES if name.startswith("cli")}),
        ("rich", {"cli_steps.py", "cli_tables.py"}),
        ("torch", set()),
        ("cv2", set()),
        ("transformers", set()),
        ("requests", set()),
    ],
)
def test_each_library_has_one_home(library, homes):
    """A library is entered in the file that translates its errors, nowhere else."""
    users = {name for name in NAMES if library in foreign_imports(PACKAGE / name)}
    assert users - BENCH <= homes


HEAVY = ["numpy", "PIL", "pyvips", "httpx2", "rich", "click", "pillow_heif"]


@pytest.mark.parametrize(
    "work",
    [
        "",
        "qwenvl_prep.smart_resize(1280, 1280)",
        "qwenvl_prep.get_model('qwen-vl-max')",
        "qwenvl_prep.count_tokens(PNG)",
        "qwenvl_prep.plan(PNG)",
        "qwenvl_prep.validate(PNG)",
        "qwenvl_prep.fit([PNG])",
        "qwenvl_prep.cost_of(qwenvl_prep.fit([PNG]), 100)",
        "qwenvl_prep.what_if([PNG])",
        "qwenvl_prep.reconcile([])",
        "qwenvl_prep.plan_video([PNG] * 4, max_tokens=20)",
        "qwenvl_prep.plan(PNG).to_sent((0, 0, 1, 1), convention='relative-1000')",
        "qwenvl_prep.parse_boxes('<box>(1,2),(3,4)</box>')",
    ],
    ids=[
        "import",
        "size",
        "model",
        "count",
        "plan",
        "validate",
        "fit",
        "cost",
        "what if",
        "reconcile",
        "video",
        "box",
        "parse",
    ],
)
def test_light_work_loads_no_heavy_library(work):
    """Importing, counting and planning load neither numpy nor any decoder."""
    png = (
        "b'\\x89PNG\\r\\n\\x1a\\n\\0\\0\\0\\rIHDR\\0\\0\\0\\x40\\0\\0\\0\\x40"
        "\\x08\\2\\0\\0\\0\\x25\\x0b\\xe6\\x89\\0\\0\\0\\0IDAT\\x35\\xaf\\x06\\x1e'"
    )
    code = (
        f"import sys, qwenvl_prep\nPNG = {png}\n{work}\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run_alone(code) == "[]"


def run_alone(code: str) -> str:
    """Give what a fresh process prints, which says nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


# ----------------------------------------------------------------------------- names


def test_public_names_are_sorted_and_there():
    """__all__ is sorted, without doubles, and every name exists."""
    names = qwenvl_prep.__all__
    assert names == sorted(set(names))
    for name in names:
        assert getattr(qwenvl_prep, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        qwenvl_prep.nothing_of_that_name  # noqa: B018


def test_public_names_stand_in_both_lists():
    """What type checkers read of the package is what it gives when it runs."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    typed = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("qwenvl_prep"):
            (alias,) = node.names
            # Said twice, a name is one that type checkers let others import.
            assert alias.asname == alias.name
            typed[alias.name] = node.module.partition(".")[2] or None
    assert typed.pop("__version__") == "_version"
    assert typed == qwenvl_prep._HOMES
    assert set(qwenvl_prep.__all__) == {*typed, "__version__"}
    assert set(qwenvl_prep.__all__) <= set(dir(qwenvl_prep))


@pytest.mark.parametrize(
    "code",
    [
        "import qwenvl_prep",
        "import qwenvl_prep; import qwenvl_prep.NAME",
        "import qwenvl_prep; from qwenvl_prep.NAME import NAME",
        "import qwenvl_prep; qwenvl_prep.NAME; import qwenvl_prep.NAME",
        "import qwenvl_prep.sender as sender, qwenvl_prep",
        "from qwenvl_prep import *; import qwenvl_prep",
    ],
)
def test_function_keeps_its_name_from_its_module(code):
    """Whatever was loaded before, a name that is also a module's is the function."""
    names = [name for name, home in qwenvl_prep._HOMES.items() if home == name]
    functions = ("plan", "prepare", "probe", "resize", "validate")
    assert names == sorted((*functions, "cost", "reconcile"))
    for name in names:
        told = run_alone(
            f"{code.replace('NAME', name)}\n"
            f"import sys, types\n"
            f"from qwenvl_prep import {name} as given\n"
            f"assert given is qwenvl_prep.{name}\n"
            f"module = sys.modules['qwenvl_prep.{name}']\n"
            f"assert isinstance(module, types.ModuleType)\n"
            f"assert given is module.{name}\n"
            f"print(type(given).__name__)"
        )
        assert told == "function"


def test_import_loads_nothing_of_ours():
    """A name is loaded when it is used, and then once."""
    loaded = "[name for name in sys.modules if name.startswith('qwenvl_prep.')]"
    told = run_alone(
        f"import sys, qwenvl_prep\nprint({loaded})\n"
        f"qwenvl_prep.smart_resize\n"
        f"print('smart_resize' in vars(qwenvl_prep), 'qwenvl_prep.plan' in {loaded})"
    )
    assert told.splitlines() == ["['qwenvl_prep._version']", "True False"]


def test_public_names_are_explained():
    """Every public name has a docstring of its own, every method of it too."""
    bare = []
    for name in qwenvl_prep.__all__:
        value = getattr(qwenvl_prep, name)
        if name == "__version__":
            continue
        if not inspect.getdoc(value):
            bare.append(name)
        if not inspect.isclass(value):
            continue
        for part, member in vars(value).items():
            is_told = inspect.isfunction(member) or isinstance(member, property)
            if is_told and not part.startswith("_") and not inspect.getdoc(member):
                bare.append(f"{name}.{part}")
    assert bare == []


def modules() -> list[str]:
    found = pkgutil.walk_packages(qwenvl_prep.__path__, "qwenvl_prep.")
    return sorted({"qwenvl_prep", *(module.name for module in found)})


@pytest.mark.parametrize("name", [n for n in modules() if not n.endswith("__main__")])
def test_modules_are_explained_and_their_examples_run(name):
    """Each module says what it is for, __all__ is sorted, and each example is true."""
    module = importlib.import_module(name)
    is_marker = not Path(module.__file__).stat().st_size
    assert module.__doc__ or is_marker
    exported = getattr(module, "__all__", [])
    # As ruff sorts them: constants first.
    assert list(exported) == sorted(exported, key=lambda n: (not n.isupper(), n))
    result = doctest.testmod(
        module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert result.failed == 0


def test_errors_hang_on_one_tree():
    """Every error derives from ours, has a docstring and stands in the drawn tree."""
    errors = qwenvl_prep.errors
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.QwenVLPrepError)
        assert kind.__doc__
        assert name in errors.__doc__
    assert issubclass(errors.ImageError, ValueError)
