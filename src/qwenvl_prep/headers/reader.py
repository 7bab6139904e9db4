"""Random access to the first bytes of a picture, with an account of what was read."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from qwenvl_prep.errors import NeedMoreBytesError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["UNKNOWN_SIZE", "BudgetExceeded", "HeaderReader", "ShortRead"]

# Most JPEG, PNG and WebP headers lie within the first page of the file.
HEAD_SIZE = 4096
# Enough for what usually stands together behind a jump: a few JPEG segments, one IFD.
READ_AHEAD = 1024
BUDGET = 256 * 1024
# Stands for the length of a file that nobody has told; larger than any file is.
UNKNOWN_SIZE = 1 << 62


class ShortRead(Exception):  # noqa: N818 - a signal between our own functions
    """
    The bytes end before something that the header announces.

    Never leaves this package: :func:`~qwenvl_prep.headers.read_header` turns it
    into a ``DamagedImageError``.

    Attributes
    ----------
    needed_end : int
        How long the bytes would have to be at least.
    """

    def __init__(self, needed_end: int) -> None:
        super().__init__(needed_end)
        self.needed_end = needed_end


class BudgetExceeded(Exception):  # noqa: N818 - likewise
    """The header is spread over more bytes than may be read; handled likewise."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.budget = budget


def _cut(data: bytes | memoryview, length: int, offset: int) -> bytes:
    return bytes(data[offset : offset + length])


