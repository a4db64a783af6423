"""What Tab offers behind the magics: options, states, and the user's own variables. Nothing here asks a service."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from hpcjobs.handles import AsyncJob, Job
from hpcjobs.job_arrays import AsyncJobArray, JobArray
from hpcjobs.lifecycle import GROUPS, JobState
from hpcjobs.models import StderrMode
from hpcjobs.texts import ENDINGS

HANDLES = (Job, AsyncJob, JobArray, AsyncJobArray)
"""What a variable may hold where a job is named."""

STATES = [*(state.value for state in JobState if state is not JobState.UNKNOWN), *GROUPS]

Magics = Mapping[str, argparse.ArgumentParser]
"""The magics, with the ``%`` or ``%%`` before their names, and what reads their lines."""


def matcher(magics: Magics, variables: Callable[[], Mapping[str, Any]]) -> Any:
    """A matcher for ``IPython.Completer.custom_matchers``.

    Args:
        magics: The magics.
        variables: The user's variables at that moment.
    """

    def match(context: CompletionContext) -> dict[str, Any]:
        name, space, line = context.text_until_cursor.lstrip().partition(" ")
        parser = magics.get(name) if space else None
        if parser is None or (name.startswith("%%") and context.cursor_line > 0):
            return {"completions": []}
        word = line.rpartition(" ")[2]
        found = offered(parser, line, variables())
        if found is None:
            return {"completions": []}
        kind = "magic option" if word.startswith("-") else "value"
        return {
            "completions": [SimpleCompletion(text, type=kind) for text in found],
            "suppress": True,
            "matched_fragment": word,
        }

    made: Any = context_matcher(identifier="hpcjobs")
    return made(match)


def offered(parser: argparse.ArgumentParser, line: str, variables: Mapping[str, Any]) -> list[str] | None:
    """What may stand at the end of a magic's line, beginning with what stands there already.

    Args:
        parser: Reads the line.
        line: What stands behind the magic's name.
        variables: The user's variables.

    Returns:
        The words; None where anything may stand there, and others may know better.
    """
    *before, word = line.split(" ")
    last = next((text for text in reversed(before) if text), "")
    actions = parser._actions  # noqa: SLF001 - argparse has no other list of them
    option = next((action for action in actions if last in action.option_strings and action.nargs != 0), None)
    if option is not None:
        return _values(option.dest, word, variables)
    if word.startswith("-"):
        names = [text for action in actions for text in action.option_strings if text.startswith("--")]
        return sorted(name for name in names if name.startswith(word))
    positional = next((action for action in actions if not action.option_strings), None)
    return None if positional is None else _values(positional.dest, word, variables)


def _values(dest: str, word: str, variables: Mapping[str, Any]) -> list[str] | None:
    if dest == "state":
        return [state for state in STATES if state.lower().startswith(word.lower())]
    if dest == "stderr":
        return _beginning(word, (mode.value for mode in StderrMode))
    if dest == "jobs":
        return _beginning(word, _holding(variables, HANDLES))
    if dest == "after":
        job, colon, when = word.rpartition(":")
        if colon:
            return [f"{job}:{ending}" for ending in ENDINGS if ending.startswith(when)]
        return _beginning(word, _holding(variables, HANDLES))
    if dest == "client":
        from hpcjobs.client import Client

        return _beginning(word, _holding(variables, (Client,)))
    if dest == "taken":
        before, comma, start = word.rpartition(",")
        own = [name for name, value in variables.items() if not name.startswith("_") and not callable(value)]
        return [f"{before}{comma}{name}" for name in sorted(own) if name.startswith(start)]
    return None


def _beginning(word: str, words: Iterable[str]) -> list[str]:
    return [text for text in words if text.startswith(word)]


def _holding(variables: Mapping[str, Any], kinds: tuple[type, ...]) -> list[str]:
    return sorted(name for name, value in variables.items() if isinstance(value, kinds) and name[:1] != "_")
