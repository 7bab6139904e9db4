"""The sender as far as it goes without a server."""

from __future__ import annotations

import copy
import pickle

import pytest

from qwenvl_prep import Reply, Sender, Usage, errors

KEY = "sk-0123456789abcdef"


@pytest.fixture
def sender():
    """Give a sender that is closed with the test and never sends."""
    with Sender(api_key=KEY) as sender:
        yield sender


def test_key_is_required(monkeypatch):
    """Without a key there is no sender, and the message names the variable."""
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    with pytest.raises(errors.MissingKeyError, match="DASHSCOPE_API_KEY"):
        Sender()


@pytest.mark.parametrize("key", ["", "  \n"])
def test_empty_key_is_no_key(monkeypatch, key):
    """An empty key is missing, and does not fall back to the environment's."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    with pytest.raises(errors.MissingKeyError):
        Sender(api_key=key)


@pytest.mark.parametrize("key", ["sk-ключ", "sk-1\r\nHost: elsewhere", "sk-\x00"])
def test_key_is_one_line_of_ascii(key):
    """A key that would not fit a header is refused without being repeated."""
    with pytest.raises(errors.MissingKeyError) as caught:
        Sender(api_key=key)
    assert key not in str(caught.value)
    assert caught.value.__context__ is None


def test_key_of_the_environment_is_taken(monkeypatch):
    """The key may come from the environment, with the line end of a file."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", f"{KEY}\n")
    with Sender() as sender:
        assert repr(sender) == "<Sender openai at dashscope.aliyuncs.com>"


def test_key_is_never_shown(sender):
    """Neither the sender nor anything in it shows the key."""
    assert KEY not in repr(sender)
    assert KEY not in repr(vars(sender))
    assert KEY not in str(sender._key)


def test_key_is_never_pickled(sender):
    """A sender is not pickled and not copied deeply."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(sender)
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(sender)


@pytest.mark.parametrize(
    "url",
    [
        "http://dashscope.aliyuncs.com/api/v1",
        "http://127.0.0.1.example.org/v1",
        "http://127.0.0.1@example.org/v1",
        "http://10.0.0.1/v1",
        "ftp://127.0.0.1/v1",
        "dashscope.aliyuncs.com/v1",
        "https:///v1",
        "https://user:password@example.org/v1",
        "https://example.org/v1?key=1",
        "https://example.org/v1#top",
        "https://example.org:99999/v1",
        "https://exam ple.org/v1",
        "https://example.org:port/v1",
        "http://127.0.0.1\\@example.org/v1",
        "https://example\n.org/v1",
    ],
)
def test_key_is_not_sent_just_anywhere(url):
    """Plain http leaves this machine never; an address is an address and no more."""
    with pytest.raises(ValueError, match="Expected") as caught:
        Sender(api_key=KEY, base_url=url)
    assert KEY not in str(caught.value)


def test_password_in_the_address_is_not_repeated():
    """A refused address does not show its password."""
    with pytest.raises(ValueError, match="without user") as caught:
        Sender(api_key=KEY, base_url="http://user:password@example.org")
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.1"),
        ("http://[::1]:8000/v1/", "::1"),
        ("http://localhost/v1", "localhost"),
        ("https://dashscope-intl.aliyuncs.com/v1", "dashscope-intl.aliyuncs.com"),
        ("HTTPS://Example.ORG/v1", "example.org"),
    ],
)
def test_addresses_that_are_taken(url, host):
    """Any https address is taken, and plain http for this machine itself."""
    with Sender(api_key=KEY, base_url=url, wire="dashscope") as sender:
        assert repr(sender) == f"<Sender dashscope at {host}>"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_timeout_is_a_time(timeout):
    """A call always ends."""
    with pytest.raises(ValueError, match="timeout above 0"):
        Sender(api_key=KEY, timeout=timeout)


def test_unknown_wire_is_a_mistake():
    """There are two wires."""
    with pytest.raises(ValueError, match="'openai' or 'dashscope'"):
        Sender(api_key=KEY, wire="grpc")


def test_stream_that_is_not_read_sends_nothing(sender):
    """A stream begins with its first piece; until then it has no reply."""
    pieces = sender.stream({"model": "qwen-vl-max", "messages": []})
    assert repr(pieces) == "<ReplyStream not read yet>"
    with pytest.raises(errors.SendError, match="read to its end"):
        _ = pieces.reply
    pieces.close()
    pieces.close()


def test_reply_is_a_message_of_the_history():
    """A reply gives itself as the assistant's message."""
    reply = Reply("A cat.", Usage(1_249, 3, 1_227), "stop", "id-1")
    assert reply.as_message() == {"role": "assistant", "content": "A cat."}
    assert repr(reply) == "<Reply of 6 characters, 1,249 tokens in>"
    assert repr(Reply("", None, "stop", None)) == "<Reply of 0 characters, no usage>"


def test_errors_survive_a_process_border():
    """An error with its facts comes back from pickle as it was."""
    error = errors.ThrottledError("No", status=429, code="Throttling", request_id="1")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.ThrottledError
    assert (again.status, again.code, again.request_id) == (429, "Throttling", "1")
    assert str(again) == "No"
