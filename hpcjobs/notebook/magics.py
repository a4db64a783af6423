"""The magics of ``%load_ext hpcjobs``: ``%%job``, ``%jobs``, ``%cancel`` and ``%hpcjobs_client``."""

from __future__ import annotations

import contextlib
import inspect
import json
import keyword
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from IPython.core import magic
from IPython.core.error import StdinNotImplementedError, UsageError

from hpcjobs import submitting, telling, texts
from hpcjobs.client import AsyncClient, Client
from hpcjobs.errors import HpcjobsError
from hpcjobs.functions import pack
from hpcjobs.handles import Job
from hpcjobs.job_arrays import AsyncJobArray, JobArray
from hpcjobs.lifecycle import ACTIVE
from hpcjobs.lines import line
from hpcjobs.live import in_notebook
from hpcjobs.models import CancelOutcome, CancelResult, JobSpec
from hpcjobs.notebook import cells, completing, options
from hpcjobs.wording import clean, size

R = TypeVar("R")

LAST = "_job"
"""The variable that has the newest handle."""

LIMIT = 50
"""So many jobs a terminal is shown where it is not said how many."""

_magics_class: Any = magic.magics_class


@_magics_class
class JobMagics(magic.Magics):
    """The magics.

    Args:
        shell: The IPython shell that they are for.
    """

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._user: Any = shell
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client of the magics: the one that was chosen, else one of their own, made when it is first needed."""
        if self._client is None:
            self._client = Client()
        return self._client

    @options.JOB
    def job(self, line: str, cell: str) -> Any:
        """Submit the cell as a job, and do not wait for it.

        The cell is a script for bash, or for the program that its first line names: #!/usr/bin/env python3.
        With -f it is Python that runs with the variables of --in; the value of its last expression is the
        result of the job, or a dict of the variables of --out.
        """
        args = self._parse("job", line)
        with _in_one_line():
            self._check(args)
            timeout = texts.seconds(args.timeout)
            asked = self._asked(args)
            inputs = texts.inputs(args.input or [])
            submit = self._function if args.function else self._script
            job = submit(args, cell, asked, inputs)
        if job is None:
            return None
        names = [LAST, args.handle or LAST]
        self._user.push(dict.fromkeys(names, job))
        if not args.wait:
            return job
        value = _called(job.result, timeout)
        if args.out:
            self._user.push(value)
            return None
        return value if args.function else None

    @options.JOBS
    def jobs(self, line: str) -> Any:
        """List jobs, newest first."""
        args = self._parse("jobs", line)
        with _in_one_line():
            where = _where(args)
            limit = args.limit
            if limit is not None and limit < 0:
                raise UsageError(f"--limit {limit}: write a number of jobs, or 0 for all")
            if in_notebook():  # there it is a table, with pages
                return self.client.jobs(limit=limit or None, **where)
            limit = LIMIT if limit is None else limit
            # One more than is shown is asked for: then it is known whether there are more.
            found = list(self.client.jobs(limit=limit + 1 if limit else None, **where))
        if len(found) > limit > 0:
            print(f"there are more than these {limit}; --limit 0 lists all")
            found.pop()
        return Found(found)

    @options.CANCEL
    def cancel(self, line: str) -> None:
        """Cancel jobs, and say of each what came of it.

        For a job that has ended, nothing is done. A job that runs is asked to stop and may still finish; --confirm
        waits to see. Conditions that name no state mean jobs that have not ended. More than five jobs, and conditions,
        are asked about first.
        """
        args = self._parse("cancel", line)
        with _in_one_line():
            where = _where(args)
            if bool(args.jobs) == bool(where):
                raise UsageError(
                    "give jobs or conditions, not both"
                    if where
                    else "say which jobs to cancel: ids, variables, or a condition (--state, --tag, --name, ...)"
                )
            confirm = texts.seconds(args.confirm)
            jobs = [handle for word in args.jobs for handle in self._handles(word)]
            order = self._agreed(jobs, where, yes=args.yes)
            if order is None:
                print("nothing was cancelled")
                return
            results = self.client.cancel_many(
                **order, reason=args.reason, abort=not args.no_abort, delete=args.delete, confirm=confirm
            )
        if not results:
            print("no job was cancelled: none is meant")
        for text in telling.lines(results, bad=_unknown, line=lambda result: _told(result, args.reason)):
            print(clean(text))

    @options.CLIENT
    def hpcjobs_client(self, line: str) -> Any:
        """Choose the client of the magics; without a name, show it.

        Where none was chosen they use one of their own: Client(), with the profile and the environment as usual.
        """
        name = self._parse("hpcjobs_client", line).client
        with _in_one_line():
            if name is None:
                return self.client
            value = self._user.user_ns.get(name)
            if isinstance(value, AsyncClient):
                raise UsageError(f"{name} is an AsyncClient; the magics need a Client")
            if value is not None and not isinstance(value, Client):
                raise UsageError(f"{name} is a {type(value).__name__}; name a Client, a profile or an address")
            if value is None:
                value = Client(name)
            self._client = value
        return value

    # -----------------------------------------------------------------------------------------------------------------
    # What is asked

    def parser(self, name: str) -> Any:
        """What reads the line of a magic."""
        return getattr(type(self), name).parser

    def _parse(self, name: str, line: str) -> Any:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"the line cannot be read: {error}") from None
        parser = self.parser(name)
        parser.allow_abbrev = False  # what works today must not change with the next option
        return parser.parse_args(words)

    def _check(self, args: Any) -> None:
        """Refuse what does not go together, and names that are none.

        Raises:
            UsageError: Something does not.
        """
        if not args.function:
            for option, value in (("--in", args.taken), ("--out", args.out), ("--python", args.python)):
                if value:
                    raise UsageError(f"{option} goes with -f, which runs the cell as Python; a script has none")
        if args.timeout is not None and not args.wait:
            raise UsageError("--timeout needs --wait")
        args.taken, args.out = _names(args.taken, "--in"), _names(args.out, "--out")
        if args.handle is not None:
            found = _names([args.handle], "-o")
            if len(found) != 1:
                raise UsageError(f"-o {args.handle}: name one variable")
            args.handle = found[0]

    def _asked(self, args: Any) -> dict[str, Any]:
        """The options as ``client.submit()`` takes them."""
        plain = ("name", "cores", "memory", "walltime", "queue", "priority", "max_attempts", "backoff", "retry_on")
        asked = {name: getattr(args, name) for name in (*plain, "start_in", "expires_in", "grace", "stderr")}
        asked |= {
            "tags": args.tag,
            "env": texts.environment(args.env or []),
            "meta": texts.fields(args.meta or []),
            "options": texts.fields(args.option or [], what="the option"),
            "after": [dependency for word in args.after or [] for dependency in self._dependencies(word)],
            "start_at": None if args.start_at is None else texts.start(args.start_at),
            "requeue": False if args.no_requeue else None,
        }
        return {name: value for name, value in asked.items() if value not in (None, {}, [])}

    def _dependencies(self, word: str) -> list[Any]:
        if word in self._user.user_ns:
            return self._handles(word)
        job, when = texts.dependency(word)
        return [(handle, when) for handle in self._handles(job)]

    def _handles(self, word: str) -> list[Any]:
        """The jobs that a word means: those that the variable of this name holds, else the one with this id."""
        value = self._user.user_ns.get(word)
        if value is None:
            return [word]
        found = [value] if isinstance(value, (*completing.HANDLES, str)) else value
        if not isinstance(found, Sequence) or not all(isinstance(one, (*completing.HANDLES, str)) for one in found):
            raise UsageError(f"{word} is a {type(value).__name__}; name a variable that holds jobs, or an id")
        return list(found)

    def _script(self, args: Any, cell: str, asked: dict[str, Any], inputs: dict[str, str]) -> Job[Any] | None:
        script = cells.script_of(cell)
        if script.name in inputs:
            raise UsageError(f"there is an input named {script.name!r}, which the cell is called; write NAME=PATH")
        spec = submitting.asked(script.command, {}, **asked)
        if args.dry_run:
            _show(spec, {script.name: len(script.text.encode())}, inputs)
            return None
        with tempfile.TemporaryDirectory(prefix="hpcjobs-") as folder:
            path = Path(folder, script.name)
            path.write_text(script.text, encoding="utf-8")
            return self.client.submit(spec, inputs={script.name: str(path), **inputs}, key=args.key)

    def _function(self, args: Any, cell: str, asked: dict[str, Any], inputs: dict[str, str]) -> Job[Any] | None:
        own = self._variables()
        missing = [name for name in args.taken if name not in own]
        if missing:
            raise UsageError(f"--in {','.join(missing)}: there is no such variable")
        taken = {name: own[name] for name in args.taken}
        # A parameter that is called like an option of a job is passed by position, so that nobody can take it for one.
        first = {name: value for name, value in taken.items() if name in _OPTIONS}
        rest = {name: value for name, value in taken.items() if name not in _OPTIONS}
        # The number of the cell that runs: in some versions of IPython execution_count is the next one's by now.
        file = f"Cell In[{len(self._user.user_ns.get('In', ())) - 1}]"
        function = _called(cells.function_of, cell, file=file, taken={**first, **rest}, out=args.out, around=own)
        if args.dry_run:
            with tempfile.TemporaryDirectory(prefix="hpcjobs-") as folder:
                packed = pack(Path(folder), function, list(first.values()), rest, python=args.python)
                named = {"name": packed.name, **asked}
                spec = JobSpec.parse({**named, "command": packed.command, "function": packed.mark})
                _show(spec, {name: path.stat().st_size for name, path in packed.files.items()}, inputs)
            return None
        more = {"python": args.python, "inputs": inputs or None, "key": args.key}
        return self.client.submit(function, *first.values(), **rest, **asked, **more)

    def _variables(self) -> Mapping[str, Any]:
        """The user's variables, without those that IPython has put there."""
        hidden = self._user.user_ns_hidden
        return {
            name: value for name, value in self._user.user_ns.items() if name not in hidden or hidden[name] is not value
        }

    # -----------------------------------------------------------------------------------------------------------------
    # What is cancelled

    def _agreed(self, jobs: list[Any], where: dict[str, Any], *, yes: bool) -> dict[str, Any] | None:
        """What is to be cancelled, as ``cancel_many`` takes it: where it was asked, what was shown and no others.

        Returns:
            None if the answer was no.
        """
        session = self.client._session  # noqa: SLF001 - of one piece
        if where:
            if yes:
                return where
            count, infos, ids = telling.matching(session, where, ACTIVE)
            shown = [line([info]) for info in infos]
            order: dict[str, Any] = {"jobs": ids}
        else:
            unique = {job if isinstance(job, str) else job.id: job for job in jobs}
            for job in unique.values():
                self._check_service(job, session.service.base_url)
            count = sum(len(job) if isinstance(job, (JobArray, AsyncJobArray)) else 1 for job in unique.values())
            shown = [job if isinstance(job, str) else str(job) for job in unique.values()][: telling.HANDFUL]
            # Only handles of this kind of client learn what came of it.
            order = {"jobs": [job if isinstance(job, Job) else job_id for job_id, job in unique.items()]}
        if yes or not count or (not where and count <= telling.HANDFUL):
            return order
        print("\n".join(f"  {clean(text)}" for text in shown))
        if not self._says_yes(telling.question("cancel", count), count):
            return None
        return order

    def _says_yes(self, question: str, count: int) -> bool:
        try:
            return telling.agreed(input(question))
        except (StdinNotImplementedError, EOFError):
            raise UsageError(f"these are {count} jobs, and there is nobody to ask: say --yes to cancel them") from None

    def _check_service(self, job: Any, here: str) -> None:
        if isinstance(job, str):
            return
        there = job._session.service.base_url  # noqa: SLF001 - of one piece
        if there != here:
            raise UsageError(
                f"{job.id} is at {there}, and the client of the magics at {here}; choose another by %hpcjobs_client, "
                "or call the cancel() of the job"
            )


