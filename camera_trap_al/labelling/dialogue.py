"""The conversation with the person at the console: the only place of the package that prints and reads input."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["ask", "say", "say_table", "told_at_interrupt"]


@contextmanager
def told_at_interrupt(text: str) -> Iterator[None]:
    """Show `text` when Ctrl-C is pressed within the context, and let it through with `text` as its note."""
    try:
        yield
    except KeyboardInterrupt as error:
        say(f"\n{text}")
        error.add_note(text)
        raise


def say(text: str) -> None:
    """Show `text` on a line of its own, at once.

    A character that the console cannot show becomes ``?``: a Windows console in cp1252 must not end a run over an
    accent in the name of a photo.
    """
    print(_showable(text), flush=True)


def say_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show `rows` below `header`, in columns as wide as they need; nothing stands for None."""
    lines = [list(header), *(["" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def ask(prompt: str) -> str:
    """Show `prompt` and return what is typed, without white space at its ends.

    Raises
    ------
    EOFError
        If nobody can answer: the standard input is closed.
    """
    try:
        return input(_showable(prompt)).strip()
    except NotImplementedError as error:  # a notebook that is run without anybody
        raise EOFError from error
    except UnicodeDecodeError:
        # Typed in another encoding than the console's. It is an answer, and none that anybody asked for.
        return "\N{REPLACEMENT CHARACTER}"


def _showable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
