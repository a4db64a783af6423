"""Job ids on the command line, and on stdin."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def read_ids(given: Sequence[str]) -> list[str]:
    """The ids that are given, each once; ``-`` stands for those on stdin, parted by white space.

    Example:
        >>> read_ids(["a", "b", "a"])
        ['a', 'b']
    """
    ids: list[str] = []
    for word in given:
        ids.extend(sys.stdin.read().split() if word == "-" else [word])
    return list(dict.fromkeys(ids))
