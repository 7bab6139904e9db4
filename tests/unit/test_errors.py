"""The tree of errors: drawn as it is, carried through pickle, facts and all."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from pathlib import Path

import pytest

import qwenvl_prep
from qwenvl_prep import errors
from qwenvl_prep.errors import (
    ApiError,
    BudgetError,
    DecodeLimitError,
    ImageError,
    ImagesRefusedError,
    InterruptedStreamError,
    QwenVLPrepError,
    SendError,
    SourceError,
    ThrottledError,
    UnknownModelError,
)

ROOT = Path(__file__).resolve().parents[2]

CLASSES = [getattr(errors, name) for name in errors.__all__]


def drawn_tree() -> dict[str, str | None]:
    """Read the tree at the top of errors.py: each name with the name above it."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        above[depth:] = [found[2]]
        parents[found[2]] = above[depth - 1] if depth else None
    return parents


def declared_facts(kind: type) -> set[str]:
    """Give the attributes that a class and its bases announce without a default."""
    return {
        name
        for base in kind.__mro__
        for name in vars(base).get("__annotations__", {})
        if not hasattr(base, name)
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_is_drawn_where_it_stands(kind):
    """Prove that each class is in the drawn tree, under its own base."""
    parents = drawn_tree()
    assert kind.__name__ in parents
    parent = parents[kind.__name__]
    assert issubclass(kind, QwenVLPrepError)
    if parent is None:
        assert kind is QwenVLPrepError
    else:
        assert kind.__bases__[0].__name__ == parent


def test_nothing_is_drawn_that_is_not_there():
    """Prove that tree, __all__ and module hold the same classes."""
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert set(drawn_tree()) == set(errors.__all__) == defined
    assert list(errors.__all__) == sorted(errors.__all__)


def test_second_bases_are_drawn_too():
    """Prove that the built-in base in brackets is the one that the class has."""
    drawn = dict(re.findall(r"(\w+Error) \((\w+Error)\)", errors.__doc__ or ""))
    real = {
        kind.__name__: kind.__bases__[1].__name__
        for kind in CLASSES
        if len(kind.__bases__) > 1
    }
    assert drawn == real
    assert drawn["ImageError"] == "ValueError"
    assert drawn["UnknownModelError"] == "LookupError"


def test_image_errors_are_value_errors():
    """Prove that what is wrong with an image is caught as a ValueError too."""
    for kind in CLASSES:
        if issubclass(kind, ImageError):
            assert issubclass(kind, ValueError)
    assert issubclass(BudgetError, ValueError)
    assert not issubclass(SourceError, ValueError)
    assert not issubclass(SendError, ValueError)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_pickling_keeps_type_message_and_facts(kind):
    """Prove for each class that pickle and copy lose nothing."""
    facts = {name: (name, 17) for name in declared_facts(kind)}
    facts["extra_fact"] = [1, 2]
    error = kind("Expected one thing but received another", **facts)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is kind
        assert str(back) == "Expected one thing but received another"
        assert back.args == error.args
        for name, value in facts.items():
            assert getattr(back, name) == value
    for back in (copy.copy(error), copy.deepcopy(error)):
        assert type(back) is kind
        assert {name: getattr(back, name) for name in facts} == facts


def test_refused_images_are_pickled_with_their_reasons():
    """Prove that errors inside an error come back whole."""
    inner = DecodeLimitError("too large", limit_name="max_pixels", actual=5, limit=4)
    outer = ImagesRefusedError("1 of 2", refused=((1, "a.png", inner),))
    ((index, name, reason),) = pickle.loads(pickle.dumps(outer)).refused
    assert (index, name, str(reason)) == (1, "a.png", "too large")
    assert isinstance(reason, DecodeLimitError)
    assert (reason.limit_name, reason.actual, reason.limit) == ("max_pixels", 5, 4)


def test_facts_become_attributes():
    """Prove that nobody has to read a number out of a message."""
    error = BudgetError("no", needed=5, limit=4, fits=1, items=(("a", 5),))
    assert (error.needed, error.limit, error.fits) == (5, 4, 1)
    assert error.items == (("a", 5),)
    assert str(error) == "no"
    assert error.args == ("no",)


def test_message_of_a_lookup_error_is_not_quoted():
    """Prove that an unknown model's message is a sentence, which KeyError's is not."""
    error = UnknownModelError("Expected a model", name="x", nearest=())
    assert str(error) == "Expected a model"
    assert isinstance(error, LookupError)


def test_branches_catch_what_hangs_on_them():
    """Prove that catching a branch catches its leaves."""
    for kind in (ThrottledError, InterruptedStreamError):
        with pytest.raises(SendError):
            raise kind("no")
    assert issubclass(ThrottledError, ApiError)
    assert not issubclass(InterruptedStreamError, ApiError)


def test_every_class_tells_what_it_means():
    """Prove that each class has a docstring that describes its facts."""
    for kind in CLASSES:
        doc = kind.__doc__ or ""
        assert len(doc) > 10
        for name in vars(kind).get("__annotations__", {}):
            assert re.search(rf"\b{name}\b", doc), (kind, name)


def test_every_refusal_in_the_package_carries_its_facts():
    """Prove that no error is raised without the attributes that its class announces."""
    kinds = {kind.__name__: kind for kind in CLASSES}
    missing = []
    raised = 0
    for path in sorted(Path(errors.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            kind = kinds.get(node.func.id)
            given = {keyword.arg for keyword in node.keywords}
            if kind is None or None in given:  # None stands for **facts
                continue
            raised += 1
            if declared_facts(kind) - given:
                missing.append(f"{path.name}:{node.lineno} {kind.__name__}")
    assert missing == []
    assert raised > 20


def test_every_error_has_its_row_in_the_docs():
    """docs/errors.md lists every class, so nobody meets one it does not explain."""
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+Error)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(errors.__all__)


def test_every_finding_has_its_row_in_the_docs():
    """docs/errors.md lists every code that the sources can report, and no other."""
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    source = "".join(
        Path(qwenvl_prep.__path__[0], name).read_text("utf-8")
        for name in ("addresses.py", "validate.py", "plan.py")
    )
    in_findings = re.findall(r'Finding\(\s*"([a-z-]+)"', source)
    from_errors = re.findall(r'\w+Error: "([a-z-]+)"', source)
    assert sorted(rows) == sorted({*in_findings, *from_errors, "refused"})
