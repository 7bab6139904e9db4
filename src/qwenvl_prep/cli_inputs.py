"""Which inputs the words of a command line stand for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl_prep.addresses import shown
from qwenvl_prep.errors import (
    AddressError,
    NotAnImageError,
    QwenVLPrepError,
    SourceError,
)
from qwenvl_prep.probe import probe
from qwenvl_prep.sources import Source, as_source, is_url
from qwenvl_prep.validate import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Inputs", "expand"]

# Of those that have a meaning to as_source; what else stands before :// is told.
_KNOWN_SCHEMES = frozenset({"data", "file", "http", "https", "oss"})
_LONGEST_SCHEME = 32


@dataclass(frozen=True, slots=True)
class Inputs:
    """
    What was named on the command line.

    Attributes
    ----------
    sources : tuple of (str, Source or str or QwenVLPrepError)
        Name and input of each, in order: an input to prepare, an address, or the
        reason why it cannot be read.
    skipped : tuple of str
        Files inside folders that are no pictures; nobody named them one by one.
    """

    sources: tuple[tuple[str, Any], ...]
    skipped: tuple[str, ...]

    def is_among(self, path: Path) -> bool:
        """Tell whether a path is one of the inputs, under whatever name."""
        return any(
            isinstance(source, Source)
            and source.path is not None
            and source.path.exists()
            and path.samefile(source.path)
            for _, source in self.sources
        )


def expand(words: Iterable[str], *, allow_urls: bool = False) -> Inputs:
    """
    Turn words into inputs.

    Parameters
    ----------
    words : iterable of str
        Paths of files and folders, ``-`` for an image on stdin, data URIs; with
        *allow_urls* also addresses that the server fetches.
    allow_urls : bool
        Whether addresses have a meaning here.

    Returns
    -------
    Inputs
        Folders are walked in sorted order, hidden files left out.
    """
    sources: list[tuple[str, Any]] = []
    skipped: list[str] = []
    for word in words:
        if word == "-":
            sources.append(("stdin", _from_stdin()))
        elif allow_urls and is_url(word):
            sources.append((word, word))
        elif os.path.isdir(word):  # noqa: PTH112 - never raises, however long the word
            for path in _walk(Path(word)):
                if _is_foreign(path):
                    skipped.append(str(path))
                else:
                    sources.append((str(path), as_source(path)))
        else:
            sources.append(_named(word))
    return Inputs(tuple(sources), tuple(skipped))


def _named(word: str) -> tuple[str, Any]:
    scheme, colon, _ = word[:_LONGEST_SCHEME].partition("://")
    is_foreign = colon and scheme.isalnum() and scheme.lower() not in _KNOWN_SCHEMES
    # Nothing hinders a folder that is called "ftp:".
    if is_foreign and not os.path.lexists(word):
        name = shown(word)
        return name, AddressError(
            f"Expected an http or https address but received {name}; only those are "
            f"fetched: download it and give the file",
            address=name,
        )
    try:
        source = as_source(word)
    except QwenVLPrepError as exc:
        return (word if len(word) <= 60 else f"{word[:59]}…"), exc
    return source.name, source


def _from_stdin() -> Source | QwenVLPrepError:
    try:
        if sys.stdin is None:
            return SourceError("Expected an image on stdin but stdin is closed")
        return as_source(sys.stdin.buffer, name="stdin")
    except QwenVLPrepError as exc:
        return exc


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(root, name)


def _is_foreign(path: Path) -> bool:
    """
    Tell whether a file in a folder is no picture at all, by its content.

    One that is called a picture is never left out: an empty or broken .jpg is what
    the person has to hear of.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return False
    try:
        probe(path)
    except NotAnImageError:
        return True
    except QwenVLPrepError:
        return False
    return False
