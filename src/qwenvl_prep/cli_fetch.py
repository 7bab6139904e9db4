"""How the commands that count read addresses, when they are asked to."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from qwenvl_prep import cli_steps as steps
from qwenvl_prep import cli_tables as show
from qwenvl_prep.cli_options import with_options
from qwenvl_prep.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qwenvl_prep.headers import ImageInfo

__all__ = ["FETCH", "reading"]

FETCH = with_options(
    click.option(
        "--fetch", is_flag=True, help="Read the headers behind http(s) addresses too."
    ),
    click.option(
        "--allow-private",
        is_flag=True,
        help="With --fetch: also from private and loopback hosts.",
    ),
)


@contextmanager
def reading(
    *, fetch: bool, allow_private: bool, quiet: bool
) -> Iterator[Callable[..., ImageInfo]]:
    """Give what reads a header, of an address too if asked; tell what it received."""
    if not fetch:
        if allow_private:
            raise click.UsageError("--allow-private belongs to --fetch.")
        yield probe
        return
    from qwenvl_prep.remote import Fetcher

    with Fetcher(allow_private=allow_private) as fetcher:
        yield partial(probe, fetch=fetcher)
        if fetcher.bytes_received and not quiet:
            steps.talk(f"{show.bytes_text(fetcher.bytes_received)} received")
