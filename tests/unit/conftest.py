"""What the tests of operations share: a driver without any HTTP, clock or network."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest

from hpcjobs.protocol import Emit, Op, Request, Response, Run, Sleep


class Script:
    """Runs operations by ``gen.send``: each request gets the next answer of the script.

    An answer is a ``Response``, an exception (thrown in), or a function of the request that returns either. Pauses only
    move ``now``.
    """

    def __init__(self) -> None:
        self.answers: deque[Any] = deque()
        self.requests: list[Request] = []
        self.sleeps: list[float] = []
        self.items: list[Any] = []
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def play(self, op: Op[Any], *answers: Any) -> Any:
        """Run ``op`` to its end; every answer must be used."""
        self.answers.extend(answers)
        try:
            effect = next(op)
            while True:
                try:
                    value = self._do(effect)
                except BaseException as error:
                    effect = op.throw(error)
                else:
                    effect = op.send(value)
        except StopIteration as end:
            assert not self.answers, f"{len(self.answers)} answers were not asked for"
            return end.value
        finally:
            op.close()

    @property
    def sent(self) -> list[str]:
        """The requests in short: ``["GET /v1/jobs/1"]``."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def _do(self, effect: Any) -> Any:
        if isinstance(effect, Sleep):
            self.sleeps.append(effect.seconds)
            self.now += effect.seconds
            return None
        if isinstance(effect, Emit):
            self.items.append(effect.item)
            return None
        if isinstance(effect, Run):
            return effect.function()
        assert isinstance(effect, Request), effect
        self.requests.append(effect)
        assert self.answers, f"nobody has an answer to {effect.method} {effect.path}"
        answer = self.answers.popleft()
        if callable(answer) and not isinstance(answer, BaseException):
            answer = answer(effect)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def reply():
    """Makes a JSON answer: ``reply(200, {...}, header="...")``; errors are problem+json."""

    def make(status: int, body: Any = None, **headers: str) -> Response:
        kind = "application/problem+json" if status >= 400 else "application/json"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = b"" if body is None else json.dumps(body).encode()
        return Response(status, {"content-type": kind, **named}, content)

    return make


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
