"""Requests of both wires, and what is refused before anything is sent."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from qwenvl_prep import (
    chat_request,
    errors,
    http_body,
    prepare,
    probe,
    smart_resize,
)
from qwenvl_prep.request import from_http_body

MODEL = "qwen-vl-max"
CAT = "https://example.org/cat.jpg"
DOG = "oss://bucket/dog.png"


def square(side=56):
    return np.zeros((side, side, 3), np.uint8)


# The shapes.


def test_openai_request_is_what_the_sdk_takes():
    """System, images, video and text stand in their order in the SDK's arguments."""
    assert chat_request(
        [CAT, DOG], "Which?", model=MODEL, system="Be brief.", video=[CAT] * 4
    ) == {
        "model": "qwen-vl-max",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": CAT}},
                    {"type": "image_url", "image_url": {"url": DOG}},
                    {"type": "video", "video": [CAT, CAT, CAT, CAT]},
                    {"type": "text", "text": "Which?"},
                ],
            },
        ],
        # DOG lies in the provider's own store.
        "extra_headers": {"X-DashScope-OssResourceResolve": "enable"},
    }


def test_dashscope_request_is_what_the_sdk_takes():
    """The same request in DashScope's shorter parts."""
    assert chat_request(
        [CAT, DOG],
        "Which?",
        model=MODEL,
        wire="dashscope",
        system="Be brief.",
        video=[CAT] * 4,
    ) == {
        "model": "qwen-vl-max",
        "messages": [
            {"role": "system", "content": [{"text": "Be brief."}]},
            {
                "role": "user",
                "content": [
                    {"image": CAT},
                    {"image": DOG},
                    {"video": [CAT, CAT, CAT, CAT]},
                    {"text": "Which?"},
                ],
            },
        ],
    }


def test_openai_switches():
    """Streaming asks for usage; what the SDK does not know goes by extra_body."""
    request = chat_request(text="?", model=MODEL, stream=True, high_resolution=True)
    del request["messages"]
    assert request == {
        "model": "qwen-vl-max",
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra_body": {"vl_high_resolution_images": True},
    }


def test_dashscope_switches():
    """Streaming asks for new text only; the SDK takes all switches as they are."""
    request = chat_request(
        text="?", model=MODEL, wire="dashscope", stream=True, high_resolution=True
    )
    del request["messages"]
    assert request == {
        "model": "qwen-vl-max",
        "stream": True,
        "incremental_output": True,
        "vl_high_resolution_images": True,
    }


def test_openai_body():
    """Over HTTP, extra_body is part of the body itself."""
    request = chat_request(text="Hello", model=MODEL, stream=True, high_resolution=True)
    request["max_tokens"] = 5
    assert http_body(request) == {
        "model": "qwen-vl-max",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "vl_high_resolution_images": True,
        "max_tokens": 5,
    }
    assert request["extra_body"] == {"vl_high_resolution_images": True}


def test_dashscope_body():
    """Over HTTP, messages are the input, switches are parameters, stream a header."""
    request = chat_request(
        text="Hello",
        model=MODEL,
        wire="dashscope",
        stream=True,
        high_resolution=True,
    )
    request["max_tokens"] = 5
    assert http_body(request, wire="dashscope") == {
        "model": "qwen-vl-max",
        "input": {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]},
        "parameters": {
            "incremental_output": True,
            "vl_high_resolution_images": True,
            "max_tokens": 5,
        },
    }


def test_body_without_switches():
    """Without switches, parameters are empty and nothing else appears."""
    request = chat_request([CAT], model=MODEL, wire="dashscope")
    assert http_body(request, wire="dashscope") == {
        "model": "qwen-vl-max",
        "input": {"messages": [{"role": "user", "content": [{"image": CAT}]}]},
        "parameters": {},
    }
    assert list(http_body(chat_request([CAT], model=MODEL))) == ["model", "messages"]


