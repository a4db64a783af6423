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


def size(count: int) -> str:
    """A number of bytes for people, in powers of 1,024.

    Example:
        >>> size(999), size(1536), size(4 * 1024**3)
        ('999 B', '1.5 KiB', '4 GiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.1f}".removesuffix(".0") + f" {unit}"
        value /= 1024
    raise AssertionError
