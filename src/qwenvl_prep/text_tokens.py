"""How many tokens a text costs: exactly, where a tokenizer is there, else at most."""

from __future__ import annotations

import base64
import importlib.util
import re
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl_prep.errors import RequestError
from qwenvl_prep.geometry import integer
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "TextTokens",
    "chat_text_tokens",
    "count_text_tokens",
    "text_token_bound",
    "text_tokens_of",
]

# Tokens around each message of a chat: <|im_start|>, the role, a line feed before it,
# <|im_end|> and a line feed behind it. Source: the chat templates of the open models
# from Qwen2-VL to Qwen3.5; the role is one token in their vocabularies.
_TOKENS_OF_A_MESSAGE = 5

# Mirrors dashscope 2.0.2, tokenizers/qwen_tokenizer.py: PAT_STR, and the open
# Qwen2-VL, Qwen2.5-VL and Qwen3-VL, tokenizer.json: pre_tokenizer.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Tokens of the vocabulary that the first models up to Qwen3-VL share. A file of
# another length is another vocabulary, and proves nothing about these models.
_VOCABULARY_SIZE = 151_643

# From Qwen3.5 on, the open models have 248,320 tokens and another pattern.
_OTHER_VOCABULARY = re.compile(r"qwen(3\.[5-9]|[4-9]|\d\d)")
_THIS_VOCABULARY = re.compile(r"qwen-vl|qwen2|qwen3-vl|qvq")

# What a text may hold that a server might read as one token: <|im_end|>, </think>,
# <img> of the first Qwen-VL.
_SPECIAL = re.compile(
    r"<\|\w+\|>|</?(?:think|tool_call|tool_response|img|imgpad|ref|box|quad)>",
    re.ASCII,
)

# Between a line feed and what is no space, no token of any reading reaches across:
# the pattern ends a piece there. Python's \s holds all that the pattern's does.
_SAFE_BREAK = re.compile(r"(?<=[\r\n])(?=\S)")


@dataclass(frozen=True, slots=True)
class TextTokens:
    """
    Tokens of a text, and whether that is their number or a bound.

    Attributes
    ----------
    count : int
        The tokens; where *is_exact* is false, a number that they do not exceed.
    is_exact : bool
        Whether the tokenizer counted them.

    Examples
    --------
    >>> str(TextTokens(7, is_exact=True)), str(TextTokens(31, is_exact=False))
    ('text 7', 'text at most 31')
    """

    count: int
    is_exact: bool

    def __str__(self) -> str:
        return f"text {'' if self.is_exact else 'at most '}{self.count:,}"


def count_text_tokens(
    text: str | int, *, model: str | ModelProfile = DEFAULT_MODEL
) -> int:
    """
    Count the tokens of a text, or give a number that they do not exceed.

    Parameters
    ----------
    text : str or int
        The text; an ``int`` is handed back as tokens that are known already.
    model : str or ModelProfile
        Model that will read it.

    Returns
    -------
    int
        ``text_tokens_of(text, model=model).count``.

    Raises
    ------
    TypeError, ValueError
        If *text* is neither a string nor an int of at least 0.
    UnknownModelError
        If the model is not known.

    Examples
    --------
    >>> count_text_tokens("a" * 8) <= 8
    True
    """
    return text_tokens_of(text, model=model).count


def text_tokens_of(
    text: str | int, *, model: str | ModelProfile = DEFAULT_MODEL
) -> TextTokens:
    """
    Count the tokens of a text, and tell whether the count is exact.

    It is exact where the extra ``tokens`` is installed and the model has the
    vocabulary of the provider's own ``qwen.tiktoken``: the models from the first
    Qwen-VL to Qwen3-VL.  Else, and so for Qwen3.5 and later, it is
    :func:`text_token_bound`.

    The text is taken as text.  Where it holds what looks like a token of the chat
    template, such as ``<|im_end|>``, nobody outside knows whether the server reads
    one token or several, so the lines with it count as their bound.

    Parameters
    ----------
    text : str or int
        The text of one part of a message; an ``int`` is the number of tokens, if you
        know it.
    model : str or ModelProfile
        Model that will read it.

    Returns
    -------
    TextTokens
        Never above ``text_token_bound(text)``.

    Raises
    ------
    TypeError, ValueError
        If *text* is neither a string nor an int of at least 0.
    UnknownModelError
        If the model is not known.

    Examples
    --------
    >>> text_tokens_of(7)
    TextTokens(count=7, is_exact=True)
    >>> text_tokens_of("七", model="qwen-vl-max").count <= 3
    True
    """
    profile = get_model(model)
    bound = text_token_bound(text)
    if not isinstance(text, str) or not text:
        return TextTokens(bound, is_exact=True)
    encode = _encoder() if _has_this_vocabulary(profile) else None
    if encode is None:
        return TextTokens(bound, is_exact=False)
    if _SPECIAL.search(text) is None:
        count = encode(text)
        return TextTokens(bound if count is None else count, is_exact=count is not None)
    # Lines that may be read in two ways are put apart; all others keep their count.
    total, plain = 0, []
    for line in _SAFE_BREAK.split(text):
        if _SPECIAL.search(line):
            total += text_token_bound(line)
        else:
            plain.append(line)
    for line in plain:
        count = encode(line)
        total += text_token_bound(line) if count is None else count
    return TextTokens(min(total, bound), is_exact=False)


