"""Tries requests again: which ones, after which failures, when, and for how long.

``retried`` wraps any operation. It looks at each request that the operation yields and at what came of it; the
operation itself sees only the last answer or the last error, and how often it was tried. tenacity decides, driven
through its ``iter()``, which does no I/O either, so that sync and async share every rule.

============================  ==========================================  ===================================
what came of the request      GET, HEAD, PUT, DELETE, ``repeatable``       others (POST, PATCH)
============================  ==========================================  ===================================
no connection                 tried again                                 tried again: nothing was sent
connection broke, timeout     tried again                                 raised: it may have had its effect
408, 502, 503, 504            tried again                                 handed over
429                           tried again                                 tried again: it was turned away
anything else                 handed over                                 handed over
============================  ==========================================  ===================================
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpcjobs.errors import HpcjobsError, NoService, TransportError
from hpcjobs.protocol import Effect, Op, Request, Response, Sleep, T, retry_after

if TYPE_CHECKING:
    import tenacity

TURNED_AWAY = 429
"""The status that says that nothing was done, whatever the method."""

TRANSIENT = frozenset({408, TURNED_AWAY, 502, 503, 504})
"""The statuses after which the same request may do better."""


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a request is tried.

    Attributes:
        tries: Most tries, the first one included; 1 for no retry.
        deadline: Seconds from the start of the first try; no pause may end after it.
        base: Seconds: the longest first pause. Each pause is drawn between zero and a bound that doubles every time.
        cap: Seconds: the longest pause that is drawn.
        retry_after_cap: Seconds: the longest pause that a service can ask for by ``Retry-After``.

    Example:
        >>> RetryPolicy(tries=3).cap
        8.0
    """

    tries: int = 6
    deadline: float = 60.0
    base: float = 0.25
    cap: float = 8.0
    retry_after_cap: float = 60.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries is {self.tries}; a request is tried at least once")
        for name in ("deadline", "base", "cap", "retry_after_cap"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give seconds, zero or more")


DEFAULT = RetryPolicy()


def retried(
    op: Op[T],
    policy: RetryPolicy = DEFAULT,
    *,
    clock: Callable[[], float] = time.monotonic,
    random: Callable[[], float] | None = None,
) -> Op[T]:
    """Wrap ``op`` so that its requests are tried again by ``policy``.

    Args:
        op: Any operation.
        policy: How often and how long.
        clock: Seconds that only grow.
        random: Draws from 0 to 1; None for the usual generator.

    Returns:
        An operation with the same result. An error that leaves it has ``tries`` set.
    """
    tries = 1
    answer: Any = None
    error: BaseException | None = None
    try:
        effect = next(op)
        while True:
            error = None
            start = clock()
            try:
                answer = yield effect
            except GeneratorExit:
                raise
            except BaseException as caught:  # noqa: BLE001 - it is the operation's business
                error = caught
            if type(effect) is Request:
                tries = 1
                # The first try pays for nothing: tenacity is not even imported until something has failed.
                if policy.tries > 1 and _again(effect, answer, error):
                    state = _begin(effect, policy, start, random)
                    answer, error, tries = yield from _keep_trying(state, effect, answer, error, clock)
            effect = op.send(answer) if error is None else op.throw(error)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    except HpcjobsError as raised:
        raised.tries = max(raised.tries, tries)
        raise
    finally:
        # A reference from this frame to an error whose traceback holds this frame would keep both alive.
        error = None
        op.close()


def _again(request: Request, answer: Any, error: BaseException | None) -> bool:
    """Whether the outcome of one try calls for another one."""
    if error is not None:
        return isinstance(error, TransportError) and (isinstance(error, NoService) or request.safe_to_repeat)
    status = answer.status
    return status in TRANSIENT and (status == TURNED_AWAY or request.safe_to_repeat)


def _keep_trying(
    state: tenacity.RetryCallState,
    request: Request,
    answer: Any,
    error: BaseException | None,
    clock: Callable[[], float],
) -> Op[tuple[Any, BaseException | None, int]]:
    """Go on after a first try that failed; returns the last answer or error, and the number of tries."""
    from tenacity import DoSleep

    lost = False
    while True:
        lost = lost or _lost(answer, error)
        state.set_result((answer, error))
        state.outcome_timestamp = clock()
        do = state.retry_object.iter(state)
        if not isinstance(do, DoSleep):
            break
        answer, error = yield from _try(Sleep(float(do)))
        if error is not None:  # interrupted in the pause
            break
        state.prepare_for_next_attempt()
        answer, error = yield from _try(request)
    tries = state.attempt_number
    if isinstance(error, HpcjobsError):
        error.tries = tries
        error.may_have_acted = error.may_have_acted or lost
    elif isinstance(answer, Response):
        answer = dataclasses.replace(answer, tries=tries, lost=lost)
    return answer, error, tries


def _try(effect: Effect) -> Op[tuple[Any, BaseException | None]]:
    try:
        return (yield effect), None
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - it is the operation's business
        return None, error


def _lost(answer: Any, error: BaseException | None) -> bool:
    """Whether the service may have acted on this try although nobody was told."""
    if error is not None:
        return isinstance(error, HpcjobsError) and error.may_have_acted
    return answer.status in TRANSIENT and answer.status != TURNED_AWAY


def _begin(
    request: Request, policy: RetryPolicy, start: float, random: Callable[[], float] | None
) -> tenacity.RetryCallState:
    """The rules in tenacity's words. An outcome is always a pair ``(answer, error)``, so that nothing is wrapped."""
    import tenacity

    if random is None:
        from random import random as draw
    else:
        draw = random
    window = tenacity.wait_exponential(multiplier=policy.base, max=policy.cap)

    def outcome(state: tenacity.RetryCallState) -> tuple[Any, BaseException | None]:
        assert state.outcome is not None
        return state.outcome.result()  # type: ignore[no-any-return]

    def retry(state: tenacity.RetryCallState) -> bool:
        return _again(request, *outcome(state))

    def wait(state: tenacity.RetryCallState) -> float:
        answer, _ = outcome(state)
        asked = retry_after(answer) if answer is not None else None
        if asked is not None:
            # Everyone who was told the same must not come back in the same instant.
            return min(asked, policy.retry_after_cap) + draw() * policy.base
        return draw() * window(state)

    def stop(state: tenacity.RetryCallState) -> bool:
        elapsed = state.seconds_since_start or 0.0
        return state.attempt_number >= policy.tries or elapsed + state.upcoming_sleep > policy.deadline

    retrying = tenacity.Retrying(retry=retry, wait=wait, stop=stop, retry_error_callback=outcome)
    retrying.begin()
    state = tenacity.RetryCallState(retrying, fn=None, args=(), kwargs={})
    state.start_time = start
    return state
