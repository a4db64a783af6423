"""What methods in the style of tapipy return: objects whose fields are attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcjobs.wording import clean, near

_SHOWN = ("name", "uuid", "status", "condition", "eventDetail", "path", "size", "message")
"""The fields that stand in a repr, where there are any of them."""


class TapisResult:
    """A record of Tapis: ``result.status``, ``result.get("status")``; objects within it are such results too.

    Fields that a service does not tell are None. A field that does not exist is an ``AttributeError`` that names the
    nearest one. ``print(result)`` shows all that is known; ``vars(result)`` has all fields.

    ``id`` of a job is what ``uuid`` is, so that ``getJob(jobUuid=job.id)`` means the job. Real Tapis has the number of
    a database row there, which no method takes.

    Example:
        >>> job = TapisResult({"uuid": "0b7f", "status": "RUNNING", "lastMessage": None})
        >>> job.status, job.get("nothing", "else")
        ('RUNNING', 'else')
        >>> job
        <TapisResult uuid='0b7f' status='RUNNING'>
        >>> job.state
        Traceback (most recent call last):
        AttributeError: a TapisResult has no 'state'; did you mean status?
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.__dict__.update({name: wrapped(value) for name, value in fields.items()})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python's own questions
            raise AttributeError(name)
        raise AttributeError(f"a {type(self).__name__} has no {name!r}; {near(name, vars(self))}")

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or ``default`` where there is no such field.

        Args:
            name: The field.
            default: What stands for one that is not there.
        """
        return vars(self).get(name, default)

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, TapisResult) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it can be changed, as tapipy's

    def __repr__(self) -> str:
        told = "".join(f" {name}={value!r}" for name in _SHOWN if (value := self.get(name)) is not None)
        return f"<{type(self).__name__}{clean(told)}>"

    def __str__(self) -> str:
        return "\n".join(f"{name}: {clean(str(value))}" for name, value in vars(self).items() if value is not None)


def wrapped(value: Any) -> Any:
    """A value of a record: objects become results, also within lists."""
    if isinstance(value, Mapping):
        return TapisResult(value)
    return [wrapped(item) for item in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """The reverse of :func:`wrapped`: what can travel as JSON."""
    if isinstance(value, TapisResult):
        value = vars(value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
