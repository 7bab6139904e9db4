"""Tokens of text: known counts, where they are exact, and the bound everywhere else."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import qwenvl_prep as qp
from qwenvl_prep import text_tokens
from qwenvl_prep.budget import fit_items
from qwenvl_prep.errors import RequestError, UnknownModelError
from qwenvl_prep.text_tokens import TextTokens, text_token_bound, text_tokens_of

HAS_TOKENIZER = text_tokens._encoder() is not None
exact = pytest.mark.skipif(not HAS_TOKENIZER, reason="the extra tokens is missing")

SYSTEM = "You are a helpful assistant."
# The question of the document that this package reproduces.
QUESTION = "图中描绘的是什么景象?"


def test_the_test_extra_brings_the_tokenizer():
    """Prove that exactness is tested wherever dashscope is installed for the tests."""
    pytest.importorskip("dashscope")
    assert HAS_TOKENIZER


@exact
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("What is this?", 4),
        ("Describe this image.", 4),
        (QUESTION, 7),
        ("这是什么?", 3),
        (SYSTEM, 6),
        ("1234567890", 10),  # every digit is a token
        ("\n\n\n", 1),
        ("a\r\nb", 3),
        ("I'm", 2),
        ("é", 1),
        ("e\u0301", 1),  # NFC makes it the letter above
        ("\u0344", 3),  # and takes this one apart: two bytes, three tokens
    ],
)
def test_known_counts(text, count):
    """Prove the counts of the provider's own tokenizer, for all its models."""
    for model in ("qwen-vl-max", "qwen2.5-vl-7b-instruct", "qwen3-vl-plus", "qvq-max"):
        assert text_tokens_of(text, model=model) == TextTokens(count, is_exact=True)
    assert qp.count_text_tokens(text) == count


@exact
def test_counts_equal_those_of_the_provider_s_class():
    """Prove that our reading of the file gives the tokens that dashscope gives."""
    from dashscope.tokenizers import get_tokenizer

    tokenizer = get_tokenizer("qwen-vl-max")
    for text in (
        QUESTION,
        SYSTEM * 40,
        "  indented\n\tcode = {'a': 1}\n\n",
        "Ünïcödé, ﬁ, 🦒🦒, العربية, हिन्दी, ไทย, 한국어",
        "x" * 5_000,
    ):
        wanted = len(tokenizer.encode(text, allowed_special=set()))
        assert text_tokens_of(text).count == wanted


@exact
def test_the_template_of_a_request_is_as_published():
    """
    Prove where the template's tokens come from, and that the profiles have them.

    Published records of the provider: 1,271 input tokens for an image of 1,249 and
    the question "这是什么?"; 5,368 for one of 5,342 and "这张图表现了什么内容?".
    """
    encode = text_tokens._encoder()
    assert encode is not None
    # <|im_start|>, the role with its line feed; <|im_end|>, a line feed.
    assert [encode(f"{role}\n") for role in ("system", "user", "assistant")] == [2] * 3
    assert encode("\n") == 1
    message, answer = (1 + 2) + (1 + 1), 1 + 2
    assert message == text_tokens._TOKENS_OF_A_MESSAGE
    template = (message + encode(SYSTEM)) + message + answer
    assert template == 19
    assert template + encode("这是什么?") == 1_271 - 1_249
    assert template + encode("这张图表现了什么内容?") == 5_368 - 5_342
    for model in qp.list_models():
        if model.factor == 28 or model.family == "qwen-vl-2025-08":
            assert model.template_tokens == template
        else:  # without the default system prompt
            assert message + answer <= model.template_tokens < template


@exact
def test_a_published_record_comes_out():
    """
    Prove that images, question and template make what the provider billed.

    Its record: 5,368 input tokens with high resolution, 5,342 of them for the image.
    """
    question = "这张图表现了什么内容?"
    # 60 × 89 squares and the markers.
    picture = np.broadcast_to(np.uint8(0), (60 * 28, 89 * 28))
    request = qp.fit(
        [picture], model="qwen-vl-max", text=question, high_resolution=True
    )
    assert (request.image_tokens, request.text_tokens) == (5_342, 7)
    assert (request.template_tokens, request.is_text_exact) == (19, True)
    assert request.total == 5_368
    counted = fit_items([("image", 5_342)], model=request.model, text=question)
    assert counted.total == 5_368


