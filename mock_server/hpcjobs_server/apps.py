"""Apps and systems: what the operator registers in a TOML file, ``hpcjobs serve --apps FILE``.

An app is a named template: a command that takes a job's arguments. A system is a folder whose files jobs may have as
inputs, by ``tapis://SYSTEM/PATH``.

The arguments of a call are those that the app declares, in their order, each with the text that the job gives for its
name, and after them whatever else the job gives, in its order. The text of an argument is split as a shell would split
it, quotes and all, but nothing in it is expanded: ``-n 5`` is two words and ``'my file'`` is one. A command that is a
list gets the words at its end. One that is a string is a shell command, and gets them as ``"$@"``: where it names them
itself, or else at its end.

Example:
    >>> fit = App(name="fit", version="1.0", command=["fit.py"], args=[AppArg(name="order", arg="--order 2")])
    >>> fit.argv([Argument(name="order", arg="--order 3"), Argument(arg="'my file'")])
    ['fit.py', '--order', '3', 'my file']
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from hpcjobs.models import Duration, JobSpec, Memory, QueueName, StderrMode, problems_of
from hpcjobs.tapis_data import Argument, LogConfig, ParameterSet, TapisRequest
from hpcjobs_server.executors import slurm_options

AppName = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]*$")]
Version = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._~+-]*$")]

_TAKES_WORDS = re.compile(r"\$(?:[@*1-9]|\{[@*1-9])")
"""Where a shell command says by itself what it does with its arguments."""

_NATIVE = {
    "name": "name", "appId": "app", "appVersion": "app_version", "tags": "tags", "notes": "meta", "nodeCount": "cores",
    "coresPerNode": "cores", "memoryMB": "memory", "maxMinutes": "walltime", "execSystemLogicalQueue": "queue",
    "fileInputs": "inputs", "fileInputArrays": "inputs", "owner": "a token of that owner", "tenant": "nothing",
}  # fmt: skip
"""The fields of Tapis that have another place in a spec of ours."""

_HELLO = "import sys; print(f\"Hello, {' and '.join(sys.argv[1:]) or 'world'}!\")"


class AppError(Exception):
    """What is registered, or what is asked of it, cannot be used; says why and what to do."""


class AppArg(BaseModel):
    """An argument that an app declares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    description: str = ""
    arg: str | None = None
    """Its text where the job gives none; None for no argument then."""
    required: bool = False
    """Whether a job must give it; a default makes no sense then."""

    @field_validator("arg")
    @classmethod
    def _can_be_split(cls, value: str | None) -> str | None:
        if value is not None:
            words(value)
        return value


class App(BaseModel):
    """One version of an app."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: AppName
    version: Version
    description: str = ""
    command: Annotated[str, StringConstraints(min_length=1)] | Annotated[list[str], Field(min_length=1)]
    """A program with its first arguments, or a shell command."""
    args: list[AppArg] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    queue: QueueName | None = None
    cores: Annotated[int, Field(ge=1)] | None = None
    memory: Annotated[Memory, Field(ge=1)] | None = None
    walltime: Duration | None = None

    @field_validator("args")
    @classmethod
    def _names_are_unique(cls, value: list[AppArg]) -> list[AppArg]:
        names = [arg.name for arg in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two are named {twice[0]!r}")
        return value

    def merged(self, given: Sequence[Argument]) -> list[Argument]:
        """The arguments of a call: the declared ones with what the job gives for them, then the others.

        Raises:
            AppError: A required one is missing.
        """
        by_name = {arg.name: arg for arg in given if arg.name is not None}
        declared = {arg.name for arg in self.args}
        found: list[Argument] = []
        for one in self.args:
            said = by_name.get(one.name)
            if said is None:
                said = Argument(name=one.name, arg=one.arg)
            elif said.arg is None:
                said = said.model_copy(update={"arg": one.arg})
            if one.required and (said.arg is None or said.include is False):
                raise AppError(f"the argument {one.name!r} is missing; {self.name} {self.version} needs it")
            found.append(said)
        found += [arg for arg in given if arg.name not in declared]
        return [arg for arg in found if arg.arg is not None and arg.include is not False]

    def argv(self, given: Sequence[Argument], *, before: Sequence[str] = ()) -> list[str]:
        """The program and its arguments for a job.

        Args:
            given: What the job gives.
            before: What the command is started by.

        Raises:
            AppError: A required argument is missing, or one cannot be split into words.
        """
        try:
            more = [word for arg in self.merged(given) for word in words(arg.arg or "")]
        except ValueError as error:
            raise AppError(str(error)) from None
        if isinstance(self.command, list):
            return [*before, *self.command, *more]
        command = self.command.rstrip()
        if not _TAKES_WORDS.search(command):
            command += ' "$@"'
        return [*before, "bash" if shutil.which("bash") else "sh", "-c", command, self.name, *more]


def words(text: str) -> list[str]:
    """Split the text of an argument as a shell would.

    Raises:
        ValueError: A quote is not closed.

    Example:
        >>> words("-A 'my project' $HOME")
        ['-A', 'my project', '$HOME']
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be split into words: {str(error).lower()}") from None


