"""Asking again inside an operation: for what takes a moment to appear, and for what fails in a way that passes.

Lost answers and busy services are :mod:`hpcjobs.retrying`'s, which wraps whole operations; here is what only a service
can know of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from hpcjobs.errors import ServiceError
from hpcjobs.protocol import Op, sleep

T = TypeVar("T")


def until_found(
    find: Callable[[], Op[T | None]], *, within: float, passing: tuple[type[Exception], ...], pause: float = 1.0
) -> Op[T | None]:
    """Look for something until it is there, ever less often.

    Args:
        find: Looks once; None where it is not there.
        within: Seconds until it is given up.
        passing: The errors of a look that say nothing about the next one.
        pause: Seconds before the second look.

    Returns:
        What was found; None where it did not appear.
    """
    left = within
    while True:
        try:
            found = yield from find()
        except passing:
            found = None
        if found is not None or left <= 0:
            return found
        yield from sleep(min(pause, left))
        left, pause = left - pause, 2 * pause


def patiently(ask: Callable[[], Op[T]], pauses: Iterable[float], passes: Callable[[ServiceError], bool]) -> Op[T]:
    """Ask again after each pause, as long as the answer is an error that passes.

    Args:
        ask: Asks once.
        pauses: Seconds before each further try.
        passes: Whether an error may be another one, or none, a moment later.

    Raises:
        ServiceError: What does not pass, or has not.
    """
    for pause in pauses:
        try:
            return (yield from ask())
        except ServiceError as error:
            if not passes(error):
                raise
        yield from sleep(pause)
    return (yield from ask())
