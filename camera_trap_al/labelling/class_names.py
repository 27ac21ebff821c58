"""What a word in a label file means: a class, one of the special answers, or nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.photos.folders import RESERVED_CLASS_NAMES
from camera_trap_al.query import SKIP, UNUSABLE, plain_form

__all__ = ["ClassNames"]

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
        Class name by the word that stands for it, such as ``{"Roe deer": "Roe_Deer"}``. A word for a class that is not
        there means nothing yet.

    Attributes
    ----------
    classes
        The same names.
    ids
        Class id by name.
    """

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        self.classes = tuple(classes)
        self.ids = {name: class_id for class_id, name in enumerate(self.classes)}
        self._aliases = dict(aliases or {})
        self._targets = {plain_form(word): target for word, target in self._aliases.items()}
        known = {*self.classes, SKIP, UNUSABLE}
        self._exact = {word: word for word in self.classes} | {
            word: target for word, target in self._aliases.items() if target in known and word not in known
        }
        self._meanings: dict[str, set[str]] = defaultdict(set)
        for word, meaning in {**self._exact, SKIP: SKIP, UNUSABLE: UNUSABLE}.items():
            self._meanings[plain_form(word)].add(meaning)

    def meaning(self, word: str) -> str | None:
        """Give the class, ``skip`` or ``unusable`` that `word` stands for; None if that is nothing or not clear."""
        if word in self._exact:
            return self._exact[word]
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
        new = 'If it is a new one, make its folder in train_data and type n, or start again with new_classes="add".'
        return f"The classes are: {', '.join(listed[:MAX_CLASSES_LISTED])}{more}. {new}"

    def nearest(self, word: str) -> str | None:
        """Give the class that is written most alike, if one is."""
        forms = {plain_form(name): name for name in self.classes}
        near = get_close_matches(plain_form(word), forms, n=1)
        return forms[near[0]] if near else None

    def new_classes(self, words: Mapping[str, int]) -> dict[str, int]:
        """Find the classes that words which mean nothing yet could stand for.

        Spellings that differ only as one class may be spelled are one class, called as most photos have it; a word that
        is an alias is called what it stands for.

        Parameters
        ----------
        words
            How many photos have each word.

        Returns
        -------
        How many photos each class would have, by its name, sorted.
        """
        spellings: dict[str, Counter[str]] = defaultdict(Counter)
        for word, n_photos in words.items():
            name = self._targets.get(plain_form(word), word)
            if self.meaning(word) is None and self._may_become_class(name):
                spellings[plain_form(name)][name] += n_photos
        named = {min(counts, key=lambda name: (-counts[name], name)): counts.total() for counts in spellings.values()}
        return dict(sorted(named.items()))

    def _may_become_class(self, name: str) -> bool:
        form = plain_form(name)
        return bool(form) and form not in self._meanings and form not in RESERVED_CLASS_NAMES and name.isprintable()

    def with_classes(self, names: Iterable[str]) -> "ClassNames":
        """Give the same with new classes behind the others."""
        return ClassNames((*self.classes, *names), self._aliases)

    def check_aliases(self) -> None:
        """Refuse aliases for classes that are not there.

        Raises
        ------
        ConfigError
            Naming each, with the class that is written most alike.
        """
        wrong = {
            word: target for word, target in self._aliases.items() if target not in (*self.classes, SKIP, UNUSABLE)
        }
        problems = [
            f"class_aliases: {word!r} stands for {target!r}, which is no class. {self.advice(target)}"
            for word, target in wrong.items()
        ]
        if problems:
            raise ConfigError(problems)


def _quoted(word: str) -> str:
    return f'"{word}"'
