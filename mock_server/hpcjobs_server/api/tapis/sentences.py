"""Reads conditions that are written as in SQL, such as ``status = 'FINISHED' AND (name LIKE 'a%' OR tags IN ('b'))``.

They become conditions of :mod:`hpcjobs_server.store`, never SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hpcjobs_server.store import Condition, Every, Not, Some, Test

LONGEST = 100_000
"""Characters."""
DEEPEST = 50
"""Parentheses within each other."""

_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|([A-Za-z_][A-Za-z0-9_.]*)|(-?\d+)|(<>|!=|<=|>=|[=<>(),]))")
_COMPARISONS = {"=": "EQ", "<>": "NEQ", "!=": "NEQ", "<": "LT", "<=": "LTE", ">": "GT", ">=": "GTE"}


class BadSentence(Exception):
    """A condition that cannot be read; says where."""


def read_sentence(text: str) -> Condition | None:
    """Read a condition; None for an empty one.

    Raises:
        BadSentence: It cannot be read.

    Example:
        >>> read_sentence("NOT name = 'it''s'")
        Not(part=Test(field='name', operator='EQ', values=("it's",)))
    """
    if len(text) > LONGEST:
        raise BadSentence(f"the condition has more than {LONGEST} characters")
    if not text.strip():
        return None
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        place = 0
        text = text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise BadSentence(f"the condition cannot be read from {text[place:].strip()[:30]!r} on")
            self._tokens.append(match[0].strip())
            place = match.end()
        self._tokens.append("")
        self._at = self._depth = 0

    def read(self) -> Condition:
        condition = self._some()
        if self._next:
            raise BadSentence(f"the condition goes on with {self._next!r}; put AND or OR before it")
        return condition

    @property
    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        token = self._next
        self._at += 1 if token else 0
        return token

    def _takes(self, word: str) -> bool:
        if self._next.upper() != word:
            return False
        self._at += 1
        return True

    def _expect(self, word: str) -> None:
        if not self._takes(word):
            raise BadSentence(f"there must be {word} in place of {self._next or 'the end'!r}")

    def _some(self) -> Condition:
        return self._joined("OR", self._every, Some)

    def _every(self) -> Condition:
        return self._joined("AND", self._one, Every)

    def _joined(self, word: str, part: Callable[[], Condition], kind: type[Some | Every]) -> Condition:
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadSentence(f"the condition is deeper than {DEEPEST} levels")
        try:
            if self._takes("NOT"):
                return Not(self._one())
            if self._takes("("):
                inside = self._some()
                self._expect(")")
                return inside
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Condition:
        field = self._take()
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", field):
            raise BadSentence(f"there must be the name of a field in place of {field or 'the end'!r}")
        no = "N" if self._takes("NOT") else ""
        word = self._take().upper()
        if word in _COMPARISONS and not no:
            return Test(field, _COMPARISONS[word], (self._value(),))
        if word == "LIKE":
            return Test(field, no + "LIKE", (self._value(),))
        if word == "BETWEEN":
            first = self._value()
            self._expect("AND")
            return Test(field, no + "BETWEEN", (first, self._value()))
        if word == "IN":
            self._expect("(")
            values = [self._value()]
            while self._takes(","):
                values.append(self._value())
            self._expect(")")
            return Test(field, no + "IN", tuple(values))
        allowed = "=, <>, <, <=, >, >=, [NOT] LIKE, [NOT] IN, [NOT] BETWEEN"
        raise BadSentence(f"{field} cannot be compared by {word or 'nothing'!r}; there is {allowed}")

    def _value(self) -> str:
        token = self._take()
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if re.fullmatch(r"-?\d+", token) or token.lower() in {"true", "false"}:
            return token
        raise BadSentence(f"there must be a value, such as 'FINISHED' or 4, in place of {token or 'the end'!r}")
