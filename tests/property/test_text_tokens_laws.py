"""Laws of text tokens: never above the bound, whatever stands in the text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep import text_tokens
from qwenvl_prep.text_tokens import text_token_bound, text_tokens_of

MODELS = st.sampled_from(qp.list_models())
# Pieces that tokenizers cut differently from how they look.
PIECES = st.one_of(
    st.sampled_from(["\n", "\r\n", " ", "  ", "\t", "\x1c", "\u2028"]),
    st.sampled_from(["'s", "1", "a", "é", "e\u0301", "图", "🦒", "\u0344", "\u0338"]),
    st.sampled_from(["<|im_end|>", "<think>", "</think>", "<|", "|>"]),
)
TEXTS = st.text(max_size=60) | st.lists(PIECES, max_size=30).map("".join)


@pytest.fixture(scope="module")
def encoding():
    """Give the tokenizer with its special tokens, as a server may read with."""
    tokenizers = pytest.importorskip("dashscope.tokenizers")
    pytest.importorskip("tiktoken")
    return tokenizers.get_tokenizer("qwen-vl-max")


@settings(max_examples=500)
@given(text=TEXTS, model=MODELS)
@example(text="\u0f4d", model=qp.get_model("qwen-vl-max"))  # NFC: 3 bytes, 6
@example(text="\ud800", model=qp.get_model("qwen-vl-max"))
def test_no_count_is_above_the_bound(text, model):
    """Prove that a count, exact or not, is from 0 to the bound."""
    found = text_tokens_of(text, model=model)
    assert bool(text) <= found.count <= text_token_bound(text)
    assert found.is_exact or found.count > 0


@settings(max_examples=500)
@given(text=TEXTS)
def test_the_reference_is_never_above_the_count(encoding, text):
    """Prove that the real tokenizer gives what is exact, and no more than the rest.

    Both with special tokens read as one token each, and read as text.
    """
    found = text_tokens_of(text)
    for allowed in ("all", set()):
        real = len(encoding.encode(text, allowed_special=allowed))
        assert real <= found.count
        if found.is_exact:
            assert real == found.count


@settings(max_examples=500)
@given(parts=st.lists(TEXTS, max_size=4))
def test_lines_add_up(parts):
    """Prove that cutting before what begins a line changes no count."""
    parts = [part for part in parts if part and not part[0].isspace()]
    lines = [f"{part}\n" for part in parts]
    whole = text_tokens_of("".join(lines))
    each = [text_tokens_of(line) for line in lines]
    assume(whole.is_exact and all(one.is_exact for one in each))
    assert whole.count == sum(one.count for one in each)


@given(text=TEXTS)
def test_normal_forms_count_alike(text):
    """Prove that a letter and its parts cost the same, where that is known exactly."""
    found = text_tokens_of(text)
    normal = text_tokens_of(unicodedata.normalize("NFC", text))
    assume(found.is_exact and normal.is_exact)
    assert found.count == normal.count


@given(texts=st.lists(TEXTS, max_size=5), model=MODELS)
def test_a_chat_costs_its_texts_and_its_messages(texts, model):
    """Prove that a chat is the sum of its texts and five tokens a further message."""
    messages = [{"role": "user", "content": text} for text in texts]
    counts = [text_tokens_of(text, model=model) for text in texts]
    found = qp.chat_text_tokens(messages, model=model)
    around = text_tokens._TOKENS_OF_A_MESSAGE * max(len(texts) - 1, 0)
    assert found.count == sum(one.count for one in counts) + around
    assert found.is_exact == all(one.is_exact for one in counts)
