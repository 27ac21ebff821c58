"""What a word in a label file means: a class, one of the special answers, or nothing."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from camera_trap_al.photo_folders import RESERVED_CLASS_NAMES
from camera_trap_al.query import SKIP, UNUSABLE

__all__ = ["ClassNames", "plain_form"]

MAX_CLASSES_LISTED = 20


class ClassNames:
    """The classes of a run, with other words for them.

    A name counts if it is written exactly so, or else if it differs from one class only by case, by white space at its
    ends or within, or by the way Unicode composes its letters.

    Parameters
    ----------
    classes
        Class names by class id.
    aliases
        Class name by the word that stands for it, such as ``{"Roe deer": "Roe_Deer"}``.
    """

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        self.classes = tuple(classes)
        self._aliases = dict(aliases or {})
        self._meanings: dict[str, set[str]] = defaultdict(set)
        for word in (*self.classes, SKIP, UNUSABLE):
            self._meanings[plain_form(word)].add(word)
        for word, meaning in self._aliases.items():
            self._meanings[plain_form(word)].add(meaning)

    def meaning(self, word: str) -> str | None:
        """Give the class, ``skip`` or ``unusable`` that `word` stands for; None if that is nothing or not clear."""
        if word in self.classes:
            return word
        if word in self._aliases:
            return self._aliases[word]
        meanings = self._meanings.get(plain_form(word), set())
        return next(iter(meanings)) if len(meanings) == 1 else None

    def advice(self, word: str) -> str:
        """Say what to write in the place of a word that means nothing."""
        meanings = sorted(self._meanings.get(plain_form(word), ()))
        if meanings:
            return f"It could be {' or '.join(map(_quoted, meanings))}: write the one that you mean exactly so."
        near = self.nearest(word)
        if near:
            return f"Did you mean {_quoted(near)}?"
        listed = sorted(self.classes)
        more = f" and {len(listed) - MAX_CLASSES_LISTED} more" if len(listed) > MAX_CLASSES_LISTED else ""
        return f"The classes are: {', '.join(listed[:MAX_CLASSES_LISTED])}{more}."

    def nearest(self, word: str) -> str | None:
        """Give the class that is written most alike, if one is."""
        forms = {plain_form(name): name for name in self.classes}
        near = get_close_matches(plain_form(word), forms, n=1)
        return forms[near[0]] if near else None

    def may_become_class(self, word: str) -> bool:
        """Say whether a word that means nothing yet could be the name of a new class."""
        form = plain_form(word)
        return bool(form) and form not in self._meanings and form not in RESERVED_CLASS_NAMES and word.isprintable()

    def with_classes(self, names: Iterable[str]) -> "ClassNames":
        """Give the same with new classes behind the others."""
        return ClassNames((*self.classes, *names), self._aliases)


def plain_form(word: str) -> str:
    """Keep of a name what people tell it by: not its case, its spaces or how its accents are stored."""
    return " ".join(unicodedata.normalize("NFKC", word).casefold().split())


def _quoted(word: str) -> str:
    return f'"{word}"'
