"""A request to its reply, on either wire."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import httpx2

from qwenvl_prep.errors import (
    AccessDeniedError,
    ApiError,
    ArrearageError,
    AuthenticationFailedError,
    ConnectionFailedError,
    ContentRefusedError,
    DeadlineError,
    InterruptedStreamError,
    InvalidRequestError,
    MissingKeyError,
    ModelNotFoundError,
    PayloadTooLargeError,
    QuotaExhaustedError,
    SendError,
    ServerFailureError,
    ThrottledError,
    UnreadableReplyError,
)
from qwenvl_prep.request import STORE_HEADER, Wire, http_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

__all__ = ["Reply", "ReplyStream", "Sender", "Usage"]

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

# A reply is text; more than this is no reply.
_MAX_REPLY_BYTES = 16 * 1024 * 1024

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class _Key:
    """The API key, in the one object that knows it; never shown, never pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def header(self) -> str:
        return f"Bearer {self._value}"

    def blot_out(self, text: str) -> str:
        """Take the key out of a text that came from outside."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        return "<key ***>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An API key is not pickled; make a Sender where it is needed")


@dataclass(frozen=True, slots=True)
class Usage:
    """
    Tokens as the server billed them.

    Attributes
    ----------
    input_tokens, output_tokens : int
        Billed tokens; images are part of the input.
    image_tokens : int or None
        Part of the input that images are; None where the server does not tell.
    """

    input_tokens: int
    output_tokens: int
    image_tokens: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """
    What the model answered.

    Attributes
    ----------
    text : str
        The answer.
    usage : Usage or None
        Tokens billed; None where the server did not tell.
    finish_reason : str
        Why the answer ended, for example ``"stop"`` or ``"length"``.
    request_id : str or None
        The id that the provider's support asks for.
    raw : mapping
        The reply as it came; of a stream, the last event.
    """

    text: str
    usage: Usage | None
    finish_reason: str
    request_id: str | None
    raw: Mapping[str, Any] = field(default_factory=dict)

    def as_message(self) -> dict[str, str]:
        """Give the answer as a message for the *history* of the next request."""
        return {"role": "assistant", "content": self.text}

    def __repr__(self) -> str:
        billed = f"{self.usage.input_tokens:,} tokens in" if self.usage else "no usage"
        return f"<Reply of {len(self.text):,} characters, {billed}>"


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
        Seconds for one whole call, from the first byte sent to the last received.

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
                f"Expected 'openai' or 'dashscope' for wire but got {wire!r}"
            )
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"Expected a finite timeout above 0 seconds but got {timeout}"
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
        return _reply(payload, self._wire)

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

    def _events(self, request: Mapping[str, Any]) -> Iterator[_Event]:
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

    def _event(self, kind: str, data: str, response: httpx2.Response) -> _Event:
        payload = self._json(data.encode(), response.status_code)
        if kind == "error" or _is_refusal(payload):
            raise self._refusal(payload, response)
        return _event(payload, self._wire)

    def _no_stream(self, response: httpx2.Response) -> SendError:
        payload = self._json(self._read(response), response.status_code)
        if _is_refusal(payload):
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
        headers = {"Authorization": self._key.header()}
        if b'"oss://' in content:
            headers[STORE_HEADER] = "enable"
        if is_stream and self._wire == "dashscope":
            headers["X-DashScope-SSE"] = "enable"
        deadline = time.monotonic() + self._timeout
        try:
            with self._client.stream(
                "POST",
                f"{self._base_url}{_PATHS[self._wire]}",
                content=content,
                headers={**headers, "Content-Type": "application/json"},
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
        payload = _object(body)
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
        payload = _object(body)
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
        status = response.status_code
        return _error_class(status, code)(
            f"The API refused with status {status}, {code or 'no code'}: {text}"
            + (f" (request {request_id})" if request_id else ""),
            status=status,
            code=code,
            request_id=request_id,
        )


@dataclass(frozen=True, slots=True)
class _Event:
    """One event of a stream, of either wire."""

    text: str
    usage: Usage | None
    finish_reason: str
    request_id: str | None
    raw: Mapping[str, Any]


class ReplyStream:
    """
    The pieces of an answer as they arrive; after the last one, the whole reply.

    Examples
    --------
    ::

        with sender.stream(request) as pieces:
            for piece in pieces:
                print(piece, end="", flush=True)
        print(pieces.reply.usage)
    """

    def __init__(self, events: Iterator[_Event]) -> None:
        self._events = events
        self._seen: list[_Event] = []
        self._reply: Reply | None = None

    def __iter__(self) -> Iterator[str]:
        # A second loop goes on where the first one stopped.
        for event in self._events:
            self._seen.append(event)
            if event.text:
                yield event.text
        if self._reply is None:
            self._reply = self._put_together()

    def _put_together(self) -> Reply:
        text = "".join(event.text for event in self._seen)
        usage = None
        finish_reason = ""
        request_id = None
        raw: Mapping[str, Any] = {}
        for event in self._seen:
            raw = event.raw
            usage = event.usage or usage
            request_id = event.request_id or request_id
            finish_reason = event.finish_reason or finish_reason
        if not finish_reason:
            raise InterruptedStreamError(
                f"The stream ended after {len(text)} characters without saying that "
                f"it was complete",
                text=text,
            )
        return Reply(text, usage, finish_reason, request_id, raw)

    @property
    def reply(self) -> Reply:
        """
        The whole reply.

        Raises
        ------
        SendError
            If the stream has not been read to its end.
        """
        if self._reply is None:
            raise SendError("Expected a stream that was read to its end")
        return self._reply

    def close(self) -> None:
        """Stop reading and give the connection back."""
        close = getattr(self._events, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ReplyStream {'complete' if self._reply else 'not read yet'}>"


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


def _is_refusal(payload: Mapping[str, Any]) -> bool:
    # Both keys are also sent empty, beside an answer.
    return bool(payload.get("error") or payload.get("code"))


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def _forget_key(exc: httpx2.HTTPError) -> None:
    # httpx2's errors hold their request, and with it the header with the key.
    request = getattr(exc, "_request", None)
    if request is not None:
        request.headers.pop("Authorization", None)


def _error_class(status: int, code: str) -> type[ApiError]:
    """Choose the error for a refusal; codes come in PascalCase and in snake_case."""
    name = code.replace("_", "").replace(".", "").lower()
    by_code: dict[str, type[ApiError]] = {
        "invalidapikey": AuthenticationFailedError,
        "arrearage": ArrearageError,
        "datainspectionfailed": ContentRefusedError,
        "modelnotfound": ModelNotFoundError,
        "insufficientquota": QuotaExhaustedError,
        # Inside a stream the status is 200 and only the code tells.
        "invalidparameter": InvalidRequestError,
        "accessdenied": AccessDeniedError,
        "internalerror": ServerFailureError,
    }
    by_status: dict[int, type[ApiError]] = {
        400: InvalidRequestError,
        401: AuthenticationFailedError,
        403: AccessDeniedError,
        404: ModelNotFoundError,
        413: PayloadTooLargeError,
        429: ThrottledError,
    }
    if name in by_code:
        return by_code[name]
    if name.startswith("throttling"):
        return ThrottledError
    if status in by_status:
        return by_status[status]
    return ServerFailureError if status >= 500 else ApiError


def _reply(payload: Mapping[str, Any], wire: Wire) -> Reply:
    event = _event(payload, wire)
    choices = _choices(payload, wire)
    if not choices:
        raise UnreadableReplyError(
            "Expected a reply with choices but there is none", status=200
        )
    return Reply(
        event.text, event.usage, event.finish_reason, event.request_id, payload
    )


def _choices(payload: Mapping[str, Any], wire: Wire) -> list[Any]:
    holder = payload if wire == "openai" else payload.get("output")
    choices = holder.get("choices") if isinstance(holder, dict) else None
    return choices if isinstance(choices, list) else []


def _event(payload: Mapping[str, Any], wire: Wire) -> _Event:
    """Read a reply or one event of a stream; a missing field is an empty one."""
    text = ""
    finish_reason = ""
    for choice in _choices(payload, wire)[:1]:
        if not isinstance(choice, dict):
            continue
        message = choice.get("message") or choice.get("delta")
        if isinstance(message, dict):
            text = _text(message.get("content"))
        reason = choice.get("finish_reason")
        # DashScope sends the word "null" until the last event.
        finish_reason = reason if isinstance(reason, str) and reason != "null" else ""
    request_id = payload.get("request_id") or payload.get("id")
    return _Event(
        text,
        _usage(payload.get("usage")),
        finish_reason,
        request_id if isinstance(request_id, str) else None,
        payload,
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(part for part in parts if isinstance(part, str))


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    images = usage.get("image_tokens")
    if images is None and isinstance(details, dict):
        images = details.get("image_tokens")
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    made = usage.get("completion_tokens", usage.get("output_tokens"))
    if not isinstance(given, int) or not isinstance(made, int):
        return None
    return Usage(given, made, images if isinstance(images, int) else None)