class Found(list[Job[Any]]):
    """Handles that a terminal shows line by line."""

    def __repr__(self) -> str:
        return "\n".join(line([job.info]) for job in self) if self else "there is no such job"


_OPTIONS = frozenset(inspect.signature(Client.submit).parameters)


def _names(given: Sequence[str] | None, option: str) -> list[str]:
    """Names of variables, parted by commas.

    Example:
        >>> _names(["x,y", "z"], "--in")
        ['x', 'y', 'z']
    """
    found = [name.strip() for text in given or [] for name in text.split(",") if name.strip()]
    for name in found:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(f"{option} {name}: this is no name of a variable")
    return list(dict.fromkeys(found))


def _where(args: Any) -> dict[str, Any]:
    """The conditions that were given, as the client has them."""
    fields = {
        "state": texts.states(args.state or []),
        "tag": args.tag,
        "name": args.name,
        "queue": args.queue,
        "array": args.array,
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}


def _show(spec: JobSpec, own: Mapping[str, int], inputs: Mapping[str, str]) -> None:
    """Print what would be asked: the spec, and the files."""
    print(json.dumps(spec.model_dump(mode="json", exclude_unset=True), indent=2, ensure_ascii=False))
    files = {**own, **{name: Path(path).stat().st_size for name, path in inputs.items()}}
    print("files: " + ", ".join(f"{clean(name)} ({size(count)})" for name, count in files.items()))
    print("nothing was submitted")


