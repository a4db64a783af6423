"""What travels in a job's comment: Slurm has no other place for keys, tags and the like.

A comment begins with what a person wrote, if anything; ours stands at its end.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hpcjobs.slurm_data import MARK

LONGEST = 1024
"""Bytes: longer comments are refused."""


@dataclasses.dataclass(frozen=True)
class Note:
    """What is written into a comment.

    Attributes:
        text: What a person wrote.
        key: The submission key.
        sum: The sum of what was asked, by which the same key with another job is noticed.
        tags: The job's tags.
        meta: The job's meta.
        reason: Why it was cancelled.
        size: Of an array: how many jobs it has.

    Example:
        >>> note = Note(text="for Ann", key="k1", tags=["night"])
        >>> note.written()
        'for Ann hpcjobs:{"key":"k1","tags":["night"]}'
        >>> read(note.written()) == note
        True
    """

    text: str = ""
    key: str = ""
    sum: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    size: int = 0

    def written(self) -> str:
        """The comment."""
        names = ("key", "sum", "tags", "meta", "reason", "size")
        told = {name: value for name in names if (value := getattr(self, name))}
        ours = MARK + json.dumps(told, separators=(",", ":"), ensure_ascii=False) if told else ""
        return " ".join(filter(None, (self.text, ours)))


def read(comment: str | None) -> Note:
    """What a comment says; one that is not ours is a person's text."""
    told = comment or ""
    at = told.find(MARK)
    while at >= 0:  # the mark may also stand in what a person wrote, and in a tag
        note = _ours(told[:at].strip(), told[at + len(MARK) :])
        if note is not None:
            return note
        at = told.find(MARK, at + 1)
    return Note(text=told)


def _ours(text: str, rest: str) -> Note | None:
    """What stands behind a mark; None where that is not all ours."""
    try:
        told = json.loads(rest)
        return Note(
            text=text,
            key=str(told.get("key", "")),
            sum=str(told.get("sum", "")),
            tags=[str(tag) for tag in told.get("tags", ())],
            meta=dict(told.get("meta", {})),
            reason=str(told.get("reason", "")),
            size=int(told.get("size", 0)),
        )
    except (ValueError, TypeError, AttributeError):
        return None


def too_long(comment: str) -> int:
    """By how many bytes a comment is too long; 0 for one that fits.

    Example:
        >>> too_long("x" * 1030)
        6
    """
    return max(0, len(comment.encode()) - LONGEST)


def replaced(note: Note, **changes: Any) -> str:
    """The comment with some of it changed."""
    return dataclasses.replace(note, **changes).written()
