"""Options of a command, made from the signature and the docstring of the function that it calls."""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from inspect import Parameter, cleandoc
from os import PathLike
from types import MappingProxyType, NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from camera_trap_al.exceptions import CameraTrapALError

__all__ = ["FunctionOptions", "descriptions"]

# What the description of a parameter says for Python, and how it is said for a command line.
REWORDED = {
    r",? or (an object|objects) with [^.]*": "",
    r" (A function|Any object) [^.]*\.": "",
    r'\{"(.*?)": "(.*?)"\}': r'"\1=\2"',
    r"``\((\d+), (\d+)\)``": r"\1/\2",
    "``": "",
}


class Kind(NamedTuple):
    """How the values of one type are typed."""

    metavar: str
    read: Callable[[str], Any] = str
    must_be: str = ""
    if_many: Mapping[str, Any] = {}


class AddWords(argparse.Action):
    """Collects words in a list, in the place of those that are the default."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        """Add the words of one use of the option to those of the uses before it."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*([] if before is self.default else before), *values])


class AddPairs(argparse.Action):
    """Collects pairs in a dict, in the place of those that are the default."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        """Add the pairs of one use of the option to those of the uses before it."""
        before = getattr(namespace, self.dest)
        pairs = {} if before is self.default else dict(before)
        for word, name in values:
            if pairs.setdefault(word, name) != name:
                raise argparse.ArgumentError(self, f"{word!r} can mean one class, not {pairs[word]!r} and {name!r}")
        setattr(namespace, self.dest, pairs)


class FunctionOptions:
    """The options of a command.

    Parameters
    ----------
    settings
        The parameters of the function, by name; each becomes an option of that name.
    docstring
        That of the function; None where Python keeps none.
    groups
        Patterns by title: a setting belongs to the first group whose pattern is in its name.
    defaults
        What a setting is if it is left out, where that is not the default of the function.
    """

    def __init__(
        self,
        settings: Mapping[str, Parameter],
        docstring: str | None,
        groups: Mapping[str, str],
        defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.settings = {
            name: setting.replace(default=defaults.get(name, setting.default)) for name, setting in settings.items()
        }
        self._described = descriptions(docstring or "")
        self._groups = groups

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add an option for each setting that can be typed: all but functions."""
        groups = {title: parser.add_argument_group(title) for title in self._groups}
        for setting in self.settings.values():
            if setting.annotation is Any:
                continue
            title = next(title for title, pattern in self._groups.items() if re.search(pattern, setting.name))
            option = groups[title].add_argument(_option(setting.name), **_how_to_read(setting))
            option.help = self._help(option)

    def given(self, chosen: argparse.Namespace) -> dict[str, Any]:
        """Give the arguments of the function that were typed."""
        return {name: value for name, value in vars(chosen).items() if name in self.settings}

    @contextmanager
    def errors_named_as_typed(self) -> Iterator[None]:
        """Name settings by their options in an error that is raised within the context."""
        try:
            yield
        except CameraTrapALError as error:
            raise CameraTrapALError(self.named_as_typed(str(error))) from error

    def described(self, name: str) -> str:
        """Say for a command line what a setting does."""
        text = self._described.get(name, "")
        for python, reworded in REWORDED.items():
            text = re.sub(python, reworded, text)
        named = re.sub(r"`(\w+)`", lambda found: _option(found[1]) if found[1] in self.settings else found[1], text)
        return named.replace("%", "%%")

    def _help(self, option: argparse.Action) -> str:
        """Say for a command line what a setting does and what it is if left out."""
        default = "must be given" if option.required else f"default: {_shown(option.default)}"
        return f"{self.described(option.dest)} ({default})".strip()

    def named_as_typed(self, message: str) -> str:
        """Name settings in `message` by their options; leave alone what is quoted or part of a path.

        A name of a single word is a setting only where a problem begins or a value follows: "classes" is an ordinary
        word.
        """
        names = "|".join(name for name in self.settings if "_" in name)
        words = "|".join(name for name in self.settings if "_" not in name)
        setting = rf"{names}|(?:^|(?<=^  - ))(?:{words})|(?:{words})(?==)"
        quoted = r"'[^'\n]*'|\"[^\"\n]*\""
        pattern = rf"(?<![\w/\\.-])(?:{quoted}|({setting})(?![\w/\\-]|\.\w)(=True\b|=False\b|=)?)"
        return re.sub(pattern, _named_as_typed, message, flags=re.MULTILINE)


