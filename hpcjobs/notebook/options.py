"""What can be written behind the magics. The long options are called like the arguments of the client's methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from IPython.core import magic, magic_arguments

F = TypeVar("F", bound=Callable[..., Any])

argument: Any = magic_arguments.argument
_arguments: Any = magic_arguments.magic_arguments


def _magic(kind: Any, *arguments: Any) -> Callable[[F], F]:
    """Makes a method a magic with these arguments."""

    def decorate(method: F) -> F:
        made: Any = method
        for each in reversed(arguments):
            made = each(made)
        return cast("F", kind(_arguments()(made)))

    return decorate


_CONDITIONS = (
    argument(
        "--state",
        "-s",
        action="append",
        metavar="STATE",
        help="Jobs in this state; 'active' and 'ended' stand for several. May be repeated.",
    ),
    argument("--tag", action="append", metavar="TAG", help="Jobs with this tag. May be repeated: with all."),
    argument("--name", "-n", metavar="NAME", help="Jobs of this name; * stands for anything."),
    argument("--queue", "-q", metavar="QUEUE", help="Jobs of this queue."),
    argument("--array", metavar="ID", help="Jobs of this array."),
)

_OPTIONS = (
    argument("--name", "-n", metavar="NAME", help="A name for people."),
    argument("--cores", "-c", type=int, metavar="N", help="Processor cores."),
    argument("--memory", metavar="SIZE", help="Memory: 500MB, 4GiB, 4G or a number of bytes."),
    argument(
        "--walltime", "-t", metavar="TIME", help="The longest time it may run: 90s, 10m, 1h30m, 2d or D-HH:MM:SS."
    ),
    argument("--queue", "-q", metavar="QUEUE", help="The queue."),
    argument("--priority", type=int, metavar="N", help="Higher goes first."),
    argument("--tag", action="append", metavar="TAG", help="A word to find the job by. May be repeated."),
    argument(
        "--input",
        "-i",
        action="append",
        metavar="[NAME=]PATH",
        help="Send along this file, all files of this folder, or those that a pattern means. May be repeated.",
    ),
    argument(
        "--env",
        action="append",
        metavar="NAME[=VALUE]",
        help="Set a variable for the job; without a value, pass on the kernel's. May be repeated.",
    ),
    argument(
        "--after",
        action="append",
        metavar="JOB[:ok|any|failed]",
        help="A job or an array, by its id or a variable, that must have ended before. May be repeated.",
    ),
    argument("--max-attempts", type=int, metavar="N", help="How often it may run in all, if it fails."),
    argument("--backoff", metavar="TIME", help="The pause before its second attempt, doubled before each further one."),
    argument(
        "--retry-on",
        action="append",
        type=int,
        metavar="CODE",
        help="An exit code that is worth another attempt; without any: every failure. May be repeated.",
    ),
    argument("--start-at", metavar="DATE", help="Not before: 2026-05-01 or 2026-05-01T12:00, local time."),
    argument("--start-in", metavar="TIME", help="Not before so much time has gone by: 90s, 2h."),
    argument("--expires-in", metavar="TIME", help="It is FAILED if it has not started after so much time."),
    argument("--grace", metavar="TIME", help="How long it may take to end when it is asked to stop."),
    argument("--no-requeue", action="store_true", help="Do not run it again if the machine that ran it was lost."),
    argument("--stderr", metavar="merged|separate", help="Whether stderr has a log of its own."),
    argument(
        "--meta",
        action="append",
        metavar="KEY=JSON",
        help="Something of your own to keep with the job; what is no JSON is text. May be repeated.",
    ),
    argument(
        "--option",
        action="append",
        metavar="KEY=JSON",
        help="What only this kind of service understands, in its own words. May be repeated.",
    ),
    argument("--key", metavar="KEY", help="A submission key of your own: the same key never makes a second job."),
)

JOB = _magic(
    magic.cell_magic,
    argument("--handle", "-o", metavar="NAME", help="The variable for the job's handle; it is always in _job, too."),
    *_OPTIONS,
    argument("--wait", action="store_true", help="Wait until it has ended; an error unless it ended well."),
    argument("--timeout", metavar="TIME", help="With --wait: wait no longer than this. The job goes on."),
    argument("--dry-run", action="store_true", help="Print what would be asked, and ask nothing."),
    argument("--function", "-f", action="store_true", help="Run the cell as Python, with variables in and out."),
    argument(
        "--in", dest="taken", action="append", metavar="X,Y", help="With -f: variables that go in. May be repeated."
    ),
    argument(
        "--out",
        action="append",
        metavar="X,Y",
        help="With -f: variables that come out, as the dict job.result(); with --wait they are set here, too.",
    ),
    argument("--python", metavar="PATH", help="With -f: the Python that runs the cell."),
)

JOBS = _magic(
    magic.line_magic,
    *_CONDITIONS,
    argument("--limit", "-l", type=int, metavar="N", help="At most so many; 0 for all."),
)

CANCEL = _magic(
    magic.line_magic,
    argument("jobs", nargs="*", metavar="JOB", help="Jobs or arrays, by ids, or by variables that hold handles."),
    *_CONDITIONS,
    argument("--reason", "-r", metavar="TEXT", help="Why; everyone who sees the job sees it."),
    argument("--no-abort", action="store_true", help="Leave jobs alone that have started."),
    argument("--confirm", metavar="TIME", help="Wait so long for the jobs to have ended."),
    argument("--delete", action="store_true", help="Remove the records of jobs that never started."),
    argument("--yes", "-y", action="store_true", help="Do not ask, also where many jobs or conditions are given."),
)

CLIENT = _magic(
    magic.line_magic,
    argument(
        "client", nargs="?", metavar="CLIENT", help="A variable with a Client, or a profile or an address for one."
    ),
)
