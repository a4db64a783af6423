"""The items of an array: a JSON list, lines of JSON, or a table with a header."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import typer

ALLOWED = "write a .json list, .jsonl (an item a line) or .csv (with a header)"


def read_items(source: str) -> list[Any]:
    """The items in a file, by its ending; ``-`` stands for JSON on stdin: a list, or an item a line.

    Args:
        source: The file's path, or ``-``.

    Raises:
        typer.BadParameter: It cannot be read, is something else, or has no items.
    """
    if source == "-":
        items = _json_of_any_kind(sys.stdin.read())
    else:
        path = Path(source)
        readers = {".json": _json, ".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv}
        read = readers.get(path.suffix.lower())
        if read is None:
            raise typer.BadParameter(f"--over {source}: its ending says nothing; {ALLOWED}")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise typer.BadParameter(f"--over {source}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise typer.BadParameter(f"--over {source}: it is not UTF-8") from None
        items = read(text, source)
    if not items:
        raise typer.BadParameter(f"--over {source}: there are no items; an array has one job at least")
    return items


def _json_of_any_kind(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return _json_lines(text, "-")
    # One line that is a list is a list of items; one that is anything else is an item.
    return found if isinstance(found, list) else [found]


def _json(text: str, source: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--over {source}: this is no JSON: {error}") from None
    if not isinstance(found, list):
        raise typer.BadParameter(f"--over {source}: this is JSON but no list; {ALLOWED}")
    return found


def _json_lines(text: str, source: str) -> list[Any]:
    items: list[Any] = []
    # Not splitlines(): a string in JSON may hold other ends of lines.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                items.append(json.loads(line))
            except ValueError as error:
                raise typer.BadParameter(f"--over {source}: line {number} is no JSON: {error}") from None
    return items


def _csv(text: str, source: str) -> list[dict[str, str]]:
    r"""The rows of a table by the names of its columns, as text.

    Example:
        >>> _csv("damping,run\n0.02,007\n", "a.csv")
        [{'damping': '0.02', 'run': '007'}]
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    items: list[dict[str, str]] = []
    try:
        header = next(reader, [])
        if not all(header) or len(set(header)) < len(header):
            raise typer.BadParameter(f"--over {source}: each column of the header needs a name of its own")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise typer.BadParameter(
                    f"--over {source}: line {reader.line_num} has {len(row)} values and the header has {len(header)}"
                )
            items.append(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise typer.BadParameter(f"--over {source}: line {reader.line_num}: {error}") from None
    return items
