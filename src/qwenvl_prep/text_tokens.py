"""How many tokens a text takes."""

from __future__ import annotations

import unicodedata

from qwenvl_prep.geometry import integer

__all__ = ["text_token_bound"]


def text_token_bound(text: str | int) -> int:
    """
    Give a number of tokens that the text does not exceed.

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
        forms = (text, unicodedata.normalize("NFC", text))
        return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
    if isinstance(text, bool) or not hasattr(text, "__index__"):
        raise TypeError(f"Expected a str or a number of tokens but received {text!r}")
    text = integer("text", text)
    if text < 0:
        raise ValueError(f"Expected at least 0 text tokens but received {text}")
    return text
