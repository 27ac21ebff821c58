"""Paths of photos as people and other programs write them, brought into forms that can be compared."""

from unicodedata import normalize

__all__ = ["composed_path", "folded_path", "tidy_path"]


def tidy_path(path: str) -> str:
    r"""Separate the parts by one ``/``, whether ``/`` or ``\`` was written; nothing at the ends, and no part ``.``."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def composed_path(path: str) -> str:
    """Store each accent with its letter; macOS stores it apart."""
    return normalize("NFC", path)


def folded_path(path: str) -> str:
    """Keep what must agree for two paths to mean one photo: not its case, or how separators and accents are stored."""
    return composed_path(tidy_path(path)).casefold()
