"""A request to its reply, on either wire."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, cast

import httpx2

from qwenvl_prep.errors import (
    ApiError,
    ConnectionFailedError,
    DeadlineError,
    InterruptedStreamError,
    MissingKeyError,
    SendError,
    UnreadableReplyError,
)
from qwenvl_prep.reply import (
    Event,
    Reply,
    ReplyStream,
    error_class,
    event_of,
    is_refusal,
    json_object,
    reply_of,
)
from qwenvl_prep.request import STORE_HEADER, Wire, http_body

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from types import TracebackType

__all__ = ["KEY_VARIABLE", "Sender"]

KEY_VARIABLE = "DASHSCOPE_API_KEY"

# The mainland endpoints (RULES 4); other regions by base_url.
_BASE_URLS = {
    "openai": "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "dashscope": "https://dashscope.aliyuncs.com/api/v1",
}
_PATHS = {
    "openai": "/chat/completions",
    "dashscope": "/services/aigc/multimodal-generation/generation",
}

# An address in the provider's own store, as the value of a JSON string.
_STORED = re.compile(rb':\s*"oss://', re.IGNORECASE)

# A reply is text; more than this is no reply.
_MAX_REPLY_BYTES = 16 * 1024 * 1024

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class _Key(httpx2.Auth):
    """
    The API key, in the one object that knows it; never shown, never pickled.

    It puts itself into the header, so that no variable of a caller holds it when a
    traceback shows variables.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Put the key into a request, for httpx2."""
        request.headers["Authorization"] = f"Bearer {self._value}"
        yield request

    def blot_out(self, text: str) -> str:
        """Take the key out of a text that came from outside."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        return "<key ***>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An API key is not pickled; make a Sender where it is needed")


