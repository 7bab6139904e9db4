"""Requests for both wires, as the official SDKs take them and as HTTP bodies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from qwenvl_prep.addresses import check_address
from qwenvl_prep.budget import fit
from qwenvl_prep.errors import (
    ImagesRefusedError,
    QwenVLPrepError,
    RequestError,
    without_frames,
)
from qwenvl_prep.prepare import PreparedImage, prepare
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sources import is_stored, is_url, listed
from qwenvl_prep.video import check_frame_count, frame_profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Wire", "chat_request", "from_http_body", "http_body", "warn_unreachable"]

_log = logging.getLogger("qwenvl_prep")

Wire: TypeAlias = Literal["openai", "dashscope"]

_WIRES = ("openai", "dashscope")
_ROLES = frozenset({"system", "user", "assistant"})

# The header that lets the API read oss:// addresses (RULES 4).
STORE_HEADER = "X-DashScope-OssResourceResolve"

# Keys that may stand beside an image or video in a message.
_BESIDE_MEDIA = ("min_pixels", "max_pixels", "fps")

# What the DashScope SDK takes beside model and messages; all go to "parameters".
_NOT_PARAMETERS = frozenset({"model", "messages", "stream"})


def chat_request(
    images: Iterable[Any] = (),
    text: str = "",
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    wire: Wire = "openai",
    system: str | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    video: Iterable[Any] = (),
    stream: bool = False,
    high_resolution: bool = False,
) -> dict[str, Any]:
    """
    Build a request that either official SDK takes as it is.

    ``openai.OpenAI(...).chat.completions.create(**request)`` for the first wire,
    ``dashscope.MultiModalConversation.call(**request)`` for the second;
    :func:`http_body` gives the JSON for plain HTTP.

    An address is handed on and never fetched here.  One that the server cannot reach,
    as far as its host tells, is warned of by the logger ``"qwenvl_prep"``.

    Parameters
    ----------
    images : iterable
        Prepared images, addresses that the server fetches itself (``https://…``,
        ``oss://…``), or inputs of :func:`qwenvl_prep.prepare`, mixed at will.
    text : str
        The question; it follows the images.
    model : str or ModelProfile
        Model that will answer.
    wire : {"openai", "dashscope"}
        Form of the messages.
    system : str, optional
        The system prompt.
    history : sequence of mapping
        Earlier messages, oldest first, of either wire or with plain string content;
        an assistant's reply has the role ``"assistant"``.
    video : iterable
        The frames of one video, in order; each as in *images*.
    stream : bool
        Whether the reply arrives piece by piece.
    high_resolution : bool
        Whether to set ``vl_high_resolution_images``.

    Returns
    -------
    dict
        Keyword arguments for the SDK of that wire.

    Raises
    ------
    RequestError
        If there is nothing to ask, a message is malformed or the number of frames
        is not legal.
    BudgetError
        If the images whose tokens are known do not fit one request by themselves.
    ImagesRefusedError
        If some inputs are refused; carries every one of them with its reason.
    ModelFeatureError
        If the model has no high resolution or takes no video.
    ValueError
        If an image was prepared for another model or resolution.

    Examples
    --------
    >>> request = chat_request(["https://example.org/cat.jpg"], "What is this?")
    >>> [part["type"] for part in request["messages"][0]["content"]]
    ['image_url', 'text']
    """
    profile = get_model(model)
    if wire not in _WIRES:
        raise ValueError(
            f"Expected 'openai' or 'dashscope' for wire but received {wire!r}"
        )
    profile.cap_pixels(high_resolution=high_resolution)
    _check_texts([text, system, *history])
    images, video = list(listed(images)), list(listed(video))
    # Before any frame is prepared: the model may take none of them.
    if video:
        check_frame_count(len(video), profile)
    pictures, frames = _ready(images, video, profile, high_resolution)
    if not (pictures or frames or text):
        raise RequestError("Expected at least one image, a video or a text")
    _check_pictures(pictures, profile, high_resolution)

    content = [_image_part(picture, wire) for picture in pictures]
    if frames:
        content.append(_video_part(frames, wire))
    if text:
        content.append(_text_part(text, wire))
    messages: list[dict[str, Any]] = []
    if system is not None:
        messages.append({"role": "system", "content": [_text_part(system, wire)]})
    messages.extend(_earlier(message, wire) for message in history)
    if sum(message["role"] == "system" for message in messages) > 1:
        raise RequestError(
            "Expected one system prompt but the history has one already; drop system"
        )
    messages.append({"role": "user", "content": content})
    warn_unreachable(messages)

    request: dict[str, Any] = {"model": profile.name, "messages": messages}
    if stream:
        request["stream"] = True
        if wire == "openai":
            request["stream_options"] = {"include_usage": True}
        else:
            request["incremental_output"] = True
    if high_resolution:
        if wire == "openai":
            # The SDK refuses arguments that it does not know, but hands these on.
            request["extra_body"] = {"vl_high_resolution_images": True}
        else:
            request["vl_high_resolution_images"] = True
    if wire == "openai" and any(is_stored(image) for image in (*pictures, *frames)):
        # Without it the API does not look into the provider's own store.
        request["extra_headers"] = {STORE_HEADER: "enable"}
    return request


def warn_unreachable(messages: Iterable[Mapping[str, Any]]) -> None:
    """
    Log a warning for each address in messages that the server cannot reach.

    Nothing is resolved or fetched, and no address is shown with its query.
    """
    for message in messages:
        parts = message.get("content")
        for part in parts if isinstance(parts, list) else ():
            for address in dict.fromkeys(_addresses(part)):
                for finding in check_address(address):
                    _log.warning("%s; %s", finding.message, finding.remedy)


def _addresses(part: Any) -> list[str]:
    if not isinstance(part, Mapping):
        return []
    image_url, video = part.get("image_url"), part.get("video")
    found = [part.get("image")]
    found += [image_url.get("url")] if isinstance(image_url, Mapping) else []
    found += video if isinstance(video, (list, tuple)) else []
    return [address for address in found if isinstance(address, str)]


def http_body(request: Mapping[str, Any], *, wire: Wire = "openai") -> dict[str, Any]:
    """
    Bring a request to the JSON that the API takes over plain HTTP.

    Parameters
    ----------
    request : mapping
        From :func:`chat_request`.
    wire : {"openai", "dashscope"}
        The wire that it was built for.

    Returns
    -------
    dict
        For ``/chat/completions``, or for DashScope's multimodal generation, where
        streaming is asked for by the header ``X-DashScope-SSE: enable`` instead.

    Examples
    --------
    >>> request = chat_request(text="Hello", wire="dashscope")
    >>> sorted(http_body(request, wire="dashscope"))
    ['input', 'model', 'parameters']
    """
    if wire == "openai":
        only_sdk = {"extra_body", "extra_headers"}
        body = {key: value for key, value in request.items() if key not in only_sdk}
        return {**body, **request.get("extra_body", {})}
    parameters = {
        key: value for key, value in request.items() if key not in _NOT_PARAMETERS
    }
    return {
        "model": request["model"],
        "input": {"messages": request["messages"]},
        "parameters": parameters,
    }


def from_http_body(body: Any) -> tuple[dict[str, Any], Wire]:
    """
    Take a body of :func:`http_body` back to a request, and tell its wire.

    Raises
    ------
    RequestError
        If it is no such body.

    Examples
    --------
    >>> request = chat_request(text="Hello", wire="dashscope")
    >>> from_http_body(http_body(request, wire="dashscope")) == (request, "dashscope")
    True
    """
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        if isinstance(body.get("messages"), list):
            return body, "openai"
        inner, parameters = body.get("input"), body.get("parameters", {})
        if (
            isinstance(inner, dict)
            and isinstance(inner.get("messages"), list)
            and isinstance(parameters, dict)
        ):
            messages = inner["messages"]
            return {"model": body["model"], "messages": messages, **parameters}, (
                "dashscope"
            )
    raise RequestError(
        "Expected the body of a chat request with model and messages but received "
        "something else; the request command writes one"
    )


def _ready(
    images: Sequence[Any],
    frames: Sequence[Any],
    model: ModelProfile,
    high_resolution: bool,
) -> tuple[list[PreparedImage | str], list[PreparedImage | str]]:
    """Prepare what is not an address or prepared already; collect all refusals."""
    refused: list[tuple[int, str, QwenVLPrepError]] = []

    def ready(
        items: Sequence[Any], noun: str, reader: ModelProfile, *, is_high: bool
    ) -> list[PreparedImage | str]:
        made: list[PreparedImage | str] = []
        for index, item in enumerate(items):
            if isinstance(item, PreparedImage) or is_url(item):
                made.append(item)
                continue
            try:
                made.append(prepare(item, model=reader, high_resolution=is_high))
            except QwenVLPrepError as exc:
                refused.append((index, f"{noun} {index + 1}", without_frames(exc)))
        return made

    pictures = ready(images, "image", model, is_high=high_resolution)
    video: list[PreparedImage | str] = []
    if frames:
        # A frame has a cap of its own, which sinks as their number grows.
        of_frames = frame_profile(model, len(frames))
        video = ready(frames, "frame", of_frames, is_high=False)
    if refused:
        raise ImagesRefusedError(
            f"{len(refused)} of {len(images) + len(frames)} images were refused: "
            + "; ".join(f"{name}: {exc}" for _, name, exc in refused),
            refused=tuple(refused),
        )
    return pictures, video


def _check_texts(value: Any) -> None:
    """Refuse text that no UTF-8 can carry, wherever in the messages it stands."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_texts(item)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise RequestError(
                f"Expected text that can be written as UTF-8 but it holds half a "
                f"character at position {exc.start}; decode the input properly"
            ) from None


