"""The errors as objects: they travel between processes, and those that pass are named once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from hpcjobs import errors
from hpcjobs.errors import HpcjobsError, ServiceError
from hpcjobs.models import CancelOutcome, CancelResult, JobInfo

INFO = JobInfo(id="7", state="RUNNING", version=3)
RESULT = CancelResult(job_id="7", outcome=CancelOutcome.LEFT_RUNNING)

MADE: dict[type[HpcjobsError], HpcjobsError] = {
    type(error): error
    for error in (
        errors.InvalidSpec([("cores", "is not a number"), ("", "no")]),
        errors.InputError("a.csv", "is missing"),
        errors.OutputError("../a", "leaves the folder"),
        errors.Unsupported("plain", "list jobs", "keep their ids"),
        errors.SubmissionUnknown("k1", "the answer was lost"),
        errors.ClientClosed(),
        errors.WaitTimeout(INFO, 1.5, 2),
        errors.CancelTimeout(RESULT, INFO, 3.0),
        errors.NotCancelled(RESULT),
        errors.JobVanished("7", INFO),
        errors.JobFailed(INFO, "the end\n"),
        errors.JobCancelled(INFO),
        errors.RemoteError(INFO, "ValueError: no", "Traceback ..."),
        errors.EnvironmentMismatch(INFO, ["there is no numpy", "and no scipy"]),
        errors.ResultError(INFO, "is gone"),
        errors.ResultTooLarge(INFO, path="r", size=3, available=2),
        errors.JobUnsuccessful(INFO),
    )
}


def kinds(kind: type[HpcjobsError] = HpcjobsError) -> Iterator[type[HpcjobsError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def made(kind: type[HpcjobsError]) -> HpcjobsError:
    if kind in MADE:
        return MADE[kind]
    if issubclass(kind, ServiceError):
        return kind("no", status=409, code="state", body={"errors": [1]})
    return kind("no")


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
@pytest.mark.parametrize("kind", sorted(set(kinds()), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_error_reaches_another_process_as_it_is(kind, again):
    """As a pool of processes sends it: same class, same words, same attributes."""
    error = made(kind)
    error.tries, error.may_have_acted = 4, True
    loaded = again(error)
    assert type(loaded) is kind
    assert (str(loaded), loaded.args) == (str(error), error.args)
    assert vars(loaded) == vars(error)
    assert (loaded.tries, loaded.may_have_acted) == (4, True)


def test_no_service_error_asks_for_a_pause_unless_the_service_did():
    assert ServiceError("no").retry_after is None


def test_what_passes_is_what_a_restart_of_the_service_looks_like():
    """No answer, "not ready", "too many", and the page of a proxy whose service is away; never a plain no."""
    passing = {kind for kind in kinds() if issubclass(kind, errors.PASSING)}
    assert {kind.__name__ for kind in passing} == {
        "TransportError",
        "NoService",
        "TimedOut",
        "ConnectionLost",
        "ServiceUnavailable",
        "RateLimited",
        "UnexpectedAnswer",
    }
