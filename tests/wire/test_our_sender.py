"""Our sender against the endpoint: answers, refusals, and every way to fail."""

from __future__ import annotations

import gc
import json
import logging
import pickle
import socket
import threading
import time
from typing import ClassVar

import pytest

from qwenvl_prep import Sender, chat_request, errors, prepare

MODEL = "qwen-vl-max"


@pytest.fixture(params=["openai", "dashscope"])
def wire(request):
    """Each wire in turn."""
    return request.param


@pytest.fixture
def connect(endpoint):
    """Make senders to the endpoint that are closed with the test."""
    opened = []

    def connect(wire, **options):
        options = {"api_key": endpoint.key, "timeout": 10, **options}
        sender = Sender(wire=wire, base_url=endpoint.base_url(wire), **options)
        opened.append(sender)
        return sender

    yield connect
    for sender in opened:
        sender.close()


@pytest.fixture
def sender(connect, wire):
    """Give a sender of the wire with ten seconds for each call."""
    return connect(wire)


def ask(wire, text="What?", images=(), **options):
    return chat_request(images, text, model=MODEL, wire=wire, **options)


def chain(exc):
    """Give an exception and all that stand behind it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def shown(exc):
    """Everything a log or a crash report would take from an exception's chain."""
    texts = []
    for one in chain(exc):
        texts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        request = getattr(one, "_request", None)
        if request is not None:
            texts.append(repr(list(request.headers.raw)))
    return "\n".join(texts)


# Answers.


def test_reply_has_text_and_usage(sender, wire, assorted):
    """The reply tells what arrived, and bills what was predicted."""
    prepared = prepare(assorted, model=MODEL)
    reply = sender.send(ask(wire, images=[prepared]))
    (message,) = json.loads(reply.text)["messages"]
    assert message["parts"][0]["image"]["tokens"] == prepared.tokens
    assert reply.usage.image_tokens == prepared.tokens
    assert reply.usage.input_tokens > prepared.tokens
    assert reply.usage.output_tokens > 0
    assert reply.finish_reason == "stop"
    assert reply.request_id in {"chatcmpl-loopback", "loopback-request"}


def test_stream_gives_the_same_answer(sender, wire, picture):
    """Streamed pieces make up the text of the reply, with the same usage."""
    request = ask(wire, "图中描绘的是什么?", [picture(56, 84)], system="Be brief.")
    with sender.stream(request) as pieces:
        received = list(pieces)
    whole = sender.send(request)
    streamed = json.loads(pieces.reply.text)
    assert len(received) > 1
    assert "".join(received) == pieces.reply.text
    assert streamed["messages"] == json.loads(whole.text)["messages"]
    assert streamed["messages"][-1]["parts"][-1] == {"text": "图中描绘的是什么?"}
    assert pieces.reply.usage.image_tokens == whole.usage.image_tokens == 8
    assert pieces.reply.finish_reason == "stop"
    assert pieces.reply.request_id == whole.request_id


def test_call_decides_about_streaming(sender, wire):
    """send() never streams and stream() always does, whatever the request says."""
    for stream in (False, True):
        request = ask(wire, stream=stream)
        assert json.loads(sender.send(request).text)["stream"] is False
        pieces = sender.stream(request)
        assert json.loads("".join(pieces))["stream"] is True


def test_second_turn_takes_the_reply(sender, wire, picture):
    """A reply's as_message is the assistant's part of the history."""
    first = ask(wire, "Who?", [picture(56, 56)])
    reply = sender.send(first)
    history = [*first["messages"], reply.as_message()]
    second = sender.send(ask(wire, "And?", history=history))
    messages = json.loads(second.text)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0] == json.loads(reply.text)["messages"][0]
    assert messages[1]["parts"] == [{"text": reply.text}]


def test_history_of_the_other_wire_is_taken(connect, wire, picture):
    """Messages written for one wire are a history on the other."""
    other = {"openai": "dashscope", "dashscope": "openai"}[wire]
    frame = picture(56, 56)
    first = ask(other, "Who?", [picture(84, 56)], video=[frame] * 4)
    history = [*first["messages"], connect(other).send(first).as_message()]
    second = connect(wire).send(ask(wire, "And?", history=history))
    image, video, text = json.loads(second.text)["messages"][0]["parts"]
    assert image["image"]["height"] == 84
    assert len(video["video"]["frames"]) == 4
    assert text == {"text": "Who?"}