def _check_pictures(
    pictures: Sequence[PreparedImage | str], model: ModelProfile, high_resolution: bool
) -> None:
    if model.max_images is not None and len(pictures) > model.max_images:
        raise RequestError(
            f"Expected at most {model.max_images} images for {model.name} but "
            f"received {len(pictures)}; spread them over several requests"
        )
    # Text is left out: its bound may refuse what the server accepts. What the images
    # alone exceed, it refuses for certain.
    known = [picture for picture in pictures if isinstance(picture, PreparedImage)]
    fit(known, model=model, high_resolution=high_resolution)


def _address(image: PreparedImage | str) -> str:
    return image if isinstance(image, str) else image.data_uri


def _image_part(image: PreparedImage | str, wire: Wire) -> dict[str, Any]:
    if wire == "openai":
        return {"type": "image_url", "image_url": {"url": _address(image)}}
    return {"image": _address(image)}


def _video_part(frames: Sequence[PreparedImage | str], wire: Wire) -> dict[str, Any]:
    addresses = [_address(frame) for frame in frames]
    if wire == "openai":
        return {"type": "video", "video": addresses}
    return {"video": addresses}


def _text_part(text: str, wire: Wire) -> dict[str, Any]:
    return {"type": "text", "text": text} if wire == "openai" else {"text": text}


