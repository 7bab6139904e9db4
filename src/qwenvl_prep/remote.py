"""What the header bytes behind an address say, and the whole file if that is wanted."""

from __future__ import annotations

import dataclasses
import logging
import re
import ssl
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urljoin

import httpcore2

from qwenvl_prep.addresses import CheckedAddress, check_fetchable, encoded, shown
from qwenvl_prep.errors import (
    AddressError,
    DamagedImageError,
    FetchDeadlineError,
    FetchError,
)
from qwenvl_prep.headers import BUDGET, HeaderReader, ImageInfo, read_header
from qwenvl_prep.headers.reader import HEAD_SIZE, BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

__all__ = ["Fetcher"]

# What one read of a socket gives at most, so that little arrives that nobody wants.
_PIECE = 16 * 1024
# A header that jumps about is not worth more round trips than this.
_MAX_REQUESTS = 32
# For heads, and for what stands between the bytes of a body. Without an end to it, a
# server could send such things at full speed until the deadline.
_MOST_AROUND = 1024 * 1024
# Stands for a length that no server tells; far above any file, far below 2^63.
_UNKNOWN = 1 << 48

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)
_LENGTH = re.compile(r"\d{1,18}")

_asking = threading.local()


def _shows_no_answer(record: logging.LogRecord) -> bool:
    """Tell whether a line of the library's log may be written."""
    # At level DEBUG it repeats all heads, where a redirect may hold a signature.
    is_ours: bool = getattr(_asking, "is_on", False)
    return not (is_ours and "receive_response_headers.complete" in str(record.msg))


logging.getLogger("httpcore2.http11").addFilter(_shows_no_answer)