def test_images_are_sent_as_prepared(tmp_path):
    """A prepared image, a path and bytes all become the same data URI."""
    prepared = prepare(square(), model=MODEL, encoding="png")
    path = tmp_path / "square.png"
    path.write_bytes(prepared.data)
    content = chat_request(
        iter([prepared, path, str(path), prepared.data, prepared.data_uri]), model=MODEL
    )["messages"][0]["content"]
    label = "data:image/png;base64,"
    uri = label + base64.b64encode(prepared.data).decode()
    assert [part["image_url"]["url"] for part in content] == [uri] * 5


def test_request_is_json():
    """A request is plain JSON, also in other alphabets."""
    request = chat_request([square()], "图中描绘的是什么景象?", model=MODEL)
    assert json.loads(json.dumps(request)) == request


# The history.

OPENAI_HISTORY = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": CAT}},
            {"type": "video", "video": [DOG, DOG, DOG, DOG]},
            {"type": "text", "text": "What?"},
        ],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
]
DASHSCOPE_HISTORY = [
    {"role": "system", "content": [{"text": "Be brief."}]},
    {
        "role": "user",
        "content": [{"image": CAT}, {"video": [DOG, DOG, DOG, DOG]}, {"text": "What?"}],
    },
    {"role": "assistant", "content": [{"text": "A cat."}]},
]


@pytest.mark.parametrize(
    "history", [OPENAI_HISTORY, DASHSCOPE_HISTORY], ids=["openai", "dashscope"]
)
@pytest.mark.parametrize(
    ("wire", "expected"),
    [("openai", OPENAI_HISTORY), ("dashscope", DASHSCOPE_HISTORY)],
    ids=["to-openai", "to-dashscope"],
)
def test_history_of_either_wire_becomes_this_wires(history, wire, expected):
    """Earlier messages of both wires come out in the form of the one asked for."""
    request = chat_request(text="Why?", model=MODEL, wire=wire, history=history)
    assert request["messages"][:-1] == expected
    assert request["messages"][-1]["role"] == "user"


@pytest.mark.parametrize(
    ("wire", "part"),
    [("openai", {"type": "text", "text": "A cat."}), ("dashscope", {"text": "A cat."})],
)
def test_plain_content_becomes_a_part(wire, part):
    """Content that is only a string becomes one text part."""
    history = [{"role": "assistant", "content": "A cat.", "refusal": None}]
    request = chat_request(text="Why?", model=MODEL, wire=wire, history=history)
    assert request["messages"][0] == {"role": "assistant", "content": [part]}


def test_limits_of_an_earlier_image_are_kept():
    """Keys beside an address, such as max_pixels, stay on OpenAI's wire."""
    part = {"type": "image_url", "image_url": {"url": CAT}, "max_pixels": 50_176}
    history = [{"role": "user", "content": [part]}]
    request = chat_request(text="Why?", model=MODEL, history=history)
    assert request["messages"][0]["content"] == [part]


def test_history_is_not_changed():
    """The caller's messages are read, never written to."""
    before = json.dumps(OPENAI_HISTORY)
    chat_request(text="Why?", model=MODEL, wire="dashscope", history=OPENAI_HISTORY)
    assert json.dumps(OPENAI_HISTORY) == before


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "tool", "content": "5"}, "received 'tool'"),
        ({"content": "5"}, "received None"),
        ({"role": "user"}, "received NoneType"),
        ({"role": "user", "content": 5}, "received int"),
        ("What?", "received str"),
        ({"role": "user", "content": ["What?"]}, "Expected a part"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "Expected a part"),
        ({"role": "user", "content": [{"text": 5}]}, "Expected a part"),
        ({"role": "user", "content": [{"image_url": CAT}]}, "Expected a part"),
        ({"role": "user", "content": [{"image": None}]}, "Expected a part"),
    ],
)
def test_malformed_history_is_refused(message, reason):
    """A role or a part that the API does not know is refused, and named."""
    with pytest.raises(errors.RequestError, match=reason):
        chat_request(text="Why?", model=MODEL, history=[message])


# Refusals.


def test_empty_request_is_refused():
    """No image, no video and no text is no question."""
    with pytest.raises(errors.RequestError, match="at least one image"):
        chat_request(model=MODEL, system="Be brief.")


