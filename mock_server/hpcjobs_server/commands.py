"""The server's commands: ``serve``, ``worker`` and ``demo``.

Plain functions, which the client's command line finds by entry point, and which ``python -m hpcjobs_server`` has
without it. What they need is imported when they run.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hpcjobs_server import console

if TYPE_CHECKING:
    from hpcjobs_server.settings import Settings

USAGE = 2
NOT_RUNNING = 3
"""Exit codes: the command line cannot be used; no service runs (also: another one has the data folder)."""

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="The data folder. Default: $HPCJOBS_DATA, else hpcjobs below the user's data folder.",
        show_default=False,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="A Postgres of your own (postgresql://...) instead of the embedded one. "
        "A password is safer in HPCJOBS_SERVER_DATABASE_URL.",
        show_default=False,
    ),
]
Cores = Annotated[
    int | None,
    typer.Option(
        "--cores", min=1, metavar="N", help="Cores that a worker gives to jobs. Default: all.", show_default=False
    ),
]
SlurmOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm-options",
        metavar="NAME[=VALUE]",
        help="With --executor slurm: an option of sbatch for all jobs, such as partition=short; may repeat.",
        show_default=False,
    ),
]
SlurmJobs = Annotated[
    int | None,
    typer.Option(
        "--slurm-jobs",
        min=1,
        metavar="N",
        help="With --executor slurm: jobs that a worker has in Slurm at once. Default: 1000.",
        show_default=False,
    ),
]
TaskModules = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        metavar="MODULE",
        help="Offer the public functions of this module by name; may repeat. Looked for here, too.",
        show_default=False,
    ),
]
AppsFile = Annotated[
    Path | None,
    typer.Option(
        "--apps", metavar="FILE", help="Offer the apps and systems that this TOML file registers.", show_default=False
    ),
]
NoListen = Annotated[
    bool, typer.Option("--no-listen", help="Poll the database: for a pooler that cannot LISTEN.", show_default=False)
]


def serve(  # noqa: PLR0917 - each is an option, which has a name
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen. Default: 127.0.0.1.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="The port; 0 for a free one. Default: 8765.", show_default=False
        ),
    ] = None,
    data: Data = None,
    database_url: DatabaseUrl = None,
    executor: Annotated[
        str | None, typer.Option(metavar="NAME", help="How jobs are run. Default: local.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=1000, metavar="N", help="Worker processes. Default: 1.", show_default=False),
    ] = None,
    cores: Cores = None,
    slurm_options: SlurmOptions = None,
    slurm_jobs: SlurmJobs = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Remove jobs that ended longer ago than this, with their files: 90d, 12h. Default: keep all.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write your token there too, readable by you only.", show_default=False),
    ] = None,
    no_listen: NoListen = False,
    tasks: TaskModules = None,
    apps: AppsFile = None,
    tasks_only: Annotated[
        bool, typer.Option("--tasks-only", help="Refuse commands and functions of users.", show_default=False)
    ] = False,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults", help="Let administrators make the Tapis API fail, by /v1/faults: for tests.", show_default=False
        ),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background; return when it answers.", show_default=False)
    ] = False,
    stop: Annotated[
        bool,
        typer.Option("--stop", help="Stop the service of the data folder; jobs that run may end.", show_default=False),
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="With --stop: cancel the jobs that run.", show_default=False)
    ] = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="Say what runs; exit code 0 if a service does, 3 if not.", show_default=False),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --status, --stop or --detach: answer in JSON.", show_default=False)
    ] = False,
) -> None:
    """Run the server on this machine: database, API and workers.

    Ctrl-C stops it: no new jobs are started and those that run may end; a second Ctrl-C cancels them. What was killed
    is started again, and what a killed server left is adopted by the next one on the same data folder.
    """
    if sum((detach, stop, status)) > 1:
        _fail("only one of --detach, --stop and --status can be given", USAGE)
    if now and not stop:
        _fail("--now goes with --stop", USAGE)
    if as_json and not (detach or stop or status):
        _fail("--json goes with --status, --stop or --detach", USAGE)
    settings = _settings(
        host=host,
        port=port,
        data=data,
        database_url=database_url,
        executor=executor,
        workers=workers,
        cores=cores,
        slurm_options=slurm_options or None,
        slurm_jobs=slurm_jobs,
        keep=keep,
        token_file=token_file,
        listen=False if no_listen else None,
        tasks=tasks or None,
        tasks_only=tasks_only or None,
        apps=apps and apps.absolute(),
        faults=faults or None,
    )
    if not (status or stop):
        settings = _with_tasks(settings)
        _check_apps(settings)
        _check_slurm(settings)
    if status:
        _status(settings, as_json=as_json)
    elif stop:
        _stop(settings, now=now, as_json=as_json)
    elif detach:
        _detach(settings, as_json=as_json)
    else:
        from setproctitle import setproctitle

        from hpcjobs_server.supervisor import Supervisor

        setproctitle("hpcjobs serve")
        raise typer.Exit(Supervisor(settings).run())


def worker(  # noqa: PLR0917 - each is an option, which has a name
    data: Data = None,
    database_url: DatabaseUrl = None,
    executor: Annotated[
        str | None, typer.Option(metavar="NAME", help="How jobs are run. Default: local.", show_default=False)
    ] = None,
    cores: Cores = None,
    slurm_options: SlurmOptions = None,
    slurm_jobs: SlurmJobs = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue", "-q", metavar="QUEUE", help="Take jobs of this queue only; may repeat.", show_default=False
        ),
    ] = None,
    no_listen: NoListen = False,
    tasks: TaskModules = None,
    apps: AppsFile = None,
) -> None:
    """Run one more worker of a server that runs, here or on another host.

    On the server's host --data names it. On another one give --database-url, and a --data folder that both hosts see at
    the same path. Ctrl-C ends the worker with its last job; a second Ctrl-C cancels its jobs.
    """
    from hpcjobs_server.datafolder import DataFolder
    from hpcjobs_server.embedded import EmbeddedError, EmbeddedPostgres
    from hpcjobs_server.foreground import run_worker

    settings = _settings(
        data=data,
        database_url=database_url,
        executor=executor,
        workers=1,
        cores=cores,
        slurm_options=slurm_options or None,
        slurm_jobs=slurm_jobs,
        queues=queue or None,
        listen=False if no_listen else None,
        tasks=tasks or None,
        apps=apps and apps.absolute(),
    )
    settings = _with_tasks(settings, command="worker")
    _check_apps(settings, command="worker")
    _check_slurm(settings, command="worker")
    folder = DataFolder(settings.data)
    url = settings.database_url
    if not url:
        try:
            url = EmbeddedPostgres(folder.path).find() or ""
        except (EmbeddedError, OSError) as error:
            _fail(f"the database of {folder.path} cannot be used: {error}", command="worker")
        if not url:
            _fail(
                f"no service with an embedded Postgres runs on {folder.path} on this host. Start one with: "
                f"hpcjobs serve --data {folder.path}; or name the database with --database-url",
                NOT_RUNNING,
                command="worker",
            )
    raise typer.Exit(run_worker(settings.model_copy(update={"data": folder.path, "database_url": url})))


def demo(
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A data folder for the demo. Default: one of its own.", show_default=False),
    ] = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("demo-results"),
    svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw a picture of the terminal there.", hidden=True),
    ] = None,
) -> None:
    """Run real jobs on real data through a server of its own, from start to end.

    The response spectrum of a recorded earthquake, for several dampings: submit, progress, logs, cancel, results.
    """
    from hpcjobs_server.demo.run import main

    raise typer.Exit(main(data=data, results=results, svg=svg))


def _settings(**options: Any) -> Settings:
    """The settings: what was given on the command line, else the environment's, else the defaults."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from hpcjobs_server.settings import PREFIX, Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else ""
        source = f"--{name.replace('_', '-')}" if name in given else PREFIX + name.upper()
        _fail(f"{source}: {problem['msg'].removeprefix('Value error, ')}", USAGE)
    except SettingsError as error:  # no JSON where a list is wanted
        _fail(str(error), USAGE)
    url = settings.database_url
    if url and not url.startswith(("postgresql://", "postgres://")):
        _fail("--database-url must be a URL such as postgresql://user@host/database", USAGE)
    _check_executor(settings.executor)
    return settings


