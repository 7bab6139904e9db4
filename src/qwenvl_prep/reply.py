"""What the server said: a reply, a piece of one, or a refusal, of either wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwenvl_prep.errors import (
    AccessDeniedError,
    ApiError,
    ArrearageError,
    AuthenticationFailedError,
    ContentRefusedError,
    InterruptedStreamError,
    InvalidRequestError,
    ModelNotFoundError,
    PayloadTooLargeError,
    QuotaExhaustedError,
    SendError,
    ServerFailureError,
    ThrottledError,
    UnreadableReplyError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from qwenvl_prep.request import Wire

__all__ = [
    "Event",
    "Reply",
    "ReplyStream",
    "Usage",
    "error_class",
    "event_of",
    "is_refusal",
    "json_object",
    "reply_of",
]


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


@dataclass(frozen=True, slots=True)
class Event:
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

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._seen: list[Event] = []
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


def is_refusal(payload: Mapping[str, Any]) -> bool:
    """Tell a refusal from an answer, whatever the status said."""
    # Both keys are also sent empty, beside an answer.
    return bool(payload.get("error") or payload.get("code"))


def json_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def error_class(status: int, code: str) -> type[ApiError]:
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


def reply_of(payload: Mapping[str, Any], wire: Wire) -> Reply:
    """Read a whole reply of either wire."""
    event = event_of(payload, wire)
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


def event_of(payload: Mapping[str, Any], wire: Wire) -> Event:
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
    return Event(
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
