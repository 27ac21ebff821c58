"""The README's table of query strategies, made from what their classes say of themselves."""

import inspect
import re

from camera_trap_al.active_learning_methods import STRATEGIES, QueryStrategy

__all__ = ["make_table"]

DEFAULT = "margin"


def make_table() -> str:
    """Return a Markdown table, one line per strategy in the order of `STRATEGIES`, ending in a line break.

    ``python -c "from camera_trap_al.active_learning_methods.table import make_table; print(make_table())"`` shows it.
    """
    lines = ["| name | asks about | paper | when to use it | cost |", "|---|---|---|---|---|"]
    for name, strategy in STRATEGIES.items():
        shown = f"`{name}`" + (" (default)" if name == DEFAULT else "")
        lines.append(f"| {shown} | {_idea(strategy)} | {strategy.source} | {strategy.when} | {strategy.cost} |")
    return "\n".join(lines) + "\n"


def _idea(strategy: type[QueryStrategy]) -> str:
    """First line of the docstring, without "Ask about", the paper (it has a column) and the full stop."""
    first_line = inspect.cleandoc(strategy.__doc__ or "").split("\n")[0]
    return re.sub(r"( \[[^]]*\])?\.$", "", first_line).removeprefix("Ask about ")
