"""The conversation with the person at the console: the only place of the package that prints and reads input."""

import sys

__all__ = ["ask", "say"]


def say(text: str) -> None:
    """Show `text` on a line of its own, at once.

    A character that the console cannot show becomes ``?``: a Windows console in cp1252 must not end a run over an
    accent in the name of a photo.
    """
    print(_showable(text), flush=True)


def ask(prompt: str) -> str:
    """Show `prompt` and return what is typed, without white space at its ends.

    Raises
    ------
    EOFError
        If nobody can answer: the standard input is closed.
    """
    try:
        return input(_showable(prompt)).strip()
    except UnicodeDecodeError:
        # Typed in another encoding than the console's. It is an answer, and none that anybody asked for.
        return "\N{REPLACEMENT CHARACTER}"


def _showable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