@pytest.mark.parametrize("text", [QUESTION, "What is this?", "a\n<|im_end|>\nb"])
def test_other_vocabularies_get_the_bound(text):
    """Prove that nothing is called exact for models that read with other tokens."""
    for model in ("qwen3.5-plus", "qwen3.6-plus", "qwen3.8-max", "qwen3.5-ocr"):
        wanted = TextTokens(text_token_bound(text), is_exact=False)
        assert text_tokens_of(text, model=model) == wanted


def test_a_model_of_one_s_own_has_the_vocabulary_of_its_family():
    """Prove that a fine-tune counts as what it was made from, a stranger by bytes."""
    plus = qp.get_model("qwen3-vl-plus")
    own, later = plus.replace(name="shop-7"), plus.replace(name="qwen3.9-plus")
    stranger = plus.replace(name="shop-7", family="shop")
    assert text_tokens_of("abc", model=own).is_exact is HAS_TOKENIZER
    assert text_tokens_of("abc", model=later) == TextTokens(3, is_exact=False)
    assert text_tokens_of("abc", model=stranger) == TextTokens(3, is_exact=False)


@pytest.mark.parametrize(
    "text",
    ["<|im_end|>", "<think>", "</think>", "<|extra_0|>", "<img>", "<|image_pad|>"],
)
def test_what_looks_like_a_special_token_is_bounded(text):
    """Prove that a line that may be read in two ways counts as its bytes."""
    assert text_tokens_of(text) == TextTokens(len(text), is_exact=False)
    before, behind = "Two lines\n\n\n  before.\n", "One line behind."
    lines = f"{before}{text}\n{behind}"
    found = text_tokens_of(lines)
    assert not found.is_exact
    assert len(text) + 1 < found.count <= text_token_bound(lines)
    if HAS_TOKENIZER:
        # The others keep their exact counts.
        rest = sum(text_tokens_of(part).count for part in (before, behind))
        assert found.count == rest + len(text) + 1


def test_what_the_tokenizer_gives_up_on_is_bounded():
    """
    Prove that a million spaces are no panic.

    tiktoken's pattern runs out of its stack on them.
    """
    spaces = " " * 1_000_000
    found = text_tokens_of(spaces)
    assert found.count <= 1_000_000
    assert text_tokens_of("\ud800").count == 3  # half a character is no text
    assert not text_tokens_of("\ud800").is_exact


@pytest.mark.parametrize("number", [0, 7, 10**9])
def test_known_tokens_are_taken(number):
    """Prove that a number of tokens is handed back."""
    assert text_tokens_of(number) == TextTokens(number, is_exact=True)
    assert qp.count_text_tokens(number, model="qwen3.8-max") == number


@pytest.mark.parametrize("text", [True, 1.5, None, b"text", ["text"]])
def test_text_of_another_type_is_refused(text):
    """Prove that text has to be a string or a number of tokens."""
    with pytest.raises(TypeError, match="Expected a str or a number of tokens"):
        qp.count_text_tokens(text)


def test_wrong_numbers_and_models_are_refused():
    """Prove that less than nothing, and an unknown model, have no count."""
    with pytest.raises(ValueError, match="at least 0 text tokens"):
        qp.count_text_tokens(-1)
    with pytest.raises(UnknownModelError):
        qp.count_text_tokens("a", model="qwen-vl-mx")


def test_a_count_tells_what_it_is():
    """Prove that a table can say whether a number is a bound."""
    assert str(TextTokens(1_234, is_exact=True)) == "text 1,234"
    assert str(TextTokens(1_234, is_exact=False)) == "text at most 1,234"


