"""Named tasks: functions of the operator's modules that users call by name, with JSON arguments.

A module offers the names in its ``__all__``, and without that every public function that it defines. Nobody's code but
the operator's runs: the arguments are data, checked against the function's signature before the job is accepted.

Example:
    >>> def scale(value: float, by: float = 2.0) -> float:
    ...     return by * value
    >>> task = Task("scale", scale)
    >>> task.check({"value": "many"})[0][0], task.call({"value": 3})
    ('args.value', 6.0)
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model

from hpcjobs import inside
from hpcjobs.models import JobSpec, TaskInfo
from hpcjobs_server.settings import Settings


class TaskError(Exception):
    """A module, or a function in it, cannot be offered; says why and what to do."""


class Task:
    """A function that can be called by name.

    Args:
        name: Its name.
        function: The function; a coroutine function will do.

    Raises:
        TaskError: Its arguments cannot come by name and as JSON.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function
        self._model = _arguments(name, function)

    def check(self, args: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with the arguments: ``(argument, what is wrong and what is allowed)``."""
        try:
            self._model.model_validate_json(json.dumps(args))
        except ValidationError as error:
            return [self._problem(item) for item in error.errors(include_url=False, include_context=False)]
        return []

    def call(self, args: Mapping[str, Any]) -> Any:
        """Call the function; its arguments are what its annotations say, not what JSON has.

        Raises:
            ValidationError: The arguments do not fit.
        """
        model = self._model.model_validate_json(json.dumps(args))
        fields = type(model).model_fields
        named = {
            str(field.alias): getattr(model, name) for name, field in fields.items() if name in model.model_fields_set
        }
        return self.function(**named, **(model.model_extra or {}))

    def info(self) -> TaskInfo:
        """What users are told of it."""
        schema = self._model.model_json_schema()
        schema.pop("title", None)
        return TaskInfo(name=self.name, doc=inspect.getdoc(self.function) or "", parameters=schema)

    def _problem(self, item: Any) -> tuple[str, str]:
        field = ".".join(map(str, ("args", *item["loc"])))
        if item["type"] == "extra_forbidden":
            names = ", ".join(str(field.alias) for field in self._model.model_fields.values())
            return field, f"{self.name} has no such argument; it has {names or 'none'}"
        if item["type"] == "missing":
            return field, f"is missing; {self.info()} needs it"
        return field, str(item["msg"])


def _arguments(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations are code
        raise TaskError(f"the signature of {name} cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    extra: typing.Literal["allow", "forbid"] = "forbid"
    for number, parameter in enumerate(signature.parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
            continue
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL}:
            raise TaskError(f"{name}: arguments come by name, and {parameter} has none")
        default = ... if parameter.default is parameter.empty else parameter.default
        # a field of a model may not be named like a method of models, an argument may
        fields[f"argument_{number}"] = hints.get(parameter.name, Any), Field(default, alias=parameter.name)
    try:
        config = ConfigDict(extra=extra, protected_namespaces=())
        model: type[BaseModel] = create_model(name, __config__=config, **fields)
        model.model_json_schema()
    except PydanticUserError as error:
        text = str(error).splitlines()[0]
        raise TaskError(f"{name}: an argument is of a kind that cannot come as JSON: {text}") from error
    return model


class Tasks:
    """The tasks of a server.

    Args:
        tasks: All of them.
    """

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._tasks = {task.name: task for task in tasks}

    @classmethod
    def load(cls, modules: Sequence[str], path: Sequence[str] = ()) -> Tasks:
        """Import the modules and find what they offer.

        Args:
            modules: Their names.
            path: Folders where they are looked for after the usual ones.

        Raises:
            TaskError: A module cannot be imported, offers nothing, or offers what cannot be a task.
        """
        sys.path += [folder for folder in path if folder not in sys.path]
        found: dict[str, tuple[str, Task]] = {}
        for module in modules:
            for name, function in _offered(module).items():
                if name in found:
                    raise TaskError(f"{found[name][0]} and {module} both have a task {name!r}; rename one")
                found[name] = module, Task(name, function)
        return cls(task for _, task in found.values())

    def __iter__(self) -> typing.Iterator[Task]:
        return iter(sorted(self._tasks.values(), key=lambda task: task.name))

    def get(self, name: str) -> Task | None:
        """The task of that name."""
        return self._tasks.get(name)

    def check(self, spec: JobSpec) -> list[tuple[str, str]]:
        """What is wrong with a spec of a task: ``(field, what is wrong and what is allowed)``."""
        task = self.get(spec.task or "")
        if task is None:
            names = ", ".join(one.name for one in self)
            there = f"there is {names}" if names else "this service offers none (hpcjobs serve --tasks MODULE)"
            return [("task", f"there is no task {spec.task!r}; {there}")]
        return task.check(spec.args or {})


def _offered(module: str) -> dict[str, Callable[..., Any]]:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # whatever it is, the operator must know
        raise TaskError(f"the module {module} cannot be imported: {type(error).__name__}: {error}") from error
    names = getattr(loaded, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(loaded).items()
            if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == loaded.__name__
        ]
    offered = {str(name): getattr(loaded, name, None) for name in names}
    for name, function in offered.items():
        if not inspect.isroutine(function):
            raise TaskError(f"{module}.{name}, which is in __all__, is no function")
    if not offered:
        raise TaskError(f"the module {module} offers nothing: define public functions in it, or name them in __all__")
    return typing.cast("dict[str, Callable[..., Any]]", offered)


# ---------------------------------------------------------------------------------------------- in the worker


def write_order(folder: Path, spec: JobSpec, settings: Settings) -> None:
    """Write down what the process of a task is to do.

    Args:
        folder: The attempt's folder.
        spec: The job's spec.
        settings: The server's settings.
    """
    (folder / "work" / inside.FOLDER).mkdir(exist_ok=True)
    order = {
        "task": spec.task,
        "args": spec.args or {},
        "modules": settings.tasks,
        "path": settings.tasks_path,
        "result": str(folder / "work" / inside.RESULT),
    }
    (folder / "task.json").write_text(json.dumps(order), encoding="utf-8")


def argv(folder: Path) -> list[str]:
    """What runs a task: this worker's Python, which looks neither at the job's environment nor at its folder."""
    return [sys.executable, "-I", "-u", "-m", "hpcjobs_server.task_process", str(folder / "task.json")]


def main() -> None:
    """Say whether the tasks of the environment's settings can be offered; what is wrong is said in one line."""
    settings = Settings()
    try:
        Tasks.load(settings.tasks, settings.tasks_path)
    except TaskError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
