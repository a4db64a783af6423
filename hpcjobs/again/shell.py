"""The shell that submits a job again: for bash, zsh, and others that read ``$'...'``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hpcjobs.again import asked
from hpcjobs.models import Dependency, JobSpec, When

_WIDEST = 100
"""Characters of a command on one line."""

_LONGEST_WORD = 130_000
"""Bytes of one word; Linux takes 128 KiB."""

_LONGEST = 900_000
"""Bytes of all words; macOS takes 1 MiB, the environment included."""


class _Option(NamedTuple):
    """An option as it is written, and what it says, for people; without words it cannot be written."""

    says: str
    words: list[str]

    @property
    def can_be_said(self) -> bool:
        return bool(self.words) and all(map(_can_be_said, self.words))


def as_shell(spec: Mapping[str, Any] | JobSpec, *, url: str | None = None, array_index: int | None = None) -> str:
    """The shell that asks for the same job.

    Args:
        spec: What was asked: ``JobInfo.spec``; of a job of an array :func:`hpcjobs.arrays.own_spec`.
        url: The service's address; without it the command finds the service as ``hpcjobs`` does.
        array_index: The job's index, where it is one of an array.

    Raises:
        InvalidSpec: ``spec`` is none.

    Example:
        >>> print(as_shell({"command": ["python", "my fit.py"], "resources": {"walltime": 600}}))
        hpcjobs submit --walltime 10m -- python 'my fit.py'
    """
    found = asked.read(spec)
    head = "" if url is None else f"export HPCJOBS_URL={quote(url)}\n"
    options, arguments = list(_options(found)), list(_arguments(found))
    bad = [one.says for one in (*options, *arguments) if not one.can_be_said]
    left_out = [f"Left out, as a command line cannot say it: {says}" for says in bad]
    said = [one.words for one in options if one.can_be_said]
    why = asked.of_a_function(found, _line(said), array_index)
    if why is not None:
        return head + _comments([*why, *left_out]).rstrip("\n")
    work = _work(found, [word for one in arguments if one.can_be_said for word in one.words])
    groups = [["hpcjobs", "submit"], *_files(found), *said, *work]
    remarks = [*asked.remarks(found, array_index), *left_out]
    why_not = _why_not(work, groups)
    if why_not is not None:
        return head + _comments([*remarks, why_not]).rstrip("\n")
    line = _line(groups)
    if len(line) > _WIDEST:
        line = " \\\n  ".join(_line([group]) for group in groups)
    return head + _comments(remarks) + line


def quote(word: str) -> str:
    r"""A word as a shell reads it: as it is, in quotes, or with what does not show written out.

    Example:
        >>> print(quote("a b"), quote("--name=x"), quote("a\nb"))
        'a b' --name=x $'a\012b'
    """
    if word.startswith("="):  # zsh looks for a program of that name
        word, first = word[1:], "'='"
    else:
        first = ""
    # an old bash that is typed into takes what follows "!" in such quotes for a look into its history
    if word.isprintable() and not {"'", "!"} <= set(word):
        return first + (shlex.quote(word) if word or not first else "")
    shown = "".join(char if char.isprintable() and char not in "\\'!" else _octal(char) for char in word)
    return f"{first}$'{shown}'"


def _octal(char: str) -> str:
    """A character byte by byte, which needs no locale and no new shell."""
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def _line(groups: list[list[str]]) -> str:
    return " ".join(quote(word) for group in groups for word in group)


def _comments(lines: list[str]) -> str:
    return "".join(f"# {line}\n" for line in lines)


def _can_be_said(word: str) -> bool:
    """Whether a program can be given this word at all."""
    return "\x00" not in word and len(word.encode("utf-8", "surrogatepass")) <= _LONGEST_WORD


def _why_not(work: list[list[str]], groups: list[list[str]]) -> str | None:
    """Why there is no command; None where there is one."""
    if not all(_can_be_said(word) for group in work for word in group):
        return "No command line can say what it runs. The Python can."
    if sum(len(word.encode()) + 9 for group in groups for word in group) > _LONGEST:
        return "A command line may not be so long. The Python may."
    return None


def _files(spec: JobSpec) -> list[list[str]]:
    return [["--input", name] for name in asked.files(spec)]


def _options(spec: JobSpec) -> Iterator[_Option]:
    """The options, each with its value."""
    for name, value in asked.fields(spec).items():
        option = f"--{name.replace('_', '-')}"
        if name == "tags":
            yield from (_Option(f"tag {asked.named(tag)}", ["--tag", tag]) for tag in value)
        elif name == "env":
            yield from (_Option(f"env {asked.named(key)}", ["--env", f"{key}={text}"]) for key, text in value.items())
        elif name in {"meta", "options"}:
            for says, pair in _pairs(name, value):
                yield _Option(says, [] if pair is None else ["--meta" if name == "meta" else "--option", pair])
        elif name == "retry_on":
            yield from (_Option(name, [option, str(code)]) for code in value)
        elif name == "after":
            yield from (_Option(f"after {asked.named(one.job)}", ["--after", _dependency(one)]) for one in value)
        elif name == "requeue":
            yield _Option(name, ["--no-requeue"])
        elif name != "args":
            text = _text(name, value)
            yield _Option(f"{name} {asked.named(text)}", [option, text])


def _text(name: str, value: Any) -> str:
    if name == "start_at":
        return str(value.isoformat())
    if name == "memory":
        return str(asked.memory(value))
    if name in {"walltime", "grace", "backoff", "start_in", "expires_in"}:
        return asked.length(value)
    return str(getattr(value, "value", value))


def _arguments(spec: JobSpec) -> Iterator[_Option]:
    """The arguments of a task or an app."""
    for says, pair in _pairs("args", spec.args or {}):
        yield _Option(says, [] if pair is None else [pair])


def _work(spec: JobSpec, arguments: list[str]) -> list[list[str]]:
    """The end of the line, which says what to run."""
    if isinstance(spec.command, str):
        # a single word with a space in it is a shell command by itself
        clear = any(char.isspace() for char in spec.command)
        return [["--", spec.command]] if clear else [["--shell"], ["--", spec.command]]
    if spec.command is not None:
        one = len(spec.command) == 1 and any(char.isspace() for char in spec.command[0])
        return [["--no-shell"]] * one + [["--", *spec.command]]
    named = ["--task" if spec.task is not None else "--app", spec.task or spec.app or ""]
    return [named, ["--", *arguments]] if arguments else [named]


def _dependency(one: Dependency) -> str:
    return one.job if one.when is When.OK and ":" not in one.job else f"{one.job}:{one.when}"


def _pairs(field: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Each name with its value in JSON; None where a command line cannot tell the name from the value."""
    for name, value in values.items():
        says = f"{field} {asked.named(name)}"
        try:
            text = json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError):
            text = None
        yield says, None if not name or "=" in name or text is None else f"{name}={text}"