def _with_tasks(settings: Settings, *, command: str = "serve") -> Settings:
    """The settings with the folders where the tasks' modules are; they are imported once, in a process of their own."""
    import os
    import subprocess
    import sys

    if not settings.tasks:
        if settings.tasks_only and settings.apps is None and command == "serve":
            _fail("--tasks-only needs --tasks MODULE or --apps FILE: there would be nothing to run", USAGE)
        return settings
    if not settings.tasks_path:
        path = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        settings = settings.model_copy(update={"tasks_path": [str(Path(part).absolute()) for part in (".", *path)]})
    checked = subprocess.run(
        [sys.executable, "-m", "hpcjobs_server.tasks"],
        env={**os.environ, **settings.environ()},
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode:
        _fail(checked.stderr.strip() or f"--tasks: exit code {checked.returncode}", USAGE, command=command)
    return settings


def _check_apps(settings: Settings, *, command: str = "serve") -> None:
    from hpcjobs_server.apps import AppError, Apps

    try:
        Apps.load(settings.apps, tasks_only=settings.tasks_only)
    except AppError as error:
        _fail(f"--apps: {' '.join(str(error).split())}", USAGE, command=command)


def _check_slurm(settings: Settings, *, command: str = "serve") -> None:
    if settings.executor != "slurm":
        return
    from hpcjobs_server.executors.slurm_commands import problem

    if why := problem():
        _fail(f"--executor slurm: {why}", command=command)


def _check_executor(name: str) -> None:
    import importlib.util

    from hpcjobs_server import executors

    known = [
        kind for kind in ("local", "slurm", "simulated") if importlib.util.find_spec(f"{executors.__name__}.{kind}")
    ]
    if name not in known:
        _fail(f"there is no executor {name!r}; there is: {', '.join(known)}", USAGE)


def _status(settings: Settings, *, as_json: bool) -> NoReturn:
    from hpcjobs_server import control
    from hpcjobs_server.datafolder import DataFolder

    found = control.status(DataFolder(settings.data))
    console.say(found.as_json() if as_json else str(found))
    raise typer.Exit(0 if found.running else NOT_RUNNING)


def _stop(settings: Settings, *, now: bool, as_json: bool) -> None:
    import json

    from hpcjobs_server import control
    from hpcjobs_server.datafolder import DataFolder

    folder = DataFolder(settings.data)
    try:
        found = control.stop(settings, now=now)
    except KeyboardInterrupt:
        _fail("not waiting any more; the service ends with the last job that runs", 128 + signal.SIGINT)
    if as_json:
        console.say(json.dumps({"stopped": found, "data": str(folder.path)}))
    elif not found:
        console.say(f"No service runs on {folder.path}.")
    else:
        console.say(f"The service on {folder.path} has ended.")


def _detach(settings: Settings, *, as_json: bool) -> None:
    import json

    from hpcjobs_server import control
    from hpcjobs_server.datafolder import DataError, DataFolder
    from hpcjobs_server.greeting import greeting

    folder = DataFolder(settings.data)
    try:
        url = control.detach(settings)
    except (DataError, control.DetachError) as error:
        _fail(str(error))
    if as_json:
        console.say(json.dumps({"url": url, "data": str(folder.path), "token_file": str(folder.token)}))
        return
    facts = {
        "data": str(folder.path),
        "log": str(folder.logs / "serve.log"),
        "stop": f"hpcjobs serve --stop --data {folder.path}",
    }
    console.say(greeting(url, folder.token, facts, pretty=console.pretty()))


def _fail(text: str, code: int = 1, *, command: str = "serve") -> NoReturn:
    console.complain(text, command=command)
    raise typer.Exit(code)