class Fetcher:
    """
    Read pictures behind addresses; nothing else in this package does so unasked.

    One fetcher serves many addresses and threads, and keeps connections open for the
    next address of the same host.  Every address, and every redirect, is held against
    the rules of :func:`qwenvl_prep.addresses.check_fetchable` and connected to only
    at the IP addresses that were checked.  Certificates are verified for the name in
    the address.  No cookies, passwords, ``netrc`` or proxies of the environment are
    used: a proxy would resolve the name anew, where nobody checks the answer.

    Parameters
    ----------
    allow_private : bool
        Whether private and loopback places may be read, for tests and intranets.
    timeout : float
        Seconds for one whole call, from resolving to the last byte.
    max_bytes : int
        Largest file that :meth:`fetch` takes; by default what the API itself takes
        from an address.
    max_redirects : int
        Redirects that are followed in one call; from https to http none is.
    ssl_context : ssl.SSLContext, optional
        For an intranet with certificates of its own.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> with Fetcher(timeout=5) as fetcher:
    ...     fetcher.probe("http://169.254.169.254/latest/meta-data")
    Traceback (most recent call last):
    qwenvl_prep.errors.AddressError: Expected a public address but ...
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        timeout: float = 20.0,
        max_bytes: int = 20 * 1024 * 1024,
        max_redirects: int = 5,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"Expected a finite timeout above 0 seconds but received {timeout}"
            )
        if max_bytes < 1:
            raise ValueError(f"Expected max_bytes from 1 on but received {max_bytes}")
        if max_redirects < 0:
            raise ValueError(
                f"Expected max_redirects from 0 on but received {max_redirects}"
            )
        self._allow_private = allow_private
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._lock = threading.Lock()
        self._bytes_received = 0
        # Connecting and reading happen in the thread of the call that they are for.
        self._here = threading.local()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(),
            max_connections=None,
            max_keepalive_connections=10,
            keepalive_expiry=5.0,
            network_backend=_CheckedNetwork(self._here),
        )

    @property
    def bytes_received(self) -> int:
        """Bytes that all calls together have received, HTTP headers included."""
        return self._bytes_received

    def probe(
        self, url: str, *, frame: int | None = None, tail: bool = True
    ) -> ImageInfo:
        """
        Read what the header of a picture behind an address says.

        A few KiB by ranged requests; where a server gives no ranges, its answer is
        read from the start and broken off as soon as the header is complete.  Never
        more than 256 KiB of the file.

        Parameters
        ----------
        url : str
            An ``http`` or ``https`` address.
        frame : int, optional
            As for :func:`qwenvl_prep.probe`.
        tail : bool
            As for :func:`qwenvl_prep.probe_prefix`: False is enough to count tokens,
            and saves requests.

        Returns
        -------
        ImageInfo
            Its ``encoded_size`` is 0 if the server does not tell the length.

        Raises
        ------
        AddressError
            If the address, or one that it redirects to, is not fetched from here.
        FetchError
            If it does not give the file: not found, no connection, a wrong range.
        FetchDeadlineError
            If it takes longer than the timeout.
        ImageError
            What the bytes are refused for; see :func:`qwenvl_prep.probe`.
        """
        with self._call(url, BUDGET) as call:
            with self._open(call, (0, HEAD_SIZE - 1)) as answer:
                if answer.status != 206:
                    return _probe_stream(answer, frame, tail=tail)
                ranges = _Ranges(partial(self._open, call))
                size = ranges.take(answer, 0, HEAD_SIZE - 1)
            # Its connection is free again, for the parts that follow.
            try:
                reader = HeaderReader(
                    ranges.read, _UNKNOWN if size is None else size, tail=tail
                )
            except BudgetExceeded:
                raise answer.error("sends too few of them at a time") from None
            info = read_header(reader, frame)
        return info if size is not None else dataclasses.replace(info, encoded_size=0)

    def fetch(self, url: str) -> bytes:
        """
        Read the whole file behind an address.

        Parameters
        ----------
        url : str
            An ``http`` or ``https`` address.

        Returns
        -------
        bytes
            For :func:`qwenvl_prep.prepare`, which takes no address.

        Raises
        ------
        AddressError
            If the address, or one that it redirects to, is not fetched from here.
        FetchError
            If it does not give the file, or one above *max_bytes*.
        FetchDeadlineError
            If it takes longer than the timeout.
        """
        limit = self._max_bytes
        with self._call(url, limit) as call, self._open(call, None) as answer:
            if answer.length is not None and answer.length > limit:
                raise _too_large(answer, limit, f"announces {answer.length:,}")
            data = bytearray()
            for piece in answer.pieces:
                data += piece
                if len(data) > limit:
                    raise _too_large(answer, limit, "sends more")
            return bytes(data)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Fetcher {self._bytes_received:,} bytes received>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Fetcher is not pickled; make one where it is needed")

    @contextmanager
    def _call(self, url: str, most_bytes: int) -> Iterator[_Call]:
        """Keep the deadline of one call, and translate what the library raises."""
        call = _Call(url, self._timeout, self._max_redirects, most_bytes)
        try:
            yield call
        except httpcore2.TimeoutException as exc:
            raise FetchDeadlineError(
                f"Expected {call.address} to be read within {self._timeout:g} s but "
                f"it is slower",
                address=call.address,
                seconds=self._timeout,
            ) from exc
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as exc:
            # What a server sent instead of HTTP is not repeated to anybody.
            is_ours = isinstance(exc, httpcore2.NetworkError)
            why = str(exc)[:200] if is_ours else "its answer breaks off or is no HTTP"
            raise FetchError(
                f"Expected an answer from {call.address} but there is none: {why}",
                address=call.address,
            ) from exc
        finally:
            with self._lock:
                self._bytes_received += call.received

    @contextmanager
    def _open(self, call: _Call, span: tuple[int, int] | None) -> Iterator[_Answer]:
        """Ask for a file, or for some bytes of it, following redirects."""
        while True:
            if call.target is None:
                call.target = check_fetchable(
                    call.url, allow_private=self._allow_private, timeout=call.left()
                )
            with self._ask(call, call.target, span) as answer:
                if answer.status not in _REDIRECTS:
                    _check_answer(answer, span)
                    yield answer
                    return
                call.redirect(answer.headers.get("location"))

    @contextmanager
    def _ask(
        self, call: _Call, target: CheckedAddress, span: tuple[int, int] | None
    ) -> Iterator[_Answer]:
        self._here.call = call
        headers: dict[bytes | str, bytes | str] = {
            "Host": target.authority,
            "User-Agent": "qwenvl-prep",
            "Accept": "image/*, */*;q=0.1",
            # Compressed, the bytes and their positions would be others.
            "Accept-Encoding": "identity",
        }
        if span is not None:
            headers["Range"] = f"bytes={span[0]}-{span[1]}"
        url = httpcore2.URL(
            scheme=target.scheme,
            host=target.host,
            port=target.port,
            target=target.target,
        )
        _asking.is_on = True
        try:
            with self._pool.stream("GET", url, headers=headers) as response:
                yield _Answer(call.address, response)
        finally:
            _asking.is_on = False


class _Call:
    """One call: until when, to where, and how much has arrived."""

    __slots__ = (
        "_deadline",
        "_most_received",
        "_redirects_left",
        "received",
        "target",
        "url",
    )

    def __init__(
        self, url: str, seconds: float, max_redirects: int, most_bytes: int
    ) -> None:
        self.url = url
        self.target: CheckedAddress | None = None
        self.received = 0
        # In small chunks a body takes up to about twice its length.
        self._most_received = 2 * most_bytes + _MOST_AROUND
        self._redirects_left = max_redirects
        self._deadline = time.monotonic() + seconds

    @property
    def address(self) -> str:
        """The address without its secrets."""
        return shown(self.url)

    def left(self) -> float:
        """Give the seconds that are left, or say that there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.TimeoutException("the deadline of the call has passed")
        return left

    def count(self, length: int) -> None:
        """Count what has arrived, of a file or not, and stop where it is too much."""
        self.received += length
        if self.received > self._most_received:
            raise FetchError(
                f"Expected the bytes of a file from {self.address} but most of what it "
                f"sends is something else",
                address=self.address,
            )

    def redirect(self, location: str | None) -> None:
        """Go to where an answer points."""
        if self.target is None or not location:
            raise FetchError(
                f"Expected {self.address} to tell where it redirects to but it does "
                f"not",
                address=self.address,
            )
        self._redirects_left -= 1
        if self._redirects_left < 0:
            raise FetchError(
                f"Expected {self.address} to give the file but it redirects once more; "
                f"max_redirects sets the limit",
                address=self.address,
            )
        # The bytes as they came: most servers mean UTF-8.
        location = encoded(location.encode("latin-1"))
        try:
            url = urljoin(self.target.url, location)
        except ValueError:
            url = location  # refused as what it is
        if self.target.scheme == "https" and url[:7].lower() == "http://":
            raise AddressError(
                f"Expected {self.address} to stay with https but it redirects to "
                f"{shown(url)}",
                address=self.address,
            )
        self.url, self.target = url, None