def test_the_budget_tells_what_its_text_is():
    """Prove that a request's plan has the count, and says whether it is a bound."""
    request = qp.fit([], text=QUESTION)
    counted = (7, True) if HAS_TOKENIZER else (31, False)
    assert (request.text_tokens, request.is_text_exact) == counted
    request = qp.fit([], text=QUESTION, model="qwen3.8-max")
    assert (request.text_tokens, request.is_text_exact) == (31, False)
    assert qp.fit([], text=31, model="qwen3.8-max").is_text_exact


# -------------------------------------------------------------------------- messages


def test_messages_of_a_chat_are_counted():
    """Prove that every message but the last has five tokens around it."""
    digits = [
        {"role": "system", "content": "1"},
        {"role": "user", "content": [{"text": "22"}, {"image": "https://…"}]},
        {"role": "assistant", "content": "333"},
        {"role": "user", "content": [{"type": "text", "text": "4444"}]},
    ]
    assert qp.chat_text_tokens(digits).count == 10 + 3 * 5
    assert qp.chat_text_tokens(digits[3:]).count == 4
    assert qp.chat_text_tokens([]) == TextTokens(0, is_exact=True)
    assert qp.chat_text_tokens(digits).is_exact is HAS_TOKENIZER
    assert not qp.chat_text_tokens(digits, model="qwen3.8-max").is_exact


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
def test_requests_are_counted_as_they_are_sent(wire):
    """Prove that the messages of a request count alike on both wires."""
    request = qp.chat_request(
        ["https://example.org/cat.jpg"],
        "1234",
        wire=wire,
        system="12",
        history=[
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": ""},
        ],
    )
    assert qp.chat_text_tokens(request["messages"]).count == 7 + 3 * 5


@pytest.mark.parametrize("content", [None, 5, {"text": "a"}])
def test_messages_without_content_are_refused(content):
    """Prove that what is no message is not counted as nothing."""
    with pytest.raises(RequestError, match="Expected messages with text"):
        qp.chat_text_tokens([{"role": "user", "content": content}])
    with pytest.raises(RequestError, match="Expected messages with text"):
        qp.chat_text_tokens(["Hello"])


# --------------------------------------------------------------------------- loading


def alone(code: str) -> str:
    """Give what a fresh process prints, which says nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_nothing_is_loaded_before_a_text_is_counted():
    """Prove that images alone load no tokenizer, and that dashscope is never loaded."""
    names = "[n for n in ('tiktoken', 'dashscope') if n in sys.modules]"
    code = f"import sys, qwenvl_prep as qp\nqp.fit([], text=5)\nprint({names})\n"
    assert alone(code) == "[]"
    code = f"import sys, qwenvl_prep as qp\nqp.count_text_tokens('a')\nprint({names})\n"
    assert alone(code) == ("['tiktoken']" if HAS_TOKENIZER else "[]")


@pytest.mark.parametrize("missing", ["tiktoken", "dashscope"])
def test_without_the_extra_text_is_bounded(missing):
    """Prove that a missing library is no error, and that its absence is told."""
    code = (
        f"import sys\nsys.modules[{missing!r}] = None\n"
        "import qwenvl_prep as qp\n"
        "print(qp.text_tokens_of('What is this?'))"
    )
    assert alone(code) == "text at most 13"


def test_another_vocabulary_in_the_file_is_not_taken(tmp_path):
    """Prove that a file of other tokens proves nothing: the bound is given."""
    folder = tmp_path / "dashscope" / "resources"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError\n")
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "import qwenvl_prep as qp\nprint(qp.text_tokens_of('What is this?'))"
    )
    for content in (b"YQ== 0\nYg== 1\n", b"no vocabulary at all", b"", b"YQ== x\n"):
        (folder / "qwen.tiktoken").write_bytes(content)
        assert alone(code) == "text at most 13"
    (folder / "qwen.tiktoken").unlink()
    assert alone(code) == "text at most 13"


def test_threads_load_it_once():
    """Prove that many threads that count at once get the same counts."""
    tokenizer = text_tokens._Tokenizer()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tokenizer(), range(32)))
    assert all(one is found[0] for one in found)
    texts = [f"{number} pictures of a cat" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(qp.count_text_tokens, texts)) == [
            qp.count_text_tokens(text) for text in texts
        ]
