"""The official OpenAI SDK takes what chat_request builds, as it is."""

from __future__ import annotations

import hashlib
import json

import openai
import pytest

from qwenvl_prep import (
    chat_request,
    errors,
    prepare,
    to_data_uri,
)


@pytest.fixture
def client(endpoint):
    """Give an SDK client that talks to the endpoint and never retries."""
    with openai.OpenAI(
        api_key=endpoint.key, base_url=endpoint.openai, max_retries=0, timeout=20
    ) as client:
        yield client


def report(completion):
    return json.loads(completion.choices[0].message.content)


def seen_images(completion):
    parts = report(completion)["messages"][-1]["parts"]
    return [part["image"] for part in parts if "image" in part]


def test_tokens_are_predicted(client, assorted, model):
    """The tokens of a prepared picture are those that the endpoint bills."""
    prepared = prepare(assorted, model=model)
    completion = client.chat.completions.create(
        **chat_request([prepared], "What is this?", model=model)
    )
    assert completion.usage.prompt_tokens_details.image_tokens == prepared.tokens
    (seen,) = seen_images(completion)
    assert (seen["height"], seen["width"]) == (prepared.height, prepared.width)
    assert seen["media_type"] == prepared.media_type
    assert seen["sha256"] == hashlib.sha256(prepared.data).hexdigest()
    assert seen["orientation"] == 1
    assert not seen["alpha"]


def test_tokens_of_the_corpus_are_predicted(client, corpus, model):
    """Each photograph and page is billed as predicted."""
    ready = corpus(model)
    assert ready
    for prepared in ready:
        completion = client.chat.completions.create(
            **chat_request([prepared], model=model)
        )
        billed = completion.usage.prompt_tokens_details.image_tokens
        assert billed == prepared.tokens, prepared.name


@pytest.mark.parametrize(
    ("high_resolution", "tokens"),
    [(False, 1227), (True, 2118)],
    ids=["default", "high"],
)
def test_high_resolution_reaches_the_server(client, picture, high_resolution, tokens):
    """The switch goes out by extra_body and lifts the cap on both sides alike."""
    square = prepare(
        picture(1280, 1280, "JPEG"),
        model="qwen-vl-max",
        high_resolution=high_resolution,
    )
    completion = client.chat.completions.create(
        **chat_request(
            [square], "?", model="qwen-vl-max", high_resolution=high_resolution
        )
    )
    assert square.tokens == tokens
    assert completion.usage.prompt_tokens_details.image_tokens == tokens
    assert report(completion)["high_resolution"] is high_resolution


def test_mixed_images_keep_their_order(client, picture, tmp_path):
    """Prepared images, paths, bytes and addresses arrive in the order given."""
    path = tmp_path / "page.bmp"
    path.write_bytes(picture(56, 84, "BMP"))
    prepared = prepare(picture(112, 112, "WEBP"), model="qwen-vl-max")
    completion = client.chat.completions.create(
        **chat_request(
            [prepared, path, "https://example.org/a.jpg", picture(28, 84, "JPEG")],
            "Compare them.",
            model="qwen-vl-max",
            system="Be brief.",
        )
    )
    system, user = report(completion)["messages"]
    assert system == {"role": "system", "parts": [{"text": "Be brief."}]}
    assert user["role"] == "user"
    assert [
        part["image"].get("url") or part["image"]["height"]
        for part in user["parts"][:-1]
    ] == [112, 56, "https://example.org/a.jpg", 28]
    assert user["parts"][-1] == {"text": "Compare them."}


def test_second_turn_carries_the_first(client, picture):
    """The first question and its answer are the history of the second question."""
    first = chat_request([picture(56, 56)], "你看到什么?", model="qwen-vl-max")
    answered = client.chat.completions.create(**first)
    history = [
        *first["messages"],
        {"role": "assistant", "content": answered.choices[0].message.content},
    ]
    second = client.chat.completions.create(
        **chat_request(
            [picture(84, 84)], "And here?", model="qwen-vl-max", history=history
        )
    )
    messages = report(second)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0] == report(answered)["messages"][0]
    assert messages[1]["parts"] == [{"text": answered.choices[0].message.content}]
    assert messages[2]["parts"][0]["image"]["height"] == 84


def test_reply_object_of_the_sdk_is_taken_into_the_history(client, picture):
    """What the SDK's own message dumps to is a message of the history."""
    first = chat_request([picture(56, 56)], "What?", model="qwen-vl-max")
    message = client.chat.completions.create(**first).choices[0].message
    history = [*first["messages"], message.model_dump()]
    second = chat_request(text="Why?", model="qwen-vl-max", history=history)
    roles = [
        message["role"]
        for message in report(client.chat.completions.create(**second))["messages"]
    ]
    assert roles == ["user", "assistant", "user"]


def test_stream_ends_with_usage(client, picture):
    """Streamed pieces make up the answer, and the last chunk brings the usage."""
    request = chat_request([picture(56, 56)], "图?", model="qwen-vl-max", stream=True)
    with client.chat.completions.create(**request) as chunks:
        received = list(chunks)
    text = "".join(
        chunk.choices[0].delta.content or "" for chunk in received if chunk.choices
    )
    assert json.loads(text)["messages"][0]["parts"][-1] == {"text": "图?"}
    assert received[-1].choices == []
    assert received[-1].usage.prompt_tokens_details.image_tokens == 6


@pytest.mark.parametrize("count", [4, 80])
def test_video_frames_arrive(client, picture, count):
    """A legal number of frames arrives as one video of that many frames."""
    frame = prepare(picture(56, 84, "JPEG"), model="qwen-vl-max")
    completion = client.chat.completions.create(
        **chat_request(video=[frame] * count, text="What happens?", model="qwen-vl-max")
    )
    video, text = report(completion)["messages"][-1]["parts"]
    assert len(video["video"]["frames"]) == count
    # Two frames share 2 x 3 tokens; the two markers are counted once.
    assert completion.usage.prompt_tokens_details.video_tokens == count // 2 * 6 + 2
    assert text == {"text": "What happens?"}


def test_too_few_frames_are_refused_before_sending(picture):
    """Three frames never leave this process."""
    with pytest.raises(errors.RequestError, match="4 to 80 frames"):
        chat_request(video=[picture(56, 56)] * 3, model="qwen-vl-max")


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (10, 100, "height:10 or width:100 must be larger than 10"),
        (20, 4001, "absolute aspect ratio"),
    ],
    ids=["too-small", "too-long"],
)
def test_what_is_refused_here_is_refused_there(client, picture, height, width, message):
    """An image that prepare refuses is one that the endpoint refuses too."""
    data = picture(height, width)
    with pytest.raises(errors.ImageError):
        prepare(data, model="qwen-vl-max")
    part = {"type": "image_url", "image_url": {"url": to_data_uri(data, "image/png")}}
    with pytest.raises(openai.BadRequestError, match=message):
        client.chat.completions.create(
            model="qwen-vl-max", messages=[{"role": "user", "content": [part]}]
        )
