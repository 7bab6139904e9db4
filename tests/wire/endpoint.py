"""
The API's rules, stated a second time: an endpoint on this machine for both wires.

Nothing here is shared with the package under test: the models, the size rule, the
format table and the error bodies are written down again from the provider's pages.
What arrives is checked and counted, and the answer's text is a JSON report of it.

``fault:<name>`` in the last message's text makes it fail in that way.  It runs as a
script in a process of its own, with the descriptor of a listening socket.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import json
import math
import os
import re
import socket
import sys
import threading

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

try:
    from pillow_heif import register_heif_opener

    register_heif_opener()
except ImportError:
    pass

KEY = "sk-loopback-0123456789abcdef"
MAX_DATA_URI = 10_485_760

# factor, least and most pixels, most in high resolution, most input tokens,
# video frames, pixels of one frame, and whether the longer format list holds.
SEED_FORMATS = "BMP DIB ICNS ICO JPEG MPO JPEG2000 PNG SGI TIFF WEBP"
LATER_FORMATS = "BMP JPEG MPO PNG TIFF WEBP HEIF"
MODELS = {
    "qwen-vl-max": {
        "factor": 28,
        "pixels": (3_136, 1_003_520, 12_845_056),
        "max_input": 30_720,
        "frames": (4, 80),
        "frame_pixels": (3_136, 602_112),
        "formats": SEED_FORMATS.split(),
    },
    "qwen-vl-plus": {
        "factor": 28,
        "pixels": (3_136, 1_003_520, None),
        "max_input": 30_720,
        "frames": None,
        "frame_pixels": None,
        "formats": SEED_FORMATS.split(),
    },
    "qwen3-vl-plus": {
        "factor": 32,
        "pixels": (65_536, 2_621_440, 16_777_216),
        "max_input": 260_096,
        "frames": (4, 2000),
        "frame_pixels": (4 * 32 * 32, 640 * 32 * 32),
        "formats": LATER_FORMATS.split(),
    },
}
MEDIA_TYPES = {
    "BMP": "image/bmp",
    "DIB": "image/bmp",
    "HEIF": "image/heic",
    "ICNS": "image/icns",
    "ICO": "image/x-icon",
    "JPEG": "image/jpeg",
    "JPEG2000": "image/jp2",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "SGI": "image/sgi",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}

# status, code on DashScope's wire, code on OpenAI's, message
REFUSALS = {
    "arrearage": (400, "Arrearage", "Arrearage", "Access denied, account overdue."),
    "inspection": (
        400,
        "DataInspectionFailed",
        "data_inspection_failed",
        "Input data may contain inappropriate content.",
    ),
    "denied": (403, "AccessDenied", "access_denied", "Access denied."),
    "retired": (404, "ModelNotFound", "model_not_found", "Model can not be found."),
    "too-large": (413, "TooLarge", "TooLarge", "Payload Too Large"),
    "throttling": (
        429,
        "Throttling.RateQuota",
        "Throttling.RateQuota",
        "Requests rate limit exceeded, please try again later.",
    ),
    "allocation": (
        429,
        "Throttling.AllocationQuota",
        "Throttling.AllocationQuota",
        "Allocated quota exceeded, please increase your quota limit.",
    ),
    "burst": (
        429,
        "Throttling.BurstRate",
        "Throttling.BurstRate",
        "Request rate increased too quickly.",
    ),
    "no-quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota.",
    ),
    "internal": (500, "InternalError", "internal_error", "An internal error."),
}

OPENAI_KEYS = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "vl_high_resolution_images",
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
}
DASHSCOPE_PARAMETERS = {
    "vl_high_resolution_images",
    "incremental_output",
    "result_format",
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
}


class RefusedError(Exception):
    """One documented error, in the words of both wires."""

    def __init__(self, status: int, code: str, openai_code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.openai_code = openai_code


def invalid(message: str) -> RefusedError:
    return RefusedError(400, "InvalidParameter", "invalid_parameter_error", message)


# The size rule.


def resized(
    height: int, width: int, factor: int, least: int, most: int
) -> tuple[int, int]:
    """Round to the grid, then shrink below the most or grow above the least."""
    h = round(height / factor) * factor
    w = round(width / factor) * factor
    if h * w > most:
        beta = math.sqrt(height * width / most)
        h = math.floor(height / beta / factor) * factor
        w = math.floor(width / beta / factor) * factor
    elif h * w < least:
        beta = math.sqrt(least / (height * width))
        h = math.ceil(height * beta / factor) * factor
        w = math.ceil(width * beta / factor) * factor
    return h, w


def image_tokens(height: int, width: int, model: dict, *, high: bool) -> int:
    least, most, highest = model["pixels"]
    cap = highest if high and highest else most
    h, w = resized(height, width, model["factor"], least, cap)
    return h * w // model["factor"] ** 2 + 2


def video_tokens(frames: list[dict], model: dict) -> int:
    seen = [frame for frame in frames if "height" in frame]
    if not seen:
        return 0
    least, most = model["frame_pixels"]
    h, w = resized(seen[0]["height"], seen[0]["width"], model["factor"], least, most)
    return math.ceil(len(frames) / 2) * (h * w // model["factor"] ** 2) + 2


# What one picture must be.


def look_at(address: object, model: dict) -> dict:
    """Check one address and say what it holds; what is remote is never fetched."""
    if not isinstance(address, str) or not address:
        raise invalid("The image url must be a string.")
    if address.startswith(("http://", "https://", "oss://")):
        return {"url": address}
    if len(address.encode()) > MAX_DATA_URI:
        raise invalid(
            f"Exceeded limit on max bytes per data-uri item : {MAX_DATA_URI}'."
        )
    match = re.fullmatch(r"data:([a-z]+/[a-z0-9.+-]+);base64,(.*)", address, re.DOTALL)
    if match is None:
        raise invalid("The provided URL does not appear to be valid.")
    try:
        data = base64.b64decode(match[2], validate=True)
        image = Image.open(io.BytesIO(data))
        image.load()
    except (binascii.Error, OSError, SyntaxError, ValueError) as exc:
        raise invalid(
            f"The image format is illegal and cannot be opened: {exc}"
        ) from exc
    width, height = image.size
    if image.format not in model["formats"]:
        raise invalid(f"The image format {image.format} is illegal for this model.")
    if MEDIA_TYPES[image.format] != match[1]:
        raise invalid(f"The label {match[1]} does not belong to {image.format}.")
    if min(height, width) <= 10:
        raise invalid(
            f"The image length and width do not meet the model restrictions. "
            f"[height:{height} or width:{width} must be larger than 10]"
        )
    if max(height, width) > 200 * min(height, width):
        raise invalid(
            f"The image length and width do not meet the model restrictions. "
            f"[absolute aspect ratio must be smaller than 200, got "
            f"{max(height, width) / min(height, width)}]"
        )
    return {
        "media_type": match[1],
        "height": height,
        "width": width,
        "orientation": image.getexif().get(0x0112, 1),
        "alpha": image.has_transparency_data,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


# What a request must be.


def openai_part(part: object) -> tuple[str, object]:
    if isinstance(part, dict):
        kind = part.get("type")
        if kind == "text" and set(part) == {"type", "text"}:
            return "text", part["text"]
        if kind == "image_url" and isinstance(part.get("image_url"), dict):
            return "image", part["image_url"].get("url")
        if kind == "video":
            return "video", part.get("video")
    raise invalid("The content field is invalid: unknown part.")


def dashscope_part(part: object) -> tuple[str, object]:
    if isinstance(part, dict) and len(part) == 1:
        kind, value = next(iter(part.items()))
        if kind in {"text", "image", "video"}:
            return kind, value
    raise invalid("The content field is invalid: unknown part.")


def read_part(kind: str, value: object, model: dict, *, high: bool) -> dict:
    if kind == "text":
        if not isinstance(value, str):
            raise invalid("The text of a part must be a string.")
        return {"text": value}
    if kind == "image":
        seen = look_at(value, model)
        tokens = 0
        if "height" in seen:
            tokens = image_tokens(seen["height"], seen["width"], model, high=high)
        return {"image": {**seen, "tokens": tokens}}
    if model["frames"] is None:
        raise invalid("The model does not take video.")
    least, most = model["frames"]
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise invalid(f"The video modality input must have {least} to {most} frames.")
    frames = [look_at(frame, model) for frame in value]
    return {"video": {"frames": frames, "tokens": video_tokens(frames, model)}}


def read_messages(messages: object, wire: str, model: dict, *, high: bool) -> list:
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list that is not empty.")
    seen = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise invalid("A message has a role and content.")
        role, content = message["role"], message["content"]
        if role not in {"system", "user", "assistant"} or (role == "system" and index):
            raise invalid(f"The role {role!r} is not legal here.")
        if wire == "openai" and isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list) or not content:
            raise invalid("content must be a list that is not empty.")
        split = openai_part if wire == "openai" else dashscope_part
        parts = [read_part(*split(part), model, high=high) for part in content]
        if role != "user" and any("text" not in part for part in parts):
            raise invalid(f"The {role} speaks in text only.")
        seen.append({"role": role, "parts": parts})
    if seen[-1]["role"] != "user":
        raise invalid("The last message must be the user's.")
    return seen


class Question:
    """One request, checked and counted."""

    def __init__(self, body: object, wire: str, headers: dict[str, str]) -> None:
        if headers.get("authorization") != f"Bearer {KEY}":
            raise RefusedError(
                401, "InvalidApiKey", "invalid_api_key", "Invalid API-key provided."
            )
        if not isinstance(body, dict):
            raise invalid("The body must be a JSON object.")
        if wire == "openai":
            options, messages, known = body, body.get("messages"), OPENAI_KEYS
            self.stream = body.get("stream", False)
            self.has_usage = bool(
                (body.get("stream_options") or {}).get("include_usage")
            )
            self.is_incremental = True
        else:
            if not set(body) <= {"model", "input", "parameters"}:
                raise invalid("The body has model, input and parameters.")
            options, known = body.get("parameters") or {}, DASHSCOPE_PARAMETERS
            messages = (body.get("input") or {}).get("messages")
            self.stream = headers.get("x-dashscope-sse") == "enable"
            self.has_usage = True
            self.is_incremental = options.get("incremental_output", False)
        if unknown := set(options) - known:
            raise invalid(f"Unknown: {sorted(unknown)}")
        if body.get("model") not in MODELS:
            raise RefusedError(*REFUSALS["retired"])
        model = MODELS[body["model"]]
        high = options.get("vl_high_resolution_images", False)
        if not isinstance(high, bool):
            raise invalid("vl_high_resolution_images must be a boolean.")
        self.wire = wire
        # Whether addresses of the provider's own storage would be resolved.
        self.has_oss = headers.get("x-dashscope-ossresourceresolve") == "enable"
        self.model = body["model"]
        self.messages = read_messages(messages, wire, model, high=high)
        parts = [part for message in self.messages for part in message["parts"]]
        self.image_tokens = sum(p["image"]["tokens"] for p in parts if "image" in p)
        self.video_tokens = sum(p["video"]["tokens"] for p in parts if "video" in p)
        self.text = "".join(part.get("text", "") for part in parts)
        # The chat template with the default system prompt, and about what text takes.
        self.text_tokens = 19 + math.ceil(len(self.text.encode()) / 4)
        self.input_tokens = self.image_tokens + self.video_tokens + self.text_tokens
        if self.image_tokens + self.video_tokens >= model["max_input"]:
            raise invalid(f"Range of input length should be [1, {model['max_input']}]")
        self.high = high
        last = "".join(part.get("text", "") for part in self.messages[-1]["parts"])
        fault = re.search(r"fault:([a-z0-9-]+)", last)
        self.fault = fault[1] if fault else ""
        self.answer = json.dumps(self.report(), ensure_ascii=False)

    def report(self) -> dict:
        """Say what arrived."""
        return {
            "model": self.model,
            "wire": self.wire,
            "high_resolution": self.high,
            "stream": self.stream,
            "oss": self.has_oss,
            "messages": self.messages,
        }

    def usage(self) -> dict:
        """Count as the wire does."""
        made = math.ceil(len(self.answer) / 4)
        if self.wire == "openai":
            return {
                "prompt_tokens": self.input_tokens,
                "completion_tokens": made,
                "total_tokens": self.input_tokens + made,
                "prompt_tokens_details": {
                    "image_tokens": self.image_tokens,
                    "video_tokens": self.video_tokens,
                    "text_tokens": self.text_tokens,
                },
            }
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": made,
            "total_tokens": self.input_tokens + made,
            "image_tokens": self.image_tokens,
            "video_tokens": self.video_tokens,
        }


# The answer, whole.


def openai_reply(question: Question) -> dict:
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": question.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": question.answer},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": question.usage(),
        "system_fingerprint": None,
    }


def dashscope_reply(question: Question, text: str, reason: str) -> dict:
    message = {"role": "assistant", "content": [{"text": text}] if text else []}
    return {
        "output": {"choices": [{"finish_reason": reason, "message": message}]},
        "usage": question.usage(),
        "request_id": "loopback-request",
    }


def refusal(error: RefusedError, wire: str) -> JSONResponse:
    return JSONResponse(refusal_body(error, wire), status_code=error.status)


def refusal_body(error: RefusedError, wire: str) -> dict:
    if wire == "openai":
        fields = {
            "code": error.openai_code,
            "message": str(error),
            "param": None,
            "type": error.openai_code,
        }
        return {"error": fields, "id": "chatcmpl-refused", "request_id": "refused-1"}
    return {"code": error.code, "message": str(error), "request_id": "refused-1"}


# The answer, piece by piece.


def pieces(text: str) -> list[str]:
    size = max(1, math.ceil(len(text) / 4))
    return [text[start : start + size] for start in range(0, len(text), size)]


def dump(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False)


def openai_events(question: Question) -> list[bytes]:
    def chunk(choices: list, usage: dict | None) -> bytes:
        value = {
            "id": "chatcmpl-loopback",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": question.model,
            "choices": choices,
            "usage": usage,
        }
        return f"data: {dump(value)}\n\n".encode()

    def choice(delta: dict, reason: str | None) -> list:
        return [{"index": 0, "delta": delta, "finish_reason": reason}]

    events = [chunk(choice({"role": "assistant", "content": ""}, None), None)]
    events += [
        chunk(choice({"content": piece}, None), None)
        for piece in pieces(question.answer)
    ]
    events.append(chunk(choice({"content": ""}, "stop"), None))
    if question.has_usage:
        events.append(chunk([], question.usage()))
    events.append(b"data: [DONE]\n\n")
    return events


def dashscope_events(question: Question) -> list[bytes]:
    parts = pieces(question.answer)
    events = []
    for index, piece in enumerate([*parts, ""]):
        text = piece if question.is_incremental else "".join(parts[: index + 1])
        reason = "stop" if index == len(parts) else "null"
        value = dump(dashscope_reply(question, text, reason))
        head = f"id:{index + 1}\nevent:result\n:HTTP_STATUS/200\n"
        events.append(f"{head}data:{value}\n\n".encode())
    return events


def error_event(wire: str) -> bytes:
    body = dump(refusal_body(RefusedError(*REFUSALS["throttling"]), wire))
    if wire == "openai":
        return f"data: {body}\n\n".encode()
    return f"id:3\nevent:error\n:HTTP_STATUS/429\ndata:{body}\n\n".encode()


# What can go wrong beside the documented refusals.


async def fault(question: Question, drop) -> Response | None:
    """Answer as the fault wants it; None where it is only a refusal."""
    name = question.fault
    kind = "text/event-stream" if question.stream else "application/json"
    events = dashscope_events if question.wire == "dashscope" else openai_events
    if question.stream:
        whole = events(question)
    else:
        reply = (
            openai_reply(question)
            if question.wire == "openai"
            else dashscope_reply(question, question.answer, "stop")
        )
        whole = [dump(reply).encode()]
    every = b"".join(whole)

    async def body():
        if name == "trickle":
            for one in every:
                yield bytes([one])
                await asyncio.sleep(0.2)
        elif name == "chopped":
            for start in range(0, len(every), 7):
                yield every[start : start + 7]
        elif name == "late-stall":
            await asyncio.sleep(0.4)
            yield every[: len(every) // 2]
            await asyncio.sleep(30)
        elif name == "comments":
            while True:
                yield b": still here\n\n"
                await asyncio.sleep(0.05)
        elif name == "endless":
            while True:
                yield b" " * 262_144
                await asyncio.sleep(0)
        elif name == "cut":
            yield b"".join(whole[:3]) if question.stream else every[: len(every) // 2]
            await asyncio.sleep(0.05)
            drop()
        elif name == "ends-early":
            yield b"".join(whole[:3]) if question.stream else every[: len(every) // 2]
        elif name == "stream-error":
            yield b"".join(whole[:3])
            yield error_event(question.wire)
        elif name == "malformed":
            yield b'data: {"choices": [\n\n' if question.stream else b'{"choices": ['
        elif name == "no-object":
            yield b"data: [1]\n\n" if question.stream else b"[1]"
        elif name == "no-choices":
            yield b"{}"
        elif name == "deep":
            yield b'{"a":' * 200_000

    if name in REFUSALS:
        raise RefusedError(*REFUSALS[name])
    if name == "key-in-refusal":
        raise RefusedError(400, f"Odd.{KEY}", f"Odd.{KEY}", f"Not with {KEY}!")
    if name == "key-in-page":
        page = "x" * (200 - len(KEY) // 2) + KEY + "x" * 20
        return Response(page, 502, media_type="text/html")
    if name == "key-in-garbage":
        return Response("x" * (200 - len(KEY) // 2) + KEY + "x" * 20, 200)
    if name.startswith("page-"):
        return Response(
            "<h1>From a gateway</h1>", int(name[5:]), media_type="text/html"
        )
    if name == "redirect":
        return Response(status_code=307, headers={"location": "/elsewhere"})
    if name == "dropped":
        drop()
        return Response()
    if name == "silence":
        await asyncio.sleep(30)
        return Response()
    if name == "no-stream":
        return Response(every, media_type="application/json")
    return StreamingResponse(body(), media_type=kind)


def answer(question: Question) -> Response:
    if question.stream:
        events = openai_events if question.wire == "openai" else dashscope_events

        async def body():
            for event in events(question):
                yield event
                await asyncio.sleep(0)

        return StreamingResponse(body(), media_type="text/event-stream;charset=UTF-8")
    if question.wire == "openai":
        return JSONResponse(openai_reply(question))
    return JSONResponse(dashscope_reply(question, question.answer, "stop"))


def handler(wire: str):
    async def handle(request) -> Response:
        try:
            try:
                body = json.loads(await request.body())
            except ValueError as exc:
                raise invalid("The body is not JSON.") from exc
            question = Question(body, wire, dict(request.headers))
            if question.fault:
                return await fault(question, request.scope["drop"])
            return answer(question)
        except RefusedError as exc:
            return refusal(exc, wire)

    return handle


async def healthy(request) -> Response:  # noqa: ARG001 - the route hands it over
    return Response("ready")


async def elsewhere(request) -> Response:
    await request.body()
    return JSONResponse({"seen": request.headers.get("authorization")})


routes = Starlette(
    routes=[
        Route("/healthy", healthy),
        Route("/elsewhere", elsewhere, methods=["GET", "POST"]),
        Route(
            "/compatible-mode/v1/chat/completions", handler("openai"), methods=["POST"]
        ),
        Route(
            "/api/v1/services/aigc/multimodal-generation/generation",
            handler("dashscope"),
            methods=["POST"],
        ),
    ]
)


async def app(scope, receive, send) -> None:
    # A connection that breaks off has no place in ASGI; uvicorn's transport does it.
    if scope["type"] == "http":
        scope["drop"] = lambda: send.__self__.transport.abort()
    await routes(scope, receive, send)


def end_with_the_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    listener = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(app, log_level="warning", http="h11", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])
