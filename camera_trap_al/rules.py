"""Rules for settings: each says what a value must be if it is not."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, fields
from difflib import get_close_matches
from numbers import Real
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al.photos.folders import RESERVED_CLASS_NAMES

__all__ = [
    "LABEL_SOURCE_WORDS",
    "Rule",
    "a_class_name",
    "a_file",
    "a_function",
    "a_label_source",
    "a_name",
    "a_path",
    "a_pattern",
    "answers_yes",
    "any_path",
    "boolean",
    "boolean_or",
    "broken_rules",
    "class_list",
    "existing_folder",
    "has_method",
    "if_given",
    "names_by_name",
    "new_folder",
    "number",
    "one_of",
    "optional",
    "part_of",
    "setting",
    "share",
    "whole",
]

LABEL_SOURCE_WORDS = ("timelapse", "watch", "exit")

Rule = Callable[[Any], str | None]
"""Says what a value must be if it is not, else None."""


def setting(default: Any, rule: Rule, **metadata: Any) -> Any:
    """Declare a field of a dataclass of settings."""
    return field(default=default, metadata={"rule": rule, **metadata})


def broken_rules(settings: Any) -> list[str]:
    """Say which values of a dataclass of settings break their rules, one sentence each."""
    found = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        required = each.metadata["rule"](value)
        if required:
            way_out = "" if each.default is None else f" The default is {each.default!r}."
            found.append(f"{each.name} must be {required}; got {value!r}.{way_out}")
    return found


def whole(minimum: int) -> Rule:
    """Accept whole numbers from `minimum`."""

    def check(value: Any) -> str | None:
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return None if is_whole and value >= minimum else f"a whole number of at least {minimum}"

    return check


def number(*, above: float | None = None, at_least: float = 0.0) -> Rule:
    """Accept finite numbers above `above`, or else of at least `at_least`."""
    bound = f"above {above:g}" if above is not None else f"of at least {at_least:g}"

    def check(value: Any) -> str | None:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        try:
            as_float = float(value) if is_number else math.nan
        except OverflowError:  # a whole number beyond all floats
            as_float = math.inf
        fits = math.isfinite(as_float) and (as_float > above if above is not None else as_float >= at_least)
        return None if fits else f"a number {bound}"

    return check


def share(most: float = 1) -> Rule:
    """Accept numbers from 0 to `most`."""
    return lambda value: None if number()(value) is None and value <= most else f"a number from 0 to {most:g}"


def part_of(value: Any) -> str | None:
    """Accept (i, n), part i of n parts counted from 1."""
    is_pair = isinstance(value, tuple | list) and len(value) == 2 and not any(map(whole(1), value))
    return None if is_pair and value[0] <= value[1] else "part i of n parts, with i from 1 to n"


def one_of(names: Collection[str]) -> Rule:
    """Accept the names listed; the message offers the nearest."""

    def check(value: Any) -> str | None:
        if isinstance(value, str) and value in names:
            return None
        near = get_close_matches(str(value), names, n=1)
        return f"one of {', '.join(map(repr, names))}" + (f" (did you mean {near[0]!r}?)" if near else "")

    return check


def boolean(value: Any) -> str | None:
    """Accept True and False only."""
    return None if isinstance(value, bool | np.bool_) else "True or False"


def boolean_or(word: str) -> Rule:
    """Accept True, False and one word."""
    return lambda value: None if isinstance(value, str) and value == word else _or(boolean(value), repr(word))


def _or(required: str | None, also: str) -> str | None:
    return required and f"{required}, or {also}"


def if_given(rule: Rule) -> Rule:
    """Accept None too, without offering it: a run needs the value, the parts of the package do not."""
    return lambda value: None if value is None else rule(value)


def optional(rule: Rule) -> Rule:
    """Accept None too."""
    return lambda value: None if value is None else _or(rule(value), "None")


def existing_folder(value: Any) -> str | None:
    """Accept the path of a folder that is there."""
    path = _as_path(value)
    return None if path is not None and answers_yes(path.is_dir) else "the path of a folder that exists"


def a_path(value: Any) -> str | None:
    """Accept any path."""
    return None if _as_path(value) is not None else "the path of a file that exists"


def a_function(value: Any) -> str | None:
    """Accept what can be called."""
    return None if callable(value) else "a function"


def new_folder(value: Any) -> str | None:
    """Accept the path of a folder that need not be there yet."""
    path = _as_path(value)
    return None if path is not None and not answers_yes(path.is_file) else "the path of a folder"


def any_path(value: Any) -> str | None:
    """Accept the path of a folder that need not be there yet, or the word that stands for one."""
    return _or(new_folder(value), "'default'")


def answers_yes(is_so: Callable[[], bool]) -> bool:
    """Ask something of a path; one that may not be looked at, or is too long, answers no."""
    try:
        return is_so()
    except OSError:
        return False


def has_method(name: str, or_one_of: Collection[str]) -> Rule:
    """Accept one of the names, or an object with the method `name`."""
    by_name = one_of(or_one_of)

    def check(value: Any) -> str | None:
        if callable(getattr(value, name, None)) and not isinstance(value, type):
            return None
        an_object = f"an object with the method {name}()"
        return _or(by_name(value), an_object) if or_one_of else an_object

    return check


def _as_path(value: Any) -> Path | None:
    if not isinstance(value, str | PathLike) or not isinstance(fspath(value), str) or not fspath(value):
        return None
    try:
        path = Path(value).expanduser()
        answers_yes(path.exists)
    except (RuntimeError, ValueError):  # "~name", and nobody has that name; a character that no path can have
        return None
    return path


def a_file(value: Any) -> str | None:
    """Accept the path of a file that is there."""
    path = _as_path(value)
    return None if path is not None and answers_yes(path.is_file) else "the path of a file that exists"


def a_label_source(value: Any) -> str | None:
    """Accept everything that can answer a query."""
    if callable(getattr(value, "request_labels", None)) or callable(value):
        return None if not isinstance(value, type) else "an object, not its class"
    if isinstance(value, str) and value in LABEL_SOURCE_WORDS:
        return None
    words = ", ".join(map(repr, LABEL_SOURCE_WORDS))
    required = f"one of {words}, the path of a label CSV or .ddb file that exists, a function, or an object with the "
    return a_file(value) and f"{required}method request_labels()"


def a_name(value: Any) -> str | None:
    """Accept a word that is not blank."""
    return None if isinstance(value, str) and value.strip() == value != "" else "a name without spaces at its ends"


def a_class_name(value: Any) -> str | None:
    """Accept the name of one class."""
    return class_list([value]) and f"a class name, but none of {', '.join(sorted(RESERVED_CLASS_NAMES))}"


def a_pattern(value: Any) -> str | None:
    """Accept a regular expression with at most one group."""
    try:
        fits = isinstance(value, str) and value != "" and re.compile(value).groups <= 1
    except re.error:
        fits = False
    return None if fits else "a regular expression with at most one pair of parentheses, such as '(SEQ[0-9]+)_IMG'"


def class_list(value: Any) -> str | None:
    """Accept a sequence of different names that no answer uses for something else."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    fits = (
        is_list
        and len(value) > 0
        and not any(map(a_name, value))
        and len(set(value)) == len(value)
        and not any(name.casefold() in RESERVED_CLASS_NAMES for name in value)
    )
    reserved = ", ".join(sorted(RESERVED_CLASS_NAMES))
    return None if fits else f"a list of different class names, without {reserved}"


def names_by_name(value: Any) -> str | None:
    """Accept a mapping of words to words."""
    fits = isinstance(value, Mapping) and not any(map(a_name, (*value.keys(), *value.values())))
    return None if fits else "a dict such as {'Roe deer': 'Roe_Deer'}"
