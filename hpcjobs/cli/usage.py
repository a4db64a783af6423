"""Texts that cannot be read are wrong usage of the command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import typer
from typing_extensions import ParamSpec

from hpcjobs.texts import Unreadable

P = ParamSpec("P")
R = TypeVar("R")


def usage(read: Callable[P, R]) -> Callable[P, R]:
    """``read``, which says what is wrong with a text as the command's own errors do."""

    @functools.wraps(read)
    def reader(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except Unreadable as error:
            raise typer.BadParameter(str(error)) from None

    return reader