class _Answer:
    """The head of a response, and its body as it comes."""

    __slots__ = ("address", "headers", "pieces", "status")

    def __init__(self, address: str, response: httpcore2.Response) -> None:
        self.address = address
        self.status = response.status
        headers: dict[str, str] = {}
        for raw_name, raw_value in response.headers:
            name = raw_name.decode("latin-1").lower()
            value = raw_value.decode("latin-1").strip()
            # Told twice is one list, as HTTP has it: neither of two hides the other.
            is_new = headers.setdefault(name, value) != value
            headers[name] = f"{headers[name]}, {value}" if is_new else value
        self.headers: Mapping[str, str] = headers
        self.pieces: Iterator[bytes] = response.iter_stream()

    @property
    def length(self) -> int | None:
        """The length that is announced, if it is."""
        text = self.headers.get("content-length", "")
        return int(text) if _LENGTH.fullmatch(text) else None

    def error(self, why: str) -> FetchError:
        """Build the error for an answer that does not fit the question."""
        return FetchError(
            f"Expected {self.address} to give its bytes but it {why}",
            address=self.address,
            status=self.status,
        )


class _Ranges:
    """The parts of a file that were asked for one after the other."""

    def __init__(
        self, ask: Callable[[tuple[int, int]], AbstractContextManager[_Answer]]
    ) -> None:
        self._ask = ask
        self._blocks: list[tuple[int, bytes]] = []
        self._size: int | None = None
        self._tag: tuple[str | None, str | None] = (None, None)
        self._spent = 0
        self._requests = 0

    def read(self, length: int, offset: int) -> bytes:
        """Give *length* bytes from *offset* on, as :class:`HeaderReader` asks."""
        data = b""
        while len(data) < length:
            at = offset + len(data)
            block = self._held(at) or self._fetched(at, length - len(data))
            data += block[: length - len(data)]
        return data

    def take(self, answer: _Answer, start: int, stop: int) -> int | None:
        """Keep a part, if it is the one asked for; give the size of the file."""
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None:
            raise answer.error("sends a part without telling which one")
        first, last = int(found[1]), int(found[2])
        size = None if found[3] == "*" else int(found[3])
        if (
            first != start
            or not start <= last <= stop
            or (size is not None and size <= last)
        ):
            raise answer.error("sends another part than the one asked for")
        tag = (answer.headers.get("etag"), answer.headers.get("last-modified"))
        if self._requests and (size, tag) != (self._size, self._tag):
            raise answer.error("changes while it is read")
        data = bytearray()
        for piece in answer.pieces:
            data += piece
            if len(data) > last - first + 1:
                raise answer.error("sends more bytes than it announces")
        if len(data) != last - first + 1:
            raise answer.error("sends fewer bytes than it announces")
        self._size, self._tag = size, tag
        self._requests += 1
        self._spent += len(data)
        self._blocks.append((start, bytes(data)))
        return size

    def _held(self, at: int) -> bytes:
        for start, block in reversed(self._blocks):
            if start <= at < start + len(block):
                return block[at - start :]
        return b""

    def _fetched(self, at: int, length: int) -> bytes:
        left = BUDGET - self._spent
        if length > left or self._requests >= _MAX_REQUESTS:
            raise BudgetExceeded(BUDGET)
        # Who reads on from the last block goes through all of it, as in a GIF: twice as
        # much each time keeps the round trips few.
        start, block = self._blocks[-1]
        ahead = 2 * len(block) if at == start + len(block) else HEAD_SIZE
        stop = at + min(max(length, ahead), left) - 1
        if self._size is not None:
            stop = min(stop, self._size - 1)
        with self._ask((at, stop)) as answer:
            if answer.status != 206:
                raise answer.error("gives parts at first and then no more")
            self.take(answer, at, stop)
        return self._blocks[-1][1]