@pytest.mark.parametrize("count", [1, 3, 81])
def test_illegal_number_of_frames_is_refused(count):
    """A video has 4 to 80 frames."""
    with pytest.raises(
        errors.RequestError, match=f"4 to 80 frames .* received {count};"
    ):
        chat_request(video=[CAT] * count, model=MODEL)


@pytest.mark.parametrize("count", [4, 80])
def test_legal_number_of_frames_is_taken(count):
    """Both ends of the range are legal."""
    content = chat_request(video=[CAT] * count, model=MODEL)["messages"][0]["content"]
    assert content == [{"type": "video", "video": [CAT] * count}]


def test_model_without_video_is_refused():
    """qwen-vl-plus takes no video."""
    with pytest.raises(errors.ModelFeatureError) as caught:
        chat_request(video=[CAT] * 4, model="qwen-vl-plus")
    assert (caught.value.model, caught.value.feature) == ("qwen-vl-plus", "video")


def test_model_without_high_resolution_is_refused():
    """qwen-vl-plus has no high resolution."""
    with pytest.raises(errors.ModelFeatureError) as caught:
        chat_request([CAT], model="qwen-vl-plus", high_resolution=True)
    assert caught.value.feature == "high_resolution"


def test_too_many_tokens_are_refused():
    """25 images of 1227 tokens fit below 30,720, the 26th does not."""
    prepared = prepare(square(1280), model=MODEL)
    chat_request([prepared] * 25, "?", model=MODEL)
    with pytest.raises(errors.BudgetError) as caught:
        chat_request([prepared] * 26, "?", model=MODEL)
    assert (caught.value.needed, caught.value.limit) == (31_921, 30_720)
    assert caught.value.fits == 25
    assert len(caught.value.items) == 26


def test_too_many_images_are_refused():
    """256 images are the most for a later model, addresses included."""
    chat_request([CAT] * 256, model="qwen3-vl-plus")
    with pytest.raises(errors.RequestError, match="at most 256 images"):
        chat_request([CAT] * 257, model="qwen3-vl-plus")


def test_all_refused_images_are_carried(tmp_path):
    """Every refused image is told with its position, not only the first."""
    with pytest.raises(errors.ImagesRefusedError, match="3 of 5") as caught:
        chat_request(
            [b"%PDF-1.7", square(), square(10), CAT, tmp_path / "none.png"],
            model=MODEL,
        )
    assert [(index, type(exc)) for index, _, exc in caught.value.refused] == [
        (0, errors.NotAnImageError),
        (2, errors.IllegalImageError),
        (4, errors.SourceError),
    ]


@pytest.mark.parametrize(
    "options",
    [{"model": "qwen3-vl-plus"}, {"model": MODEL, "high_resolution": True}],
    ids=["model", "resolution"],
)
def test_image_prepared_for_something_else_is_refused(options):
    """An image on another model's grid, or for another cap, is counted wrongly."""
    prepared = prepare(square(), model=MODEL)
    with pytest.raises(ValueError, match="plan it again"):
        chat_request([prepared], **options)


@pytest.mark.parametrize("single", ["cat.jpg", b"\x89PNG"], ids=["path", "bytes"])
def test_single_image_is_a_mistake(single):
    """A lone path or lone bytes would be taken apart letter by letter."""
    with pytest.raises(TypeError, match="Expected several images"):
        chat_request(single, model=MODEL)


def test_unknown_wire_is_a_mistake():
    """There are two wires."""
    with pytest.raises(ValueError, match="'openai' or 'dashscope'"):
        chat_request([CAT], model=MODEL, wire="grpc")


def test_unknown_model_is_refused():
    """A model without a profile is never guessed at."""
    with pytest.raises(errors.UnknownModelError):
        chat_request([CAT], model="qwen-vl-maxi")


def test_one_system_prompt_is_enough():
    """A system prompt beside a history that has one is refused, not sent twice."""
    history = [{"role": "system", "content": "Be brief."}]
    with pytest.raises(errors.RequestError, match="one system prompt"):
        chat_request(text="Hello", system="Be long.", history=history)


