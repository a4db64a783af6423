"""The cell of ``%%job`` as something that can be submitted: a script, or a Python function."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import dis
import inspect
import linecache
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

from hpcjobs.texts import Unreadable

_ENDINGS = {"bash": ".sh", "sh": ".sh", "zsh": ".sh", "python": ".py", "Rscript": ".R", "julia": ".jl", "perl": ".pl"}
_LOOK_UPS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


@dataclasses.dataclass(frozen=True)
class Script:
    """A cell that is run by a program.

    Attributes:
        name: The file that it is in the job's folder.
        text: What is in the file.
        command: What runs it there.
    """

    name: str
    text: str
    command: list[str]


def script_of(cell: str) -> Script:
    r"""A script for bash, or for the program that its first line names.

    Args:
        cell: The cell without the line of the magic.

    Raises:
        Unreadable: There is no script, or its first line names no program.

    Example:
        >>> script_of("#!/usr/bin/env python3\nprint(1)").command
        ['/usr/bin/env', 'python3', 'cell.py']
    """
    text = cell.strip("\n") + "\n"
    if not text.strip():
        raise Unreadable("the cell is empty; write what is to be run below the first line")
    first, _, rest = text.partition("\n")
    program = ["bash"]
    if first.startswith("#!"):
        program = first[2:].strip().split(None, 1)  # as the system does: one argument at most
        if not program:
            raise Unreadable("the line #! names no program; write #!/usr/bin/env python3, or leave it out for bash")
        if not rest.strip():
            raise Unreadable("there is nothing below the line #!")
    words = " ".join(program).split()
    called = re.sub(r"[\d.]+$", "", PurePath(words[-1] if PurePath(words[0]).name == "env" else words[0]).name)
    name = "cell" + _ENDINGS.get(called, "")
    return Script(name, text, [*program, name])


def function_of(
    cell: str,
    *,
    file: str,
    taken: Mapping[str, Any],
    out: Sequence[str],
    around: Mapping[str, Any],
    name: str = "cell",
) -> Callable[..., Any]:
    """A Python cell as a function of the variables that it takes.

    Functions, classes and modules that the cell uses travel with it; data travels only where it is named, because it
    may be large, and because what a job starts from should be seen.

    Args:
        cell: The cell without the line of the magic, which is counted as its first.
        file: What tracebacks call the cell.
        taken: The variables that go in: the function's parameters.
        out: The variables that come out, as a dict; without any, the value of the last expression does.
        around: The user's variables.
        name: The function's name.

    Returns:
        A function of the parameters ``taken``; a coroutine function where the cell awaits something.

    Raises:
        SyntaxError: The cell is no Python.
        Unreadable: The cell uses data that it is not given, or does not set what is to come out.
    """
    text = "\n" + cell
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    tree = ast.parse(text, file)
    whole = compile(tree, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)  # no return, no yield
    if not tree.body:
        raise Unreadable("the cell is empty; write what is to be run below the first line")
    awaits = "async " if whole.co_flags & inspect.CO_COROUTINE else ""
    frame = ast.parse(f"{awaits}def {name}({', '.join(taken)}): pass", file)
    definition: Any = frame.body[0]
    definition.body = [*tree.body[:-1], *_ending(tree.body[-1], out)]
    code = compile(ast.fix_missing_locations(frame), file, "exec", dont_inherit=True)
    body = next(const for const in code.co_consts if isinstance(const, CodeType))
    missing = [variable for variable in out if variable not in {*body.co_varnames, *body.co_cellvars}]
    if missing:
        raise Unreadable(f"the cell does not set {', '.join(missing)}, which --out names")
    used = {variable: around[variable] for variable in _globals(body) if variable in around}
    data = [variable for variable, value in used.items() if not _travels(value)]
    if data:
        raise Unreadable(
            f"the cell uses {', '.join(data)}; data travels only where it is named: --in {','.join([*taken, *data])}"
        )
    return FunctionType(body, {"__name__": "__main__", "__builtins__": builtins, **used}, name)


def _ending(last: ast.stmt, out: Sequence[str]) -> Iterator[ast.stmt]:
    """The last statement, and the return of what comes out."""
    value: ast.expr
    if out:
        yield last
        value = ast.Dict([ast.Constant(name) for name in out], [ast.Name(name, ast.Load()) for name in out])
    elif isinstance(last, ast.Expr):
        value = last.value
    else:
        yield last
        return
    yield ast.copy_location(ast.Return(value), last)


def _globals(code: CodeType) -> dict[str, None]:
    """The names that a function, and whatever is defined in it, looks up around itself, each once."""
    steps = list(dis.get_instructions(code))
    own = {step.argval for step in steps if step.opname == "STORE_NAME"}  # of the body of a class
    found = dict.fromkeys(step.argval for step in steps if step.opname in _LOOK_UPS and step.argval not in own)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found.update(_globals(inner))
    return found


def _travels(value: object) -> bool:
    """Whether something is code, and not data."""
    return isinstance(value, ModuleType) or (callable(value) and hasattr(value, "__name__"))