class Sender:
    """
    Send requests to the API and read its replies.

    Parameters
    ----------
    api_key : str, optional
        By default the environment variable ``DASHSCOPE_API_KEY``.
    base_url : str, optional
        Where the API lives, as the SDK of that wire takes it; by default mainland
        China's.  Plain ``http`` is only taken for this machine itself.
    wire : {"openai", "dashscope"}
        Form of the requests.
    timeout : float
        Seconds for one whole call.  Connecting, sending and the reply's headers are
        each bound by it, the reply's body by what is left of it.

    Raises
    ------
    MissingKeyError
        If there is no key.
    ValueError
        If *base_url* is not an address to send a key to.

    Examples
    --------
    >>> Sender(api_key="sk-something")
    <Sender openai at dashscope.aliyuncs.com>
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        wire: Wire = "openai",
        timeout: float = 120.0,
    ) -> None:
        if wire not in _BASE_URLS:
            raise ValueError(
                f"Expected 'openai' or 'dashscope' for wire but received {wire!r}"
            )
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"Expected a finite timeout above 0 seconds but received {timeout}"
            )
        key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE, "")
        key = key.strip()
        if not key:
            raise MissingKeyError(
                f"Expected an API key in api_key or in the environment variable "
                f"{KEY_VARIABLE} but there is none; the provider's console issues one"
            )
        if not (key.isascii() and key.isprintable()):
            raise MissingKeyError(
                "Expected an API key of printable ASCII characters; copy it again"
            )
        self._key = _Key(key)
        self._wire: Wire = wire
        self._base_url = _checked_url(base_url or _BASE_URLS[wire])
        self._timeout = timeout
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 10.0)),
            # A proxy of the environment would get a plain http request, key and all.
            trust_env=self._base_url.scheme == "https",
        )

    def send(self, request: Mapping[str, Any]) -> Reply:
        """
        Send a request and wait for the whole reply.

        Parameters
        ----------
        request : mapping
            From :func:`qwenvl_prep.chat_request`, for the wire of this sender.

        Raises
        ------
        SendError
            If there is no answer, or it is a refusal; see :mod:`qwenvl_prep.errors`.
        """
        with self._open(request, is_stream=False) as response:
            payload = self._json(self._read(response), response.status_code)
        return reply_of(payload, self._wire)

    def stream(self, request: Mapping[str, Any]) -> ReplyStream:
        """
        Send a request and hand the answer on piece by piece.

        Returns
        -------
        ReplyStream
            To be iterated once, or used as a context manager to stop early.
        """
        return ReplyStream(self._events(request))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sender {self._wire} at {self._base_url.host}>"

    def _events(self, request: Mapping[str, Any]) -> Iterator[Event]:
        so_far = ""
        with self._open(request, is_stream=True) as response:
            if not _is_event_stream(response):
                raise self._no_stream(response)
            try:
                for event in httpx2.EventSource(response):
                    if event.data.strip() == "[DONE]":
                        return
                    piece = self._event(event.event, event.data, response)
                    so_far += piece.text
                    yield piece
            except httpx2.TimeoutException:
                raise  # a deadline, not a broken stream; _open tells it so
            except httpx2.TransportError as exc:
                _forget_key(exc)
                raise InterruptedStreamError(
                    f"The stream broke off after {len(so_far)} characters "
                    f"({self._key.blot_out(str(exc))}); what was billed is unknown",
                    text=so_far,
                ) from exc

    def _event(self, kind: str, data: str, response: httpx2.Response) -> Event:
        payload = self._json(data.encode(), response.status_code)
        if kind == "error" or is_refusal(payload):
            raise self._refusal(payload, response)
        return event_of(payload, self._wire)

    def _no_stream(self, response: httpx2.Response) -> SendError:
        payload = self._json(self._read(response), response.status_code)
        if is_refusal(payload):
            return self._refusal(payload, response)
        return UnreadableReplyError(
            "Expected a stream of events but received one JSON object",
            status=response.status_code,
        )

    @contextmanager
    def _open(
        self, request: Mapping[str, Any], *, is_stream: bool
    ) -> Iterator[httpx2.Response]:
        """Send, and give the response of a success; the one door for httpx2."""
        body = _body(request, self._wire, is_stream=is_stream)
        content = json.dumps(body, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        if _STORED.search(content):
            headers[STORE_HEADER] = "enable"
        if is_stream and self._wire == "dashscope":
            headers["X-DashScope-SSE"] = "enable"
        deadline = time.monotonic() + self._timeout
        try:
            with self._client.stream(
                "POST",
                f"{self._base_url}{_PATHS[self._wire]}",
                content=content,
                headers=headers,
                auth=self._key,
            ) as response:
                response.stream = _TimedBody(response, deadline, self._timeout)
                if response.status_code != 200:
                    raise self._not_200(response)
                yield response
        except httpx2.TimeoutException as exc:
            _forget_key(exc)
            raise DeadlineError(
                f"Expected an answer within {self._timeout:g} s but there was none; "
                f"whether it was billed is unknown",
                seconds=self._timeout,
            ) from exc
        except httpx2.HTTPError as exc:
            _forget_key(exc)
            raise ConnectionFailedError(
                f"Expected an answer from {self._base_url.host} but the "
                f"connection failed: {self._key.blot_out(str(exc))}"
            ) from exc

    def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _MAX_REPLY_BYTES:
                raise UnreadableReplyError(
                    f"Expected a reply of at most {_MAX_REPLY_BYTES:,} bytes but more "
                    f"arrived",
                    status=response.status_code,
                )
        return bytes(body)

    def _json(self, body: bytes, status: int) -> dict[str, Any]:
        payload = json_object(body)
        if payload is None:
            raise UnreadableReplyError(
                f"Expected a JSON object but received status {status} with "
                f"{self._start(body)!r}",
                status=status,
            )
        return payload

    def _start(self, body: bytes) -> str:
        # Blotted out before it is cut, or half a key could be left at the cut.
        return self._key.blot_out(body.decode("utf-8", "replace"))[:200]

    def _not_200(self, response: httpx2.Response) -> ApiError:
        body = self._read(response)
        payload = json_object(body)
        if payload is None and response.status_code < 400:
            payload = self._json(body, response.status_code)
        # A gateway in between refuses with a page of its own; the status still counts.
        return self._refusal(payload or {"message": self._start(body)}, response)

    def _refusal(
        self, payload: Mapping[str, Any], response: httpx2.Response
    ) -> ApiError:
        error = payload.get("error")
        fields = error if isinstance(error, dict) else payload
        code = self._key.blot_out(str(fields.get("code") or fields.get("type") or ""))
        text = self._key.blot_out(str(fields.get("message") or "no message"))
        request_id = payload.get("request_id") or payload.get("id")
        if not isinstance(request_id, str):
            request_id = response.headers.get("x-request-id")
        if request_id is not None:
            request_id = self._key.blot_out(request_id)
        status = response.status_code
        return error_class(status, code)(
            f"The API refused with status {status}, {code or 'no code'}: {text}"
            + (f" (request {request_id})" if request_id else ""),
            status=status,
            code=code,
            request_id=request_id,
        )


def _checked_url(text: str) -> httpx2.URL:
    """Read an address with the parser that will send to it."""
    try:
        url = httpx2.URL(text.rstrip("/"))
    except httpx2.InvalidURL as exc:
        raise ValueError(f"Expected an https:// address for base_url: {exc}") from exc
    # First, so that no other message repeats a password.
    if url.userinfo or url.query or url.fragment:
        raise ValueError(
            "Expected a base_url without user, password, query and fragment"
        )
    is_local = url.scheme == "http" and url.host in _LOOPBACK
    is_host = url.host and "%" not in url.host and (url.port or 1) < 65_536
    if not is_host or not (url.scheme == "https" or is_local):
        raise ValueError(
            f"Expected an https:// address for base_url but received {text!r}; a key "
            f"is not sent unencrypted"
        )
    return url


def _body(request: Mapping[str, Any], wire: Wire, *, is_stream: bool) -> dict[str, Any]:
    """Give the HTTP body, with streaming as this call wants it."""
    wanted = {
        key: value
        for key, value in request.items()
        if key not in {"stream", "stream_options", "incremental_output"}
    }
    if is_stream and wire == "openai":
        wanted["stream"] = True
        wanted["stream_options"] = {"include_usage": True}
    elif is_stream:
        wanted["incremental_output"] = True
    return http_body(wanted, wire=wire)


class _TimedBody(httpx2.SyncByteStream):
    """The body of a response, until the deadline."""

    # httpx2's timeout is for one read: a trickle would never run into it, and a body
    # that stops late could take twice the time.

    def __init__(
        self, response: httpx2.Response, deadline: float, seconds: float
    ) -> None:
        self._stream = cast("httpx2.SyncByteStream", response.stream)
        network = response.extensions.get("network_stream")
        self._socket = network and network.get_extra_info("socket")
        self._deadline = deadline
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        watch = threading.Timer(max(self._deadline - time.monotonic(), 0), self._cut)
        watch.daemon = True
        watch.start()
        try:
            for piece in self._stream:
                self._check()
                yield piece
        except httpx2.TransportError:
            self._check()
            raise
        finally:
            watch.cancel()
        # Where no length was announced, a connection that was cut looks complete.
        self._check()

    def close(self) -> None:
        self._stream.close()

    def _cut(self) -> None:
        # Wakes a read that waits. The plain method: an SSL socket's own would pull its
        # state away from under that read.
        if self._socket is None:
            return
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _check(self) -> None:
        if time.monotonic() >= self._deadline:
            raise DeadlineError(
                f"Expected the whole answer within {self._seconds:g} s but it was "
                f"still arriving; it may have been billed",
                seconds=self._seconds,
            )


def _is_event_stream(response: httpx2.Response) -> bool:
    media_type = response.headers.get("Content-Type", "").partition(";")[0]
    return bool(media_type.strip().lower() == "text/event-stream")


def _forget_key(exc: httpx2.HTTPError) -> None:
    # httpx2's errors hold their request, and with it the header with the key.
    request = getattr(exc, "_request", None)
    if request is not None:
        request.headers.pop("Authorization", None)