def chat_text_tokens(
    messages: Iterable[Mapping[str, Any]], *, model: str | ModelProfile = DEFAULT_MODEL
) -> TextTokens:
    """
    Predict the text tokens of a chat: system prompt, history and question.

    Each message counts as the tokens of its text, and each but the last as the five
    that the chat template puts around a message beside.  Those of the last one, the
    model's default system prompt and the beginning of its answer are the template of
    the request, ``ModelProfile.template_tokens``, which is *not* in this number:
    :func:`qwenvl_prep.fit` adds it to what it is given as *text*.

    Parameters
    ----------
    messages : iterable of mapping
        As in a request of either wire, oldest first, the system prompt among them;
        ``content`` is a string or a list of parts.  Images and videos count nothing
        here.
    model : str or ModelProfile
        Model that will read them.

    Returns
    -------
    TextTokens
        A prediction; exact only as far as each text is.

    Raises
    ------
    RequestError
        If a message has no content of that form.
    UnknownModelError
        If the model is not known.

    Notes
    -----
    Source: the open models' chat templates, counted with ``qwen.tiktoken``.  A request
    of one question to Qwen2-VL has 19 tokens beside the question: 11 of the default
    system prompt, 5 around the question, 3 that begin the answer.  A published record
    of the provider agrees: 1,271 input tokens, 1,249 of them of the image and its
    markers, 3 of the question, 19 left.  A system prompt of one's own takes the place
    of the default one, so that this number is up to 11 too high then.

    Examples
    --------
    >>> chat_text_tokens([{"role": "user", "content": [{"image": "…"}]}])
    TextTokens(count=0, is_exact=True)
    """
    profile = get_model(model)
    count, is_exact, n_messages = 0, True, 0
    for message in messages:
        n_messages += 1
        for text in _texts(message):
            one = text_tokens_of(text, model=profile)
            count += one.count
            is_exact = is_exact and one.is_exact
    count += _TOKENS_OF_A_MESSAGE * max(n_messages - 1, 0)
    return TextTokens(count, is_exact=is_exact)


def text_token_bound(text: str | int) -> int:
    """
    Give a number of tokens that the text does not exceed, for any Qwen tokenizer.

    Every token of the Qwen tokenizers stands for at least one byte of UTF-8, of the
    text as the tokenizer normalises it: NFC makes some letters longer, so the longer
    of both forms counts.

    Raises
    ------
    TypeError, ValueError
        If it is neither a string nor an int of at least 0.

    Examples
    --------
    >>> text_token_bound("图中描绘的是什么景象?"), text_token_bound(7)
    (31, 7)
    """
    if isinstance(text, str):
        if text.isascii():  # as it is, NFC changes nothing
            return len(text)
        forms = (text, unicodedata.normalize("NFC", text))
        return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
    if isinstance(text, bool) or not hasattr(text, "__index__"):
        raise TypeError(f"Expected a str or a number of tokens but received {text!r}")
    text = integer("text", text)
    if text < 0:
        raise ValueError(f"Expected at least 0 text tokens but received {text}")
    return text


def _has_this_vocabulary(model: ModelProfile) -> bool:
    """Tell whether ``qwen.tiktoken`` is the vocabulary of this model."""
    # By its family too: a fine-tune has a name of its own.
    names = (model.name, model.family)
    return not any(map(_OTHER_VOCABULARY.match, names)) and any(
        map(_THIS_VOCABULARY.match, names)
    )


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        yield content
        return
    if not isinstance(content, (list, tuple)):
        raise RequestError(
            "Expected messages with text or a list of parts as content but received "
            "something else; chat_request builds them"
        )
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str):
            yield text


class _Tokenizer:
    """The provider's tokenizer, loaded at the first text; None where there is none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_loaded = False
        self._count: Callable[[str], int | None] | None = None

    def __call__(self) -> Callable[[str], int | None] | None:
        if not self._is_loaded:
            with self._lock:
                if not self._is_loaded:
                    self._count = _loaded()
                    self._is_loaded = True
        return self._count


_encoder = _Tokenizer()


def _loaded() -> Callable[[str], int | None] | None:
    """Load the vocabulary out of the ``dashscope`` package, a fifth of a second."""
    # Found, not imported: importing dashscope takes half a second and 60 MB.
    try:
        spec = importlib.util.find_spec("dashscope")
        if spec is None or spec.origin is None:
            return None
        import tiktoken

        file = Path(spec.origin).parent / "resources" / "qwen.tiktoken"
        with file.open("rb") as lines:
            pairs = (line.split() for line in lines if line.strip())
            ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    except (ImportError, OSError, ValueError):
        return None
    if len(ranks) != _VOCABULARY_SIZE:
        return None
    encoding = tiktoken.Encoding(
        "Qwen", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )

    def count(text: str) -> int | None:
        # Its pattern gives up on a million spaces in a row; and half a character,
        # which it would replace, has no tokens of its own.
        try:
            text.encode()
            return len(encoding.encode(unicodedata.normalize("NFC", text)))
        except ValueError:
            return None

    return count