def _named_as_typed(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name is None:
        return found[0]
    return _option(name, no=value == "=False") + (" " if value == "=" else "")


def _option(name: str, *, no: bool = False) -> str:
    return ("--no-" if no else "--") + name.replace("_", "-")


def _how_to_read(setting: Parameter) -> dict[str, Any]:
    """Give the arguments of `add_argument` that the type and the default of a setting ask for."""
    types = _types(setting.annotation)
    or_none = NoneType in types
    is_needed = setting.default is Parameter.empty
    common = {"required": is_needed and not or_none, "default": None if is_needed else setting.default}
    if types == {bool}:
        return {"action": argparse.BooleanOptionalAction, **common}
    kind = KINDS.get(types - {NoneType}, Kind("VALUE"))
    # A class may be called none.
    return {"metavar": kind.metavar, "type": _reader(kind, or_none and not kind.if_many), **kind.if_many, **common}


def _types(annotation: Any) -> frozenset[Any]:
    """List what a union joins; anything else stands alone."""
    return frozenset(get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation])


def _reader(kind: Kind, or_none: bool) -> Callable[[str], Any]:
    """Read what is typed for a setting, or say what it must be."""

    def read(text: str) -> Any:
        if or_none and text.casefold() == "none":
            return None
        try:
            return kind.read(text)
        except ValueError:
            must_be = f"{kind.must_be}, or none" if or_none else kind.must_be
            raise argparse.ArgumentTypeError(f"must be {must_be}; got {text!r}") from None

    return read


def _read_pair(text: str) -> tuple[str, str]:
    word, _, name = (part.strip() for part in text.partition("="))
    if not word or not name:
        raise ValueError
    return word, name


def _read_part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    return int(number), int(of)


def _read_json(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError
    return values


def _read_word_or_truth(text: str) -> str | bool:
    return {"true": True, "false": False}.get(text.casefold(), text)


KINDS: Mapping[frozenset[Any], Kind] = {
    frozenset({int}): Kind("N", int, "a whole number such as 100"),
    frozenset({float}): Kind("X", float, "a number such as 0.001"),
    frozenset({str}): Kind("WORD"),
    frozenset({str, PathLike[str]}): Kind("PATH"),
    frozenset({str, bool}): Kind("WORD", _read_word_or_truth),
    frozenset({Sequence[str]}): Kind("CLASS", if_many={"nargs": "+", "action": AddWords}),
    frozenset({Mapping[str, str]}): Kind(
        "WORD=CLASS", _read_pair, 'WORD=CLASS such as "Roe deer=Roe_Deer"', {"nargs": "+", "action": AddPairs}
    ),
    frozenset({tuple[int, int]}): Kind("I/N", _read_part, "two whole numbers such as 3/10"),
    frozenset({Mapping[str, Any]}): Kind("JSON", _read_json, 'JSON such as {"alpha": 0.1}'),
}


def descriptions(docstring: str) -> dict[str, str]:
    """Take the description of each parameter from a docstring."""
    _, _, parameters = cleandoc(docstring).partition("Parameters\n----------\n")
    entries = re.findall(r"^(\w.*)\n((?: .*\n)+)", parameters.partition("\n\n")[0] + "\n", re.MULTILINE)
    return {name: " ".join(lines.split()) for names, lines in entries for name in names.split(", ")}


def _shown(default: Any) -> str:
    if isinstance(default, float):
        return f"{Decimal(str(default)):f}"  # 0.00001, not 1e-05
    return {"None": "none", "True": "yes", "False": "no"}.get(str(default), str(default))
