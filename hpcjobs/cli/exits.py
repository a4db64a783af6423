"""What the exit codes mean, and which error ends in which.

Scripts rely on these numbers: they are part of the command's interface, and ``hpcjobs --help`` prints them.

Example:
    >>> from hpcjobs.errors import JobNotFound
    >>> code_of(JobNotFound("there is no job 7", status=404))
    <ExitCode.NOT_FOUND: 5>
"""

from __future__ import annotations

import enum
from typing import Any

from hpcjobs import errors


class ExitCode(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    """What was asked was done."""
    UNSUCCESSFUL = 1
    """The job that was waited for did not end well, or something asked for did not happen."""
    USAGE = 2
    """The command line or the configuration cannot be used."""
    NO_SERVICE = 3
    """There is no service, or it gives no usable answer."""
    NOT_ALLOWED = 4
    """The token is missing, wrong or expired, or it may not do this."""
    NOT_FOUND = 5
    """There is no such job or token."""
    REFUSED = 6
    """The service refused the request, or the job cannot be asked for as it is."""
    TIMED_OUT = 124
    """The time to wait was over; the job goes on."""
    INTERRUPTED = 130
    """Ctrl-C; the job goes on. The process ends by SIGINT, which a shell shows as this number."""
    PIPE_CLOSED = 141
    """Whoever read the output went away."""


EPILOG = """\
Exit codes:
  0    done
  1    the job that was waited for did not end well, or something asked for
       did not happen
  2    the command line or the configuration cannot be used
  3    no service, or no usable answer from it
  4    not allowed: no token, a wrong or expired one, or too small a scope
  5    no such job or token
  6    refused by the service, or a job that cannot be asked for like this
  124  the time to wait was over (the job goes on)
  130  interrupted by Ctrl-C (the job goes on)
  141  whoever read the output went away

Environment:
  HPCJOBS_URL, HPCJOBS_TOKEN   the service and the token for it
  HPCJOBS_PROFILE              the profile to use
  HPCJOBS_CONFIG               the configuration file
  HPCJOBS_DATA                 the data folder of a service on this machine
  HPCJOBS_DEBUG=1              show where an error came from
  NO_COLOR=1                   no colour
"""
"""The end of ``hpcjobs --help``."""

# The first match counts, so that a narrow class stands before a wide one.
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (errors.ConfigError, ExitCode.USAGE),
    (errors.InvalidSpec, ExitCode.REFUSED),
    (errors.InputError, ExitCode.REFUSED),
    (errors.Unsupported, ExitCode.REFUSED),
    (errors.AuthenticationError, ExitCode.NOT_ALLOWED),
    (errors.PermissionDenied, ExitCode.NOT_ALLOWED),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.JobVanished, ExitCode.NOT_FOUND),
    (errors.WaitTimeout, ExitCode.TIMED_OUT),
    (errors.CancelTimeout, ExitCode.TIMED_OUT),
    (errors.Conflict, ExitCode.REFUSED),
    (errors.StaleVersion, ExitCode.REFUSED),
    (errors.TooLarge, ExitCode.REFUSED),
    (errors.InvalidRequest, ExitCode.REFUSED),
    (errors.RateLimited, ExitCode.NO_SERVICE),
    (errors.ServiceUnavailable, ExitCode.NO_SERVICE),
    (errors.UnexpectedAnswer, ExitCode.NO_SERVICE),
    (errors.TransportError, ExitCode.NO_SERVICE),
    (errors.SubmissionUnknown, ExitCode.NO_SERVICE),
    (errors.ServiceError, ExitCode.REFUSED),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
    (BrokenPipeError, ExitCode.PIPE_CLOSED),
)


def code_of(error: BaseException) -> ExitCode:
    """The exit code for ``error``; 1 for one that has none of its own."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNSUCCESSFUL)


def problem_of(error: BaseException) -> dict[str, Any]:
    """``error`` as a problem document (RFC 9457), for ``--json``.

    Example:
        >>> problem_of(errors.InvalidSpec([("walltime", "is not a length of time")]))["errors"]
        [{'field': 'walltime', 'message': 'is not a length of time'}]
    """
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": type(error).__name__,
        "detail": str(error),
        "exit_code": int(code_of(error)),
    }
    if isinstance(error, errors.ServiceError):
        body_type = error.body.get("type")
        problem["type"] = body_type if isinstance(body_type, str) else "about:blank"
        problem["status"] = error.status
        problem["code"] = error.code
        if error.body.get("errors"):
            problem["errors"] = error.body["errors"]
    elif isinstance(error, errors.InvalidSpec):
        problem["errors"] = [{"field": field, "message": message} for field, message in error.problems]
    elif isinstance(error, errors.SubmissionUnknown):
        problem["key"] = error.key
    elif isinstance(error, errors.WaitTimeout):
        problem["job_id"] = error.info.id
    return problem