def test_high_resolution_reaches_the_server(sender, wire, picture):
    """The switch lifts the cap from 1227 to 2118 tokens for a 1280 pixel square."""
    data = picture(1280, 1280, "JPEG")
    usual = sender.send(ask(wire, images=[data]))
    high = sender.send(ask(wire, images=[data], high_resolution=True))
    assert usual.usage.image_tokens == 1227
    assert high.usage.image_tokens == 2118


def test_video_frames_arrive(sender, wire, picture):
    """Eighty frames arrive as one video."""
    frame = prepare(picture(56, 84, "JPEG"), model=MODEL)
    reply = sender.send(ask(wire, video=[frame] * 80))
    video = json.loads(reply.text)["messages"][0]["parts"][0]["video"]
    assert len(video["frames"]) == 80
    assert video["tokens"] == 40 * 6 + 2


def test_characters_cut_between_packets_are_whole(sender, wire):
    """A body in pieces of seven bytes keeps characters of three and four bytes."""
    request = ask(wire, "fault:chopped 图中描绘的是什么景象 🌅🌅🌅")
    pieces = sender.stream(request)
    streamed = json.loads("".join(pieces))
    plain = json.loads(sender.send(request).text)
    assert "景象 🌅🌅🌅" in streamed["messages"][0]["parts"][0]["text"]
    assert streamed["messages"] == plain["messages"]


def test_one_sender_serves_several_threads(sender, wire):
    """Calls from several threads each get their own answer."""
    answers = {}

    def run(name):
        answers[name] = json.loads(sender.send(ask(wire, name)).text)

    threads = [threading.Thread(target=run, args=(str(n),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = {n: a["messages"][0]["parts"][0]["text"] for n, a in answers.items()}
    assert texts == {str(n): str(n) for n in range(6)}


def test_address_in_the_providers_storage_is_announced(sender, wire):
    """An oss:// address goes with the header without which it is not resolved."""
    stored = ask(wire, images=["oss://bucket/cat.jpg"])
    public = ask(wire, images=["https://example.org/cat.jpg"])
    assert json.loads(sender.send(stored).text)["oss"] is True
    assert json.loads(sender.send(public).text)["oss"] is False


# Streams that are left early.


def test_stream_left_early_goes_on_or_ends(sender, wire):
    """A second loop goes on where the first one stopped; the reply is still whole."""
    with sender.stream(ask(wire)) as pieces:
        first = next(iter(pieces))
        rest = list(pieces)
    assert "".join([first, *rest]) == pieces.reply.text
    json.loads(pieces.reply.text)


def test_stream_left_early_leaves_nothing_open(sender, wire, monkeypatch):
    """A stream that is closed, dropped or never read ends at once, without the gc."""
    monkeypatch.setattr("threading.Timer", CountedTimer)
    monkeypatch.setattr(CountedTimer, "made", [])
    gc.disable()
    try:
        with sender.stream(ask(wire)) as pieces:
            next(iter(pieces))
        for _ in sender.stream(ask(wire)):
            break
        sender.stream(ask(wire))
        assert [timer.finished.is_set() for timer in CountedTimer.made] == [True, True]
    finally:
        gc.enable()
    with pytest.raises(errors.SendError, match="read to its end"):
        _ = pieces.reply
    assert sender.send(ask(wire)).finish_reason == "stop"


class CountedTimer(threading.Timer):
    """The watch over each body; finished as soon as the body is closed."""

    made: ClassVar[list[CountedTimer]] = []

    def __init__(self, *args):
        super().__init__(*args)
        self.made.append(self)


def test_error_of_the_caller_is_not_taken_for_the_network(sender, wire):
    """What the caller raises while reading a stream comes out unchanged."""

    def read():
        with sender.stream(ask(wire)) as pieces:
            for _ in pieces:
                raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        read()


# Refusals.

REFUSALS = [
    ("arrearage", errors.ArrearageError, 400, "Arrearage"),
    ("inspection", errors.ContentRefusedError, 400, "DataInspectionFailed"),
    ("denied", errors.AccessDeniedError, 403, "AccessDenied"),
    ("retired", errors.ModelNotFoundError, 404, "ModelNotFound"),
    ("too-large", errors.PayloadTooLargeError, 413, "TooLarge"),
    ("throttling", errors.ThrottledError, 429, "Throttling.RateQuota"),
    ("allocation", errors.ThrottledError, 429, "Throttling.AllocationQuota"),
    ("burst", errors.ThrottledError, 429, "Throttling.BurstRate"),
    ("no-quota", errors.QuotaExhaustedError, 429, "insufficient_quota"),
    ("internal", errors.ServerFailureError, 500, "InternalError"),
]


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("fault", "kind", "status", "code"), REFUSALS, ids=[row[0] for row in REFUSALS]
)
def test_each_refusal_has_its_class(sender, wire, fault, kind, status, code, is_stream):
    """A documented error becomes its class, with status, code and request id."""
    request = ask(wire, f"fault:{fault}")
    with pytest.raises(kind) as caught:
        list(sender.stream(request)) if is_stream else sender.send(request)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert squeezed(caught.value.code) == squeezed(code)
    assert caught.value.request_id == "refused-1"
    assert "refused-1" in str(caught.value)


def squeezed(code):
    return code.replace("_", "").lower()


def test_wrong_key_is_an_authentication_failure(connect, wire):
    """A key that the API does not know is 401, and is not repeated."""
    with pytest.raises(errors.AuthenticationFailedError) as caught:
        connect(wire, api_key="sk-some-other-key").send(ask(wire))
    assert caught.value.status == 401
    assert "sk-some-other-key" not in shown(caught.value)


def test_illegal_request_is_an_invalid_request(sender, wire):
    """A parameter that the API does not know is 400 with the API's own sentence."""
    request = {**ask(wire), "colour": "red"}
    with pytest.raises(errors.InvalidRequestError, match="colour") as caught:
        sender.send(request)
    assert caught.value.status == 400


def test_request_of_the_other_wire_is_refused(sender, wire):
    """A request that was built for the other wire is refused, not misread."""
    other = {"openai": "dashscope", "dashscope": "openai"}[wire]
    with pytest.raises(errors.InvalidRequestError):
        sender.send(ask(other))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(413, errors.PayloadTooLargeError), (502, errors.ServerFailureError)],
)
def test_page_of_a_gateway_has_the_class_of_its_status(sender, wire, status, kind):
    """A refusal in HTML, as gateways send it, is told by its status."""
    with pytest.raises(kind, match="From a gateway") as caught:
        sender.send(ask(wire, f"fault:page-{status}"))
    assert (caught.value.status, caught.value.code) == (status, "")
    assert caught.value.request_id is None


