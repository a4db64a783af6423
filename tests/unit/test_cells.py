"""The cell of %%job as a script and as a function."""

from __future__ import annotations

import asyncio
import inspect
import linecache
import math
import traceback
from typing import Any

import pytest

from hpcjobs.notebook.cells import function_of, script_of
from hpcjobs.texts import Unreadable


def made(cell: str, *, taken: dict[str, Any] | None = None, out: tuple[str, ...] = (), **around: Any) -> Any:
    return function_of(cell, file="Cell In[7]", taken=taken or {}, out=out, around={**around, **(taken or {})})


@pytest.mark.parametrize(
    ("cell", "command"),
    [
        ("echo hi", ["bash", "cell.sh"]),
        ("#!/bin/sh\necho hi", ["/bin/sh", "cell.sh"]),
        ("\n#!/usr/bin/python3.11 -u\nprint(1)", ["/usr/bin/python3.11", "-u", "cell.py"]),
        ("#!/usr/bin/env -S python3 -u -X dev\nprint(1)", ["/usr/bin/env", "-S python3 -u -X dev", "cell"]),
        ("#! /usr/bin/env Rscript\n1", ["/usr/bin/env", "Rscript", "cell.R"]),
        ("#!/opt/tool\nx", ["/opt/tool", "cell"]),
    ],
)
def test_a_script_is_run_by_the_program_that_its_first_line_names(cell: str, command: list[str]) -> None:
    """As the system runs it: the program and one argument at most; bash where no program is named."""
    script = script_of(cell)
    assert script.command == command
    assert script.text == cell.strip("\n") + "\n"
    assert script.name == command[-1]


@pytest.mark.parametrize("cell", ["", " \n\n", "#!\necho", "#!/bin/sh\n"])
def test_a_script_without_anything_to_run_is_refused(cell: str) -> None:
    with pytest.raises(Unreadable):
        script_of(cell)


def test_the_last_expression_is_the_result() -> None:
    assert made("a = 2\na * x", taken={"x": 21})(21) == 42
    assert made("a = 2\na * x", taken={"x": 21})(x=4) == 8
    assert made("a = 2")() is None
    assert made("if True:\n    1")() is None


def test_variables_come_out_by_name() -> None:
    """Those that were set, and those that went in; a last expression does not count then."""
    cell = "y = x + 1\nimport math as m\ny * 100"
    assert made(cell, taken={"x": 1}, out=("y", "x"))(1) == {"y": 2, "x": 1}
    with pytest.raises(Unreadable, match="does not set z, w, which --out names"):
        made(cell, taken={"x": 1}, out=("y", "z", "w"))


def test_a_cell_behaves_as_a_cell() -> None:
    """Functions, classes and comprehensions see what the cell has set; it may await."""
    cell = """
k = 3
def times(n):
    return n * k
class Point:
    side = k
    area = side * side
[times(n) for n in range(k)] + [Point.area]"""
    assert made(cell)() == [0, 3, 6, 9]
    function = made("import asyncio\nawait asyncio.sleep(0)\n'slept'")
    assert inspect.iscoroutinefunction(function)
    assert asyncio.run(function()) == "slept"
    assert not inspect.iscoroutinefunction(made("async def f():\n    await g()\n1"))


def test_code_travels_by_itself_and_data_where_it_is_named() -> None:
    """Also data that only a function or a class within the cell uses; what IPython sets is not in the way."""

    def helper(n: int) -> int:
        return n + 1

    assert made("helper(x) + math.floor(2.5)", taken={"x": 1}, helper=helper, math=math)(1) == 4
    for cell in ("len(data)", "def f():\n    return data\nf()", "class A:\n    b = data", "[data for _ in range(3)]"):
        with pytest.raises(Unreadable, match=r"uses data; .* --in x,data"):
            made(cell, taken={"x": 1}, data=[1])
    assert made("data = 1\ndata", data=[1])() == 1
    assert made("[data for data in range(2)]", data=[1])() == [0, 1]
    assert made("class A:\n    data = 1\n    b = data\nA.b", data=[1])() == 1
    assert made("len('abc')")() == 3
    with pytest.raises(NameError):
        made("nowhere")()


@pytest.mark.parametrize(
    ("cell", "line"),
    [("x = 1\nsum((x", 3), ("return 5", 2), ("yield 1", 2), ("1\nfrom math import *", 3), ("%time 1", 2)],
)
def test_an_error_of_syntax_names_the_line_of_the_cell(cell: str, line: int) -> None:
    """The line of the magic is the first."""
    with pytest.raises(SyntaxError) as caught:
        made(cell)
    assert (caught.value.filename, caught.value.lineno) == ("Cell In[7]", line)


def test_a_traceback_shows_the_lines_of_the_cell() -> None:
    try:
        made("x = 0\n1 / x")()
    except ZeroDivisionError as error:
        text = "".join(traceback.format_exception(error))
    assert 'File "Cell In[7]", line 3, in cell\n    1 / x' in text
    linecache.checkcache()
    assert linecache.getline("Cell In[7]", 3) == "1 / x"


def test_an_empty_cell_is_refused() -> None:
    with pytest.raises(Unreadable, match="empty"):
        made("# nothing")
