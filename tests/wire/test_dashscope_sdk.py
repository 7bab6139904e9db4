"""The official DashScope SDK takes what chat_request builds, as it is."""

from __future__ import annotations

import hashlib
import json

import dashscope
import pytest
import requests

from qwenvl_prep import chat_request, errors, prepare

WIRE = "dashscope"


@pytest.fixture
def call(endpoint):
    """Give the SDK's call, on connections that end with the test."""
    with requests.Session() as session:
        session.trust_env = False

        def call(**request):
            return dashscope.MultiModalConversation.call(
                api_key=endpoint.key,
                base_address=endpoint.dashscope,
                session=session,
                **request,
            )

        yield call


def text_of(response):
    assert response.status_code == 200, response.message
    content = response.output.choices[0].message.content
    return "".join(part["text"] for part in content)


def report(response):
    return json.loads(text_of(response))


def seen_images(response):
    parts = report(response)["messages"][-1]["parts"]
    return [part["image"] for part in parts if "image" in part]


def test_tokens_are_predicted(call, assorted, model):
    """The tokens of a prepared picture are those that the endpoint bills."""
    prepared = prepare(assorted, model=model)
    response = call(**chat_request([prepared], "What?", model=model, wire=WIRE))
    (seen,) = seen_images(response)
    assert response.usage.image_tokens == prepared.tokens
    assert (seen["height"], seen["width"]) == (prepared.height, prepared.width)
    assert seen["media_type"] == prepared.media_type
    assert seen["sha256"] == hashlib.sha256(prepared.data).hexdigest()


def test_tokens_of_the_corpus_are_predicted(call, corpus, model):
    """Each photograph and page is billed as predicted."""
    ready = corpus(model)
    assert ready
    for prepared in ready:
        response = call(**chat_request([prepared], model=model, wire=WIRE))
        assert response.usage.image_tokens == prepared.tokens, prepared.name


@pytest.mark.parametrize(
    ("high_resolution", "tokens"),
    [(False, 1227), (True, 2118)],
    ids=["default", "high"],
)
def test_high_resolution_reaches_the_server(call, picture, high_resolution, tokens):
    """The switch goes out among the parameters and lifts the cap on both sides."""
    square = prepare(
        picture(1280, 1280, "JPEG"),
        model="qwen-vl-max",
        high_resolution=high_resolution,
    )
    response = call(
        **chat_request(
            [square],
            "?",
            model="qwen-vl-max",
            wire=WIRE,
            high_resolution=high_resolution,
        )
    )
    assert square.tokens == tokens
    assert response.usage.image_tokens == tokens
    assert report(response)["high_resolution"] is high_resolution


def test_mixed_images_keep_their_order(call, picture, tmp_path):
    """Prepared images, paths, bytes and addresses arrive in the order given."""
    path = tmp_path / "page.tif"
    path.write_bytes(picture(56, 84, "TIFF"))
    prepared = prepare(picture(112, 112, "PNG", "RGBA"), model="qwen-vl-max")
    response = call(
        **chat_request(
            [prepared, path, "https://example.org/a.jpg", picture(28, 84, "JPEG")],
            "Compare them.",
            model="qwen-vl-max",
            wire=WIRE,
            system="Be brief.",
        )
    )
    system, user = report(response)["messages"]
    assert system == {"role": "system", "parts": [{"text": "Be brief."}]}
    assert [
        part["image"].get("url") or part["image"]["height"]
        for part in user["parts"][:-1]
    ] == [112, 56, "https://example.org/a.jpg", 28]
    assert user["parts"][-1] == {"text": "Compare them."}


def test_second_turn_carries_the_first(call, picture):
    """The SDK's own reply message is taken into the history as it is."""
    first = chat_request(
        [picture(56, 56)], "你看到什么?", model="qwen-vl-max", wire=WIRE
    )
    answered = call(**first)
    message = answered.output.choices[0].message
    history = [
        *first["messages"],
        {"role": message.role, "content": message.content},
    ]
    second = call(
        **chat_request(
            [picture(84, 84)],
            "And here?",
            model="qwen-vl-max",
            wire=WIRE,
            history=history,
        )
    )
    messages = report(second)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0] == report(answered)["messages"][0]
    assert messages[1]["parts"] == [{"text": text_of(answered)}]
    assert messages[2]["parts"][0]["image"]["height"] == 84


def test_stream_is_incremental(call, picture):
    """Each event brings only new text, and all of them make up the answer."""
    request = chat_request(
        [picture(56, 56)], "图?", model="qwen-vl-max", wire=WIRE, stream=True
    )
    events = list(call(**request))
    pieces = [
        "".join(part["text"] for part in event.output.choices[0].message.content)
        for event in events
    ]
    assert len([piece for piece in pieces if piece]) > 1
    arrived = json.loads("".join(pieces))
    assert arrived["messages"][0]["parts"][-1] == {"text": "图?"}
    assert events[-1].output.choices[0].finish_reason == "stop"
    assert events[-1].usage.image_tokens == 6


@pytest.mark.parametrize("count", [4, 80])
def test_video_frames_arrive(call, picture, count):
    """A legal number of frames arrives as one video of that many frames."""
    frame = prepare(picture(56, 84, "JPEG"), model="qwen-vl-max")
    response = call(
        **chat_request(
            video=[frame] * count, text="What?", model="qwen-vl-max", wire=WIRE
        )
    )
    video, text = report(response)["messages"][-1]["parts"]
    assert len(video["video"]["frames"]) == count
    assert response.usage.video_tokens == count // 2 * 6 + 2
    assert text == {"text": "What?"}


def test_too_few_frames_are_refused_before_sending(picture):
    """Three frames never leave this process."""
    with pytest.raises(errors.RequestError, match="4 to 80 frames"):
        chat_request(video=[picture(56, 56)] * 3, model="qwen-vl-max", wire=WIRE)


def test_request_is_not_changed_by_the_sdk(call, picture):
    """A request that was sent can be sent again."""
    request = chat_request([picture(56, 56)], "?", model="qwen-vl-max", wire=WIRE)
    assert report(call(**request)) == report(call(**request))