# Faults.


def test_dropped_connection_is_a_failed_connection(sender, wire):
    """A connection that ends before the answer begins is a failed one."""
    with pytest.raises(errors.ConnectionFailedError):
        sender.send(ask(wire, "fault:dropped"))
    with pytest.raises(errors.ConnectionFailedError):
        list(sender.stream(ask(wire, "fault:dropped")))


def test_cut_answer_is_a_failed_connection(sender, wire):
    """A connection that ends within a plain answer is a failed one."""
    with pytest.raises(errors.ConnectionFailedError):
        sender.send(ask(wire, "fault:cut"))


def test_nobody_listening_is_a_failed_connection(wire):
    """A port without a server is a failed connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        Sender(
            api_key="sk-x", base_url=f"http://127.0.0.1:{port}", wire=wire
        ) as sender,
        pytest.raises(errors.ConnectionFailedError),
    ):
        sender.send(ask(wire))


@pytest.mark.parametrize("fault", ["cut", "ends-early"])
def test_cut_stream_keeps_its_text(sender, wire, fault):
    """A stream that breaks off, with or without a proper end, keeps its text."""
    received = []
    with pytest.raises(errors.InterruptedStreamError) as caught:
        received.extend(sender.stream(ask(wire, f"fault:{fault}")))
    assert received
    assert caught.value.text == "".join(received)
    assert caught.value.text.startswith('{"model": "qwen-vl-max"')


def test_error_within_a_stream_has_its_class(sender, wire):
    """An error event ends the stream as the refusal that it is."""
    pieces = iter(sender.stream(ask(wire, "fault:stream-error")))
    assert next(pieces)
    with pytest.raises(errors.ThrottledError) as caught:
        list(pieces)
    assert caught.value.status == 200
    assert caught.value.code == "Throttling.RateQuota"
    assert caught.value.request_id == "refused-1"


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", ["trickle", "silence", "late-stall"])
def test_slow_answer_ends_at_the_deadline(connect, wire, fault, is_stream):
    """
    Whether bytes trickle, stop or never come, the deadline ends the call.

    The faults would go on for many times five seconds; a busy machine may be late.
    """
    sender = connect(wire, timeout=0.6)
    request = ask(wire, f"fault:{fault}")
    started = time.monotonic()
    with pytest.raises(errors.DeadlineError) as caught:
        list(sender.stream(request)) if is_stream else sender.send(request)
    assert 0.5 < time.monotonic() - started < 5
    assert caught.value.seconds == 0.6


def test_comments_do_not_keep_a_stream_alive(connect, wire):
    """A stream of nothing but comments has no event, and ends at the deadline."""
    started = time.monotonic()
    with pytest.raises(errors.DeadlineError):
        list(connect(wire, timeout=0.5).stream(ask(wire, "fault:comments")))
    assert time.monotonic() - started < 5


def test_endless_answer_is_not_read_on(sender, wire):
    """An answer without end is given up, not collected."""
    with pytest.raises(errors.UnreadableReplyError, match="at most 16,777,216 bytes"):
        sender.send(ask(wire, "fault:endless"))
    with pytest.raises(errors.InterruptedStreamError):
        list(sender.stream(ask(wire, "fault:endless")))


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", ["malformed", "no-object"])
def test_what_is_not_an_object_is_unreadable(sender, wire, fault, is_stream):
    """An answer or event that is not a JSON object is unreadable."""
    request = ask(wire, f"fault:{fault}")
    with pytest.raises(errors.UnreadableReplyError) as caught:
        list(sender.stream(request)) if is_stream else sender.send(request)
    assert caught.value.status == 200


@pytest.mark.parametrize("fault", ["deep", "no-choices", "ends-early"])
def test_what_is_no_reply_is_unreadable(sender, wire, fault):
    """Nesting without end, no choices, half an object: all unreadable."""
    with pytest.raises(errors.UnreadableReplyError):
        sender.send(ask(wire, f"fault:{fault}"))


def test_plain_answer_to_a_stream_is_unreadable(connect, wire):
    """An answer under a label that is no stream's is unreadable, not interrupted."""
    with pytest.raises(errors.UnreadableReplyError):
        list(connect(wire).stream(ask(wire, "fault:no-stream")))


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
def test_redirect_is_not_followed(sender, wire, is_stream):
    """A redirect is unreadable; the key goes nowhere else."""
    request = ask(wire, "fault:redirect")
    with pytest.raises(errors.UnreadableReplyError) as caught:
        list(sender.stream(request)) if is_stream else sender.send(request)
    assert caught.value.status == 307


