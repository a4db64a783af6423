"""What the demo says is checked before it is said."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on, or something that it claims is not so."""


def claim(holds: bool, otherwise: str) -> None:
    """Go on only where a claim holds.

    Args:
        holds: Whether it does.
        otherwise: What is the case if it does not, in one sentence.

    Raises:
        DemoError: It does not hold.

    Example:
        >>> claim(2 + 2 == 4, "arithmetic is broken")
    """
    if not holds:
        raise DemoError(otherwise)