def test_half_a_character_is_refused():
    """Text that no UTF-8 can carry is refused before anything is prepared."""
    with pytest.raises(errors.RequestError, match="half a character at position 1"):
        chat_request([b"never read"], "a\ud800")


def test_frames_are_counted_before_they_are_prepared():
    """A wrong number of frames is told even where the frames are unreadable too."""
    with pytest.raises(errors.RequestError, match="4 to 80 frames"):
        chat_request(video=[b"no picture"] * 3, text="What happens?")


def test_refused_images_and_frames_are_told_together():
    """Refusals among images do not hide those among frames."""
    with pytest.raises(errors.ImagesRefusedError) as caught:
        chat_request([b"text"], "What?", video=[CAT, CAT, CAT, b"text"])
    assert [(i, name) for i, name, _ in caught.value.refused] == [
        (0, "image 1"),
        (3, "frame 4"),
    ]


def test_message_objects_of_the_sdk_are_taken_as_history():
    """An assistant's message object is taken as the SDK hands it out."""
    from openai.types.chat import ChatCompletionMessage

    answer = ChatCompletionMessage(role="assistant", content="A cat.")
    request = chat_request(text="Sure?", history=[answer])
    assert request["messages"][0] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "A cat."}],
    }


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
def test_http_body_can_be_taken_back(wire):
    """A body gives back its request and its wire."""
    request = chat_request([CAT], "What?", wire=wire, system="Be brief.")
    assert from_http_body(http_body(request, wire=wire)) == (request, wire)


@pytest.mark.parametrize(
    "body", [None, [], {}, {"model": 5}, {"model": "m"}, {"model": "m", "input": []}]
)
def test_what_is_no_body_is_refused(body):
    """Anything but a chat request's body is refused in our words."""
    with pytest.raises(errors.RequestError, match="Expected the body"):
        from_http_body(body)


def test_pixels_beside_an_image_survive_both_wires():
    """Per-image limits in a history change its token count, so none is lost."""
    part = {"type": "image_url", "image_url": {"url": CAT}, "max_pixels": 401408}
    history = [{"role": "user", "content": [part]}]
    sent = chat_request(text="What?", history=history, wire="dashscope")
    assert sent["messages"][0]["content"] == [{"image": CAT, "max_pixels": 401408}]
    back = chat_request(text="What?", history=sent["messages"][:1])
    assert back["messages"][0]["content"] == [part]


def test_frames_are_prepared_with_the_cap_of_a_frame():
    """A frame is no image: handed over as pixels, it gets a frame's own size."""
    request = chat_request(video=[square(1280)] * 4)
    sent = request["messages"][0]["content"][0]["video"]
    sizes = {(probe(one).height, probe(one).width) for one in sent}
    assert sizes == {smart_resize(1280, 1280, max_pixels=602_112)}


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
def test_addresses_that_the_server_cannot_reach_are_warned_of(wire, caplog):
    """A warning each, in images, frames and history; the request is built as ever."""
    store = "https://b.oss-cn-beijing-internal.aliyuncs.com/a.jpg?Signature=canary"
    frames = ["https://example.org/f.jpg"] * 3 + ["http://10.0.0.1/f.jpg"]
    earlier = [{"image": "http://localhost/a.jpg"}, {"text": "http://localhost/"}]
    request = chat_request(
        [store, "https://example.org/a.jpg"],
        "What is this?",
        model="qwen-vl-max",
        wire=wire,
        video=frames,
        history=[{"role": "user", "content": earlier}],
    )
    assert store in json.dumps(request)
    found = [record.getMessage() for record in caplog.records]
    assert [record.name for record in caplog.records] == ["qwenvl_prep"] * 3
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    for host, text in zip(
        ("localhost", "b.oss-cn-beijing.aliyuncs.com", "10.0.0.1"), found, strict=True
    ):
        assert host in text
    assert "canary" not in "".join(found)


def test_addresses_that_look_public_are_not_warned_of(caplog):
    """Nor are data URIs and the provider's own store."""
    chat_request(["https://example.org/a.jpg", "oss://b/a.jpg", square()], "Hm?")
    assert caplog.records == []
