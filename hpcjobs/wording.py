"""Text from elsewhere, made fit to be shown."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    r"""``text`` on one line, with everything written out that a terminal would obey instead of show.

    Control characters, escape sequences, and characters that turn the direction of writing are shown as escapes.

    Example:
        >>> print(clean("fit\x1b[31m\n2"))
        fit\x1b[31m\n2
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else ascii(char)[1:-1] for char in text
    )