def _unknown(result: CancelResult) -> bool:
    return result.outcome is CancelOutcome.NOT_FOUND


def _told(result: CancelResult, reason: str | None) -> str:
    return telling.words(result) + telling.not_kept(result, reason)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Errors that say what was wrong are told in one line, without a traceback."""
    try:
        yield
    except (HpcjobsError, texts.Unreadable) as error:
        raise UsageError(" ".join(str(error).split())) from error


def _called(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Call something of the user's; an error is shown without the calls in here that led to it."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - whatever the cell has raised
        raise error.with_traceback(None)  # noqa: B904 - it is the same error


_loaded: dict[int, tuple[JobMagics, Any]] = {}


def load(shell: Any) -> None:
    """Give a shell the magics, and what Tab offers behind them; the second time nothing happens."""
    if id(shell) in _loaded:
        return
    magics = JobMagics(shell)
    shell.register_magics(magics)
    table = {mark + name: magics.parser(name) for mark, names in _marks(magics) for name in names}
    matcher = completing.matcher(table, magics._variables)  # noqa: SLF001 - of one piece
    shell.Completer.custom_matchers.append(matcher)
    _loaded[id(shell)] = magics, matcher


def unload(shell: Any) -> None:
    """Take them away again."""
    magics, matcher = _loaded.pop(id(shell), (None, None))
    if magics is None:
        return
    shell.Completer.custom_matchers.remove(matcher)
    for mark, names in _marks(magics):
        for name in names:
            shell.magics_manager.magics["cell" if mark == "%%" else "line"].pop(name, None)


def _marks(magics: Any) -> list[tuple[str, list[str]]]:
    return [("%%", list(magics.magics["cell"])), ("%", list(magics.magics["line"]))]
