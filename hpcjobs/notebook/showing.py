"""How a view gets into the notebook, and what stays of it.

A widget has no life beyond its kernel: a notebook that is opened again shows "model not found" in its place, whatever
stands beside it. So a view has two outputs: the widget, which is replaced by HTML when the work has ended, and a line
below it that says what was last seen, for those who open the notebook before that.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDGET = "application/vnd.jupyter.widget-view+json"


class Output:
    """The outputs of one view.

    Args:
        widget: What is alive.
    """

    def __init__(self, widget: Any) -> None:
        self._widget = widget
        in_order(widget)
        self._main: Any = None
        self._line: Any = None
        self._last_line = ""
        self._lock = threading.Lock()
        """Held while something is replaced: what the drawing thread was about to say is not said after the end."""
        self.cell = cell()

    @property
    def shown(self) -> bool:
        """Whether it is in the notebook, and alive."""
        return self._main is not None

    def show(self, html: str, plain: str, line: str, line_text: str) -> None:
        """Show the widget in the cell that runs.

        Args:
            html: What stands in its place where no widgets are shown.
            plain: The same as text.
            line: The line below it, as HTML.
            line_text: The same as text.
        """
        display = _display()
        self._last_line = line
        self._main = display(self._bundle(html, plain), raw=True, display_id=True)
        self._line = display({"text/html": line, "text/plain": line_text}, raw=True, display_id=True)

    def say(self, line: str, line_text: str) -> None:
        """Replace the line below, if it says something else."""
        with self._lock:
            if self._line is not None and line != self._last_line:
                self._last_line = line
                _update(self._line, {"text/html": line, "text/plain": line_text})

    def keep(self, html: str, plain: str) -> None:
        """Replace what stands beside the widget."""
        with self._lock:
            if self._main is not None:
                _update(self._main, self._bundle(html, plain))

    def freeze(self, html: str, plain: str) -> None:
        """Put HTML in the widget's place; the widget is gone then."""
        with self._lock:
            if self._main is not None:
                _update(self._main, {"text/html": html, "text/plain": plain})
                _update(self._line, {"text/html": "", "text/plain": ""})
                self._main = self._line = None
        close(self._widget)

    def _bundle(self, html: str, plain: str) -> Mapping[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        return {WIDGET: view, "text/html": html, "text/plain": plain}


def in_order(widget: Any) -> None:
    """Let what a person does to a widget and to those in it reach the kernel one after the other, as it was done.

    ipykernel 7.4 hands each widget's messages to the thread that has last told the page something about it, so that a
    click may overtake the text that was typed before it. Older ones leave them all to the one that the page names.
    """
    comm: Any = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _, named: named  # noqa: SLF001 - there is no other way to say it
    for child in getattr(widget, "children", ()):
        in_order(child)


def close(widget: Any) -> None:
    """Close a widget with everything in it."""
    for child in getattr(widget, "children", ()):
        close(child)
    with contextlib.suppress(Exception):  # the kernel is about to end
        widget.close()


def cell() -> str | None:
    """What tells the cell that runs from another one."""
    ipython: Any = sys.modules.get("IPython")
    with contextlib.suppress(Exception):
        return str(ipython.get_ipython().kernel.get_parent("shell")["header"]["msg_id"])
    return None


def _display() -> Any:
    from IPython.display import display

    return display


def _update(handle: Any, bundle: Mapping[str, Any]) -> None:
    with contextlib.suppress(Exception):  # the kernel is about to end
        handle.update(bundle, raw=True)
