"""Embedded colour profiles: their bytes, where the header budget still reaches them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from qwenvl_prep.headers.reader import BudgetExceeded, ShortRead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["MAX_PROFILE", "inflated_profile", "profile_pieces"]

# The largest that printing houses use are somewhat above half of this.
MAX_PROFILE = 1 << 20
_PIECE = 1 << 16


def profile_pieces(
    reader: HeaderReader, where: Sequence[tuple[int, int]]
) -> list[bytes]:
    """
    Give the pieces of a colour profile.

    To be asked last, when the size of the picture is known: a profile too long to
    be read must not take the budget from what cannot be done without.

    Parameters
    ----------
    reader : HeaderReader
        The bytes.
    where : sequence of (int, int)
        Offset and length of each piece.

    Returns
    -------
    list of bytes
        The pieces in the order given; none at all where one is out of reach, or
        where they take more than 1 MiB together.
    """
    if reader.profile[0] == where:
        return reader.profile[1]
    lengths = [length for _, length in where]
    # Asked beforehand, so that nothing is read in vain. A box or segment that is
    # shorter than its own beginning leaves less than nothing for the profile.
    most = min(reader.bytes_left + len(reader.head), MAX_PROFILE)
    if min(lengths, default=0) < 0 or sum(lengths) > most:
        return []
    try:
        pieces = [reader.read(at, length, 0) for at, length in where]
    except (BudgetExceeded, ShortRead):
        return []
    reader.profile = where, pieces
    return pieces


def inflated_profile(data: bytes) -> bytes:
    """
    Inflate a colour profile; empty if it is broken, cut off or above 1 MiB.

    At no time does it take much more memory than the profile has in the end.
    """
    try:
        inflater = zlib.decompressobj()
        piece = inflater.decompress(data, _PIECE)
        if inflater.eof:
            return piece
        length = len(piece)
        while not inflater.eof:
            piece = inflater.decompress(inflater.unconsumed_tail, _PIECE)
            length += len(piece)
            if not piece or length > MAX_PROFILE:
                return b""
        # The length is known now, so the second time goes into one block; zlib
        # would otherwise hold the pieces and the whole at once.
        return zlib.decompress(data, bufsize=length)
    except zlib.error:
        return b""
