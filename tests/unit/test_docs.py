"""What the documents claim in code is true."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["accounting.md"])
def test_examples_of_a_document_run(name, monkeypatch):
    """Every prompt in the document gives what stands below it."""
    monkeypatch.chdir(ROOT)
    done = doctest.testfile(
        str(ROOT / "docs" / name), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert done.attempted > 10
    assert done.failed == 0