def _cut_prefix(data: bytes | memoryview, size: int, length: int, offset: int) -> bytes:
    """Fetch out of a beginning what a file of *size* bytes would give, or nothing."""
    end = min(offset + length, size)
    if end <= len(data):
        return bytes(data[offset:end])
    if end > UNKNOWN_SIZE // 2:
        # Counted from the end, which only somebody with the whole file knows.
        needed = sys.maxsize
    else:
        # Somewhat more each time, so that even a walk in many small steps has an end
        # soon.
        needed = min(max(end, len(data) + len(data) // 8), size)
    asked = "all bytes" if needed == sys.maxsize else f"{needed:,} bytes"
    raise NeedMoreBytesError(
        f"Expected {asked} of the file's beginning but received {len(data):,}; call "
        f"again with so many, or with the file's size if there are no more",
        needed=needed,
        received=len(data),
    )


def _unreadable(exc: OSError) -> SourceError:
    return SourceError(f"Expected a readable file but received: {exc.strerror or exc}")


class HeaderReader:
    """
    Reads pieces of a file or a buffer, keeping count of the bytes fetched.

    A buffer is accounted for exactly as a file is, so both give the same answer
    for the same bytes.

    Parameters
    ----------
    fetch : callable
        ``fetch(length, offset)`` gives up to *length* bytes from *offset* on.
    size : int
        Length of the whole in bytes.
    budget : int, default: 262144
        Bytes that may be fetched altogether.
    tail : bool, default: True
        Whether to look for what stands behind the pixels.  Where each fetch is a
        request to a server, going without saves many of them: the sides, which are
        all that counting takes, come out the same.  But frames behind the first
        are not counted then, except in formats that tell their number in front; an
        orientation that PNG or WebP keep behind the pixels is not seen; and what is
        no picture may be named less exactly.

    Attributes
    ----------
    head : bytes
        The first 4,096 bytes, or all of them if there are fewer.
    size : int
        Length of the whole in bytes.
    tail : bool
        Whether to look for what stands behind the pixels.
    profile : tuple
        Where the colour profile's pieces were found, and the pieces; they may take
        most of the budget, so a second reading must not have to pay for them again.
    """

    __slots__ = (
        "_budget",
        "_fetch",
        "_head_size",
        "_is_file",
        "_spent",
        "_window",
        "_window_at",
        "head",
        "profile",
        "size",
        "tail",
    )

    def __init__(
        self,
        fetch: Callable[[int, int], bytes],
        size: int,
        *,
        budget: int = BUDGET,
        tail: bool = True,
    ) -> None:
        self.size = size
        self.tail = tail
        self.head = head = fetch(min(size, HEAD_SIZE), 0)
        self._head_size = self._spent = len(head)
        self._fetch = fetch
        self._budget = budget
        self._is_file = True
        self._window = b""
        self._window_at = 0
        self.profile: tuple[Sequence[tuple[int, int]], list[bytes]] = ((), [])

    @classmethod
    def from_bytes(
        cls,
        data: bytes | bytearray | memoryview,
        *,
        size: int | None = None,
        budget: int = BUDGET,
    ) -> HeaderReader:
        """
        Read from a buffer, which is not copied.

        Parameters
        ----------
        data : bytes-like
            The whole picture, or its beginning.
        size : int, optional
            Length of the whole, if *data* is only its beginning; reading beyond
            *data* is then a :exc:`ShortRead` that says how much is needed.
        budget : int, default: 262144
            As for a file.
        """
        view = data if isinstance(data, bytes) else memoryview(data).cast("B")
        whole = len(view) if size is None else size
        reader = cls(partial(_cut, view), whole, budget=budget)
        reader._is_file = False
        return reader

    @classmethod
    def from_prefix(
        cls,
        data: bytes | bytearray | memoryview,
        *,
        size: int | None = None,
        tail: bool = True,
    ) -> HeaderReader:
        """
        Read from the beginning of a file, as the whole file would be read.

        Whatever lies beyond it is a
        :class:`~qwenvl_prep.errors.NeedMoreBytesError`, so that an answer is the one
        that the whole file gives, its budget included.

        Parameters
        ----------
        data : bytes-like
            The beginning, which is not copied.
        size : int, optional
            Length of the whole in bytes; not known if left out.
        tail : bool, default: True
            As for a file.
        """
        view = data if isinstance(data, bytes) else memoryview(data).cast("B")
        whole = UNKNOWN_SIZE if size is None else size
        reader = cls(partial(_cut_prefix, view, whole), whole, tail=tail)
        reader._is_file = False
        return reader

    @classmethod
    def from_fd(cls, fd: int, size: int, *, budget: int = BUDGET) -> HeaderReader:
        """
        Read from an open file descriptor; its position is neither used nor moved.

        Parameters
        ----------
        fd : int
            Descriptor of a regular file.
        size : int
            Length of the file, as ``os.fstat`` gives it.
        budget : int, default: 262144
            Bytes that may be read altogether.
        """
        try:
            return cls(partial(os.pread, fd), size, budget=budget)
        except OSError as exc:
            raise _unreadable(exc) from exc

    @property
    def bytes_read(self) -> int:
        """Bytes fetched from the file so far; 0 for a buffer."""
        return self._spent if self._is_file else 0

    @property
    def bytes_left(self) -> int:
        """Bytes that may still be fetched."""
        return self._budget - self._spent

    def read(self, offset: int, length: int, ahead: int = READ_AHEAD) -> bytes:
        """
        Give exactly *length* bytes from *offset* on.

        Parameters
        ----------
        offset, length : int
            Where, and how many.
        ahead : int, default: 1024
            Fetch at least so many, if a fetch is needed; 0 when the next read
            will be elsewhere.

        Raises
        ------
        ShortRead
            If there are not that many.
        BudgetExceeded
            If more would have to be fetched than is allowed.
        """
        end = offset + length
        if end <= self._head_size:
            return self.head[offset:end]
        if end > self.size:
            raise ShortRead(end)
        at = offset - self._window_at
        window = self._window
        if at >= 0 and at + length <= len(window):
            return window[at : at + length]
        return self._fetch_window(offset, length, ahead)[:length]

    def read_up_to(self, offset: int, length: int, ahead: int = READ_AHEAD) -> bytes:
        """Give *length* bytes from *offset* on, or fewer where the bytes end."""
        left = self.size - offset
        if left <= 0 or length <= 0:
            return b""
        return self.read(offset, min(length, left), ahead)

    def peek(self, offset: int, length: int) -> bytes:
        """
        Give a few bytes, or fewer where the bytes end, and read nothing around them.

        For walks in long jumps, which would read ahead in vain.
        """
        end = offset + length
        if end <= self._head_size:
            return self.head[offset:end]
        at = offset - self._window_at
        window = self._window
        if at >= 0 and at + length <= len(window):
            return window[at : at + length]
        if offset >= self.size:
            return b""
        if self._spent + length > self._budget:
            raise BudgetExceeded(self._budget)
        try:
            data = self._fetch(length, offset)
        except OSError as exc:
            raise _unreadable(exc) from exc
        self._spent += len(data)
        return data

    def part(self, offset: int, length: int) -> HeaderReader:
        """
        View a part as a file of its own, for a picture inside a picture.

        What the part reads is charged to this reader.
        """
        length = max(0, min(length, self.size - offset))

        def fetch(count: int, at: int) -> bytes:
            # The part has fetched with its own read-ahead already.
            return self.read_up_to(offset + at, min(count, length - at), 0)

        return HeaderReader(
            fetch, length, budget=max(HEAD_SIZE, self.bytes_left), tail=self.tail
        )

    def _fetch_window(self, offset: int, length: int, ahead: int) -> bytes:
        end = offset + length
        window, window_at = self._window, self._window_at
        # What is in memory already is not fetched a second time.
        if window_at <= offset < window_at + len(window):
            known = window[offset - window_at :]
        elif offset < self._head_size:
            known = self.head[offset:]
        else:
            known = b""
        start = offset + len(known)
        count = min(max(end, offset + ahead), self.size) - start
        left = self._budget - self._spent
        if count > left:
            count = end - start
            if count > left:
                raise BudgetExceeded(self._budget)
        try:
            data = self._fetch(count, start)
        except OSError as exc:
            raise _unreadable(exc) from exc
        self._spent += len(data)
        self._window = known = known + data
        self._window_at = offset
        if len(known) < length:
            raise ShortRead(end)
        return known