class _Stream:
    """The beginning of a file whose server gives no ranges."""

    def __init__(self, answer: _Answer) -> None:
        self._pieces = answer.pieces
        self._data = bytearray()
        self.is_whole = False
        self.is_too_short = False

    def read(self, length: int, offset: int) -> bytes:
        """Give *length* bytes from *offset* on, as :class:`HeaderReader` asks."""
        if offset + length > BUDGET:
            self.is_too_short = True
            raise BudgetExceeded(BUDGET)
        self.read_to(offset + length)
        return bytes(self._data[offset : offset + length])

    def read_to(self, end: int) -> int:
        """Read until so many bytes are there, or all; give how many there are."""
        while len(self._data) < end and not self.is_whole:
            piece = next(self._pieces, None)
            if piece is None:
                self.is_whole = True
            else:
                self._data += piece
        return len(self._data)


def _probe_stream(answer: _Answer, frame: int | None, *, tail: bool) -> ImageInfo:
    stream = _Stream(answer)
    size = _UNKNOWN if answer.length is None else answer.length
    try:
        info = read_header(HeaderReader(stream.read, size, tail=tail), frame)
    except DamagedImageError:
        if size == _UNKNOWN:
            # Is something missing, or is it no picture? The end of the file tells.
            end = stream.read_to(BUDGET + 1)
            if stream.is_whole:
                return read_header(HeaderReader(stream.read, end, tail=tail), frame)
        if stream.is_too_short:
            raise answer.error(
                f"gives no ranges, and its first {BUDGET:,} bytes do not tell the size "
                f"of the picture"
            ) from None
        raise
    if size == _UNKNOWN:
        end = stream.read_to(0) if stream.is_whole else 0
        info = dataclasses.replace(info, encoded_size=end)
    return info


def _check_answer(answer: _Answer, span: tuple[int, int] | None) -> None:
    wanted = {200} if span is None else {200, 206}
    if answer.status not in wanted:
        raise answer.error(f"answers with status {answer.status}")
    coding = answer.headers.get("content-encoding", "identity").lower()
    if coding not in {"", "identity"}:
        raise answer.error("sends them compressed although it was asked not to")


def _too_large(answer: _Answer, limit: int, what: str) -> FetchError:
    return FetchError(
        f"Expected at most {limit:,} bytes from {answer.address} but it {what}; "
        f"max_bytes sets the limit",
        address=answer.address,
    )


class _CheckedNetwork(httpcore2.NetworkBackend):
    """Connects to checked IP addresses alone, and only until the deadline."""

    # httpcore2 asks with the name of the host, which it also verifies the certificate
    # by; where to connect is decided here. Its timeouts are for one read each, so that
    # a trickle would never run into them.

    def __init__(self, here: threading.local) -> None:
        self._here = here
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - see above
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to one of the IP addresses of the call in this thread."""
        call: _Call = self._here.call
        ips = call.target.ips if call.target else ()
        failure: Exception = httpcore2.ConnectError("there is no IP address")
        for tries_left, ip in zip(range(len(ips), 0, -1), ips, strict=True):
            try:
                stream = self._plain.connect_tcp(
                    ip,
                    port,
                    timeout=call.left() / tries_left,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                failure = exc
            else:
                return _TimedStream(stream, self._here)
        raise failure


class _TimedStream(httpcore2.NetworkStream):
    """A connection that knows how long the call that uses it may still take."""

    def __init__(self, stream: httpcore2.NetworkStream, here: threading.local) -> None:
        self._stream = stream
        self._here = here

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Read what is there, and count it."""
        call: _Call = self._here.call
        data = self._stream.read(min(max_bytes, _PIECE), call.left())
        call.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Write everything; a request of ours fits into any socket's buffer."""
        self._stream.write(buffer, self._here.call.left())

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        """Shake hands; the whole of it is bound by the timeout, not each read."""
        stream = self._stream.start_tls(
            ssl_context, server_hostname, self._here.call.left()
        )
        return _TimedStream(stream, self._here)

    def get_extra_info(self, info: str) -> Any:
        """Give what httpcore2 asks about the socket."""
        return self._stream.get_extra_info(info)
