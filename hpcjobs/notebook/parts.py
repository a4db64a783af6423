"""The parts that cards and tables are made of: widgets of ipywidgets, made and changed in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BOX = {"border": "1px solid var(--jp-border-color2, #9e9e9e66)", "padding": "6px 10px 8px 10px", "margin": "2px 0"}
"""The layout of what is around everything."""

LINE = {"flex_flow": "row wrap", "align_items": "center", "margin": "0"}
"""The layout of what stands side by side, and below where there is no room."""


def button(text: str, clicked: Callable[[], None], style: str = "", *, hidden: bool = False) -> Any:
    """A button.

    Args:
        text: What it says.
        clicked: Called on a click, in whatever thread that comes; it must return at once.
        style: A style of ipywidgets, such as ``"danger"``.
        hidden: Whether it is not seen at first.
    """
    import ipywidgets

    layout = {"width": "auto", "margin": "4px 6px 0 0", **({"display": "none"} if hidden else {})}
    made = ipywidgets.Button(description=text, button_style=style, layout=layout)
    made.on_click(lambda _: clicked())
    return made


def reason() -> Any:
    """The field for the reason of a cancel; it is not seen at first."""
    import ipywidgets

    return ipywidgets.Text(
        placeholder="why? (optional)",
        description="Reason",
        continuous_update=False,  # else the last letters may come after the click that confirms
        layout={"width": "24em", "margin": "4px 6px 0 0", "display": "none"},
        style={"description_width": "auto"},
    )


def put(widget: Any, name: str, value: Any) -> None:
    """Change a trait where it is different: what is the same is not sent again."""
    if getattr(widget, name) != value:
        setattr(widget, name, value)


def show(widget: Any, yes: bool) -> None:
    """Have a widget be seen, or not."""
    put(widget.layout, "display", None if yes else "none")