class AppList(BaseModel):
    """The apps of a service."""

    items: list[App]


class _System(BaseModel):
    model_config = ConfigDict(extra="forbid")

    folder: Path
    description: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    apps: dict[str, dict[str, Any] | list[dict[str, Any]]] = Field(default_factory=dict)
    systems: dict[AppName, _System] = Field(default_factory=dict)


def _bundled(*, tasks_only: bool) -> Iterator[App]:
    yield App(
        name="hello", version="1.0", description="Greets its arguments.", command=[sys.executable, "-I", "-c", _HELLO]
    )
    if not tasks_only:  # it runs whatever it is given
        yield App(
            name="python",
            version="1.0",
            description="Runs Python with its arguments, such as the name of a script among the inputs.",
            command=[sys.executable, "-u"],
        )


class Apps:
    """The apps and systems of a server.

    Args:
        apps: All versions of all apps; a later one takes the place of an earlier one.
        systems: Their folders.
    """

    def __init__(self, apps: Sequence[App] = (), systems: Mapping[str, Path] | None = None) -> None:
        found: dict[str, dict[str, App]] = {}
        for app in apps:
            found.setdefault(app.name, {})[app.version] = app
        self._apps = {name: dict(sorted(found[name].items(), key=lambda item: _age(item[0]))) for name in sorted(found)}
        self.systems = dict(systems or {})

    @classmethod
    def load(cls, file: Path | None, *, tasks_only: bool = False) -> Apps:
        """Read what the operator has registered; the bundled apps are there in any case.

        Args:
            file: The TOML file; None for the bundled apps alone.
            tasks_only: Whether nobody's code but the operator's may run.

        Raises:
            AppError: The file cannot be read, or says what cannot be: names the app and the key.
        """
        bundled = list(_bundled(tasks_only=tasks_only))
        if file is None:
            return cls(bundled)
        toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
        try:
            told = _File.model_validate(toml.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise AppError(f"{file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise _refused(file, "", error, _File) from None
        except ValueError as error:  # TOML, UTF-8
            raise AppError(f"{file} is no TOML: {error}") from None
        apps: list[App] = []
        for name, one in told.apps.items():
            for number, fields in enumerate(one if isinstance(one, list) else [one]):
                place = f"apps.{name}" + (f"[{number}]" if isinstance(one, list) else "")
                app = _app(file, place, name, fields)
                if any((app.name, app.version) == (other.name, other.version) for other in apps):
                    raise AppError(f"{file}: {place}.version: there are two {app.version}")
                apps.append(app)
        systems = {name: _folder(file, name, system.folder) for name, system in told.systems.items()}
        mine = {app.name for app in apps}
        return cls([*(app for app in bundled if app.name not in mine), *apps], systems)

    def __iter__(self) -> Iterator[App]:
        return (app for versions in self._apps.values() for app in versions.values())

    def get(self, name: str, version: str | None = None) -> App:
        """An app; the newest version where none is named.

        Raises:
            AppError: There is none: names those that there are.
        """
        versions = self._apps.get(name)
        if versions is None:
            raise AppError(f"there is no app {name!r}; there is {', '.join(self._apps)}")
        if version is None:
            return list(versions.values())[-1]
        if version not in versions:
            raise AppError(f"there is no version {version!r} of {name}; there is {', '.join(versions)}")
        return versions[version]

    def check(self, spec: JobSpec) -> list[tuple[str, str]]:
        """What is wrong with a spec of an app: ``(field, what is wrong and what is allowed)``."""
        assert spec.app is not None
        try:
            self.get(spec.app)
        except AppError as error:
            return [("app", str(error))]
        try:
            app = self.get(spec.app, spec.app_version)
        except AppError as error:
            return [("app_version", str(error))]
        try:
            app.argv(_given(spec), before=_before(spec))
        except (AppError, ValueError) as error:
            return [("args", str(error))]
        return []

    def accepted(self, spec: JobSpec) -> JobSpec:
        """A spec of an app that was checked, as it is kept: which version, what it is called with, what it needs.

        Arguments by name become ``options["parameterSet"]["appArgs"]``, because a list keeps their order wherever it
        goes. What the job does not say of its resources and its queue is as the app has it.
        """
        assert spec.app is not None
        app = self.get(spec.app, spec.app_version)
        update: dict[str, Any] = {"app_version": app.version}
        if spec.args is not None:
            options = dict(spec.options)
            parameters = dict(options.get("parameterSet") or {})
            given = [_dumped(arg) for arg in _given(spec)]
            update |= {"args": None, "options": {**options, "parameterSet": {**parameters, "appArgs": given}}}
        resources = {
            name: value
            for name in ("cores", "memory", "walltime")
            if (value := getattr(app, name)) is not None and name not in spec.resources.model_fields_set
        }
        if resources:
            update["resources"] = spec.resources.model_copy(update=resources)
        if app.queue is not None and "queue" not in spec.model_fields_set:
            update["queue"] = app.queue
        return spec.model_copy(update=update)

    def resolved(self, spec: JobSpec) -> JobSpec:
        """What a worker runs for a spec of an app: its command, with the app's environment below the job's.

        Raises:
            AppError: This worker has no such app, or it does not take these arguments.
        """
        assert spec.app is not None
        try:
            app = self.get(spec.app, spec.app_version)
        except AppError as error:
            raise AppError(f"{error}; start this worker with the --apps of the server") from None
        command = app.argv(_given(spec), before=_before(spec))
        return spec.model_copy(update={"command": command, "env": {**app.env, **spec.env}})


def check_options(spec: JobSpec, *, executor: str = "local") -> list[tuple[str, str]]:
    """What is wrong with the ``options`` of a spec that did not come as a request of Tapis."""
    if not spec.options:
        return []
    if spec.app is None and executor == "slurm":
        return [(f"options.{name}", why) for name, why in slurm_options.check(spec.options)]
    if spec.app is None:
        return [("options", "only apps take options here, in the words of Tapis; leave them out")]
    problems = [
        (f"options.{name}", f"has a place of its own; give {native}")
        for name, native in _NATIVE.items()
        if name in spec.options
    ]
    parameters = spec.options.get("parameterSet")
    if isinstance(parameters, Mapping) and parameters.get("envVariables"):
        problems.append(("options.parameterSet.envVariables", "has a place of its own; give env"))
    own = {name: value for name, value in spec.options.items() if name not in _NATIVE}
    try:
        TapisRequest.model_validate({"name": "options", "appId": "options", "appVersion": "0", **own})
    except ValidationError as error:
        fields = {str(field.alias): field for field in TapisRequest.model_fields.values()}
        allowed = {name: field for name, field in fields.items() if name not in _NATIVE}
        problems += [(f"options.{field}", why) for field, why in problems_of(error, allowed)]
    return problems


def parameters_of(spec: JobSpec) -> ParameterSet:
    """What the job gives its app beside arguments by name."""
    return ParameterSet.model_validate(spec.options.get("parameterSet") or {})


def logs_of(spec: JobSpec) -> LogConfig:
    """The names that the job's output has among its files, as Tapis shows it."""
    config = parameters_of(spec).log_config or LogConfig(stdout_filename=LOG, stderr_filename=LOG)
    if spec.stderr is StderrMode.SEPARATE and config.stdout_filename == config.stderr_filename:
        return config.model_copy(update={"stderr_filename": ERRORS})
    return config


LOG = "tapisjob.out"
"""The name of a job's output among its files, where nothing else is asked for."""

ERRORS = "tapisjob.err"
"""The same of its stderr, where that is kept apart and has no other name."""


def _given(spec: JobSpec) -> list[Argument]:
    """What a job gives: the list first, then what it gives by name, which counts more."""
    listed = list(parameters_of(spec).app_args)
    places = {arg.name: place for place, arg in enumerate(listed) if arg.name is not None}
    for name, value in (spec.args or {}).items():
        arg = Argument(name=name, arg=_text(value), include=None if value is not None else False)
        if name in places:
            listed[places[name]] = arg
        else:
            listed.append(arg)
    return listed


def _text(value: Any) -> str | None:
    """A value as the text of an argument: a string is one word, a list is one word per item."""
    if value is None:
        return None
    if isinstance(value, list):
        return " ".join(shlex.quote(item if isinstance(item, str) else json.dumps(item)) for item in value)
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def _before(spec: JobSpec) -> list[str]:
    """What the command is started by: Tapis's MPI command or its prefix."""
    if spec.options.get("isMpi"):
        if not spec.options.get("mpiCmd"):
            raise AppError("isMpi needs mpiCmd, such as 'mpirun -n 2'")
        if spec.options.get("cmdPrefix"):
            raise AppError("isMpi and cmdPrefix exclude each other")
        return words(spec.options["mpiCmd"])
    return words(spec.options.get("cmdPrefix") or "")


def _dumped(arg: Argument) -> dict[str, Any]:
    return arg.model_dump(mode="json", by_alias=True, exclude_none=True)


def _app(file: Path, place: str, name: str, fields: Mapping[str, Any]) -> App:
    if "name" in fields:
        raise AppError(f"{file}: {place}.name: the name stands in the heading, [apps.{name}]; leave it out")
    try:
        app = App.model_validate({**fields, "name": name})
        # what a job could not have, an app cannot either
        JobSpec.parse({"command": app.command, "env": app.env, "walltime": app.walltime})
    except ValidationError as error:
        raise _refused(file, f"{place}.", error, App) from None
    except ValueError as error:  # InvalidSpec is one
        raise AppError(f"{file}: {place}: {error}") from None
    return app


def _folder(file: Path, name: str, folder: Path) -> Path:
    found = file.absolute().parent / folder.expanduser()
    if not found.is_dir():
        raise AppError(f"{file}: systems.{name}.folder: {found} is no folder")
    return found.resolve()


def _refused(file: Path, place: str, error: ValidationError, model: type[BaseModel]) -> AppError:
    allowed = {name: field for name, field in model.model_fields.items() if name != "name"}
    told = "; ".join(f"{place}{field}: {why}" for field, why in problems_of(error, allowed)[:5])
    return AppError(f"{file}: {told}")


def _age(version: str) -> tuple[tuple[int, int, str], ...]:
    """The order of versions: numbers as numbers, and a word before the end, so that 1.0rc1 < 1.0 < 1.0.1."""
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    return (*((2, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts), (1, 0, ""))