# The key.

LEAKS = [
    "arrearage",
    "key-in-refusal",
    "key-in-page",
    "key-in-garbage",
    "redirect",
    "dropped",
    "cut",
    "late-stall",
    "trickle",
    "malformed",
    "endless",
]


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", LEAKS)
def test_no_error_shows_the_key(connect, endpoint, wire, fault, is_stream, caplog):
    """No error, nothing behind it and no log line holds the key or half of it."""
    caplog.set_level(logging.DEBUG)
    sender = connect(wire, timeout=0.5 if fault in {"late-stall", "trickle"} else 10)
    request = ask(wire, f"fault:{fault}")
    with pytest.raises(errors.SendError) as caught:
        list(sender.stream(request)) if is_stream else sender.send(request)
    half = endpoint.key[: len(endpoint.key) // 2]
    assert half not in shown(caught.value)
    assert half not in caplog.text
    assert half not in repr(pickle.dumps(caught.value))


def test_no_answer_shows_the_key(sender, endpoint, wire, caplog, picture):
    """Neither a reply, whole or streamed, nor the log of it holds the key."""
    caplog.set_level(logging.DEBUG)
    request = ask(wire, images=[picture(56, 56)])
    reply = sender.send(request)
    pieces = sender.stream(request)
    "".join(pieces)
    for one in (reply, pieces.reply):
        assert endpoint.key not in repr(one) + json.dumps(one.raw) + repr(one.usage)
    assert endpoint.key not in repr(pieces) + repr(vars(pieces))
    assert "HTTP Request: POST" in caplog.text
    assert endpoint.key not in caplog.text


def test_proxy_of_the_environment_gets_no_plain_request(endpoint, wire, monkeypatch):
    """A plain request to this machine does not go through a proxy, key and all."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        with Sender(
            api_key=endpoint.key,
            base_url=endpoint.base_url(wire),
            wire=wire,
            timeout=5,
        ) as sender:
            assert sender.send(ask(wire)).finish_reason == "stop"