def _earlier(message: Mapping[str, Any], wire: Wire) -> dict[str, Any]:
    """Bring one message of a history to this wire."""
    if hasattr(message, "model_dump"):  # a message object of the OpenAI SDK
        message = message.model_dump()
    if not isinstance(message, Mapping):
        raise RequestError(
            f"Expected a message with role and content in history but received "
            f"{type(message).__name__}"
        )
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise RequestError(
            f"Expected the role 'system', 'user' or 'assistant' in history but "
            f"received {role!r}"
        )
    if isinstance(content, str):
        return {"role": role, "content": [_text_part(content, wire)]}
    if not isinstance(content, (list, tuple)):
        raise RequestError(
            f"Expected text or a list of parts in a message of the {role} but "
            f"received {type(content).__name__}"
        )
    return {"role": role, "content": [_earlier_part(part, wire) for part in content]}


def _earlier_part(part: Any, wire: Wire) -> dict[str, Any]:
    if isinstance(part, Mapping):
        # What stands beside an address changes its token count, so it is handed on.
        beside = {key: part[key] for key in _BESIDE_MEDIA if key in part}
        image_url = part.get("image_url")
        address = image_url.get("url") if isinstance(image_url, Mapping) else None
        if isinstance(part.get("text"), str):
            return _text_part(part["text"], wire)
        if isinstance(part.get("image"), str):
            return {**_image_part(part["image"], wire), **beside}
        if isinstance(address, str):
            return {**_image_part(address, wire), **beside}
        if isinstance(part.get("video"), (list, tuple)):
            return {**_video_part(part["video"], wire), **beside}
    raise RequestError(
        "Expected a part with text, an image or video frames in history but received "
        "something else"
    )
