"""The command ``camera-trap-al run``: an option for each setting of `run_active_learning`, made from its signature."""

import argparse
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from inspect import Parameter, cleandoc, signature
from os import PathLike
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from camera_trap_al.exceptions import CameraTrapALError
from camera_trap_al.labelling.dialogue import say
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.report import learning_curve

__all__ = ["add_options", "named_as_typed", "run"]

SETTINGS = signature(run_active_learning).parameters

# A setting belongs to the first group whose pattern is in its name.
GROUPS = {
    "photos and results": "_data$|output_dir|use_checkpoints|validate|predict_pool|refit|rebuild",
    "questions and labels": "label|^(new_)?classes$|^class_aliases$|request_rows|active_|candidate_pool",
    "the network": "embedding|pretrained|balanced|feat_dim|batchnorm|finetuning",
    "everything else": "",
}

# What the description of a parameter says for Python, and how it is said for a command line.
REWORDED = {
    r",? or an object with [^.]*": "",
    r" (A function|Any object) [^.]*\.": "",
    r'\{"(.*?)": "(.*?)"\}': r'"\1=\2"',
    "``": "",
}


class Kind(NamedTuple):
    """How the values of one type are typed."""

    metavar: str
    read: Callable[[str], Any] = str
    must_be: str = ""
    if_many: Mapping[str, Any] = {}


class AddPairs(argparse.Action):
    """Collects pairs in a dict."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        """Add the pairs of one use of the option to those of the uses before it."""
        pairs = dict(getattr(namespace, self.dest) or {})
        for word, name in values:
            if pairs.setdefault(word, name) != name:
                raise argparse.ArgumentError(self, f"{word!r} can mean one class, not {pairs[word]!r} and {name!r}")
        setattr(namespace, self.dest, pairs)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting that can be typed: all but `classifier`, which is an object or "mlp"."""
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    described = _descriptions()
    for setting in SETTINGS.values():
        if setting.annotation is Any:
            continue
        title = next(title for title, pattern in GROUPS.items() if re.search(pattern, setting.name))
        option = groups[title].add_argument(_option(setting.name), **_how_to_read(setting))
        option.help = _help(described.get(setting.name, ""), option)


def run(chosen: argparse.Namespace) -> None:
    """Call `run_active_learning` with what was typed, and say how it ended.

    Parameters
    ----------
    chosen
        What the options that `add_options` made were given.

    Raises
    ------
    CameraTrapALError
        What the run raised, with settings named as they are typed here.
    """
    logging.getLogger(__package__).setLevel(logging.INFO)
    try:
        result = run_active_learning(**{name: value for name, value in vars(chosen).items() if name in SETTINGS})
    except CameraTrapALError as error:
        raise CameraTrapALError(named_as_typed(str(error))) from error
    if result.validation_history:
        say(f"\n{learning_curve(result.validation_history)}\n")
    say(f"Labels given: {result.labels_given}. The trained model: {result.export_dir}")


def named_as_typed(message: str) -> str:
    """Name settings in `message` by their options; leave alone what is quoted or part of a path.

    A name of a single word is a setting only where a problem begins or a value follows: "classes" is an ordinary word.
    """
    names = "|".join(name for name in SETTINGS if "_" in name)
    words = "|".join(name for name in SETTINGS if "_" not in name)
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
    frozenset({Sequence[str]}): Kind("CLASS", if_many={"nargs": "+", "action": "extend"}),
    frozenset({Mapping[str, str]}): Kind(
        "WORD=CLASS", _read_pair, 'WORD=CLASS such as "Roe deer=Roe_Deer"', {"nargs": "+", "action": AddPairs}
    ),
    frozenset({Mapping[str, Any]}): Kind("JSON", _read_json, 'JSON such as {"alpha": 0.1}'),
}


def _descriptions() -> dict[str, str]:
    """Take the description of each setting from the docstring of `run_active_learning`."""
    text = cleandoc(run_active_learning.__doc__ or "")  # Python -OO keeps no docstrings
    _, _, parameters = text.partition("Parameters\n----------\n")
    entries = re.findall(r"^(\w.*)\n((?: .*\n)+)", parameters.partition("\n\n")[0] + "\n", re.MULTILINE)
    return {name: " ".join(lines.split()) for names, lines in entries for name in names.split(", ")}


def _help(description: str, option: argparse.Action) -> str:
    """Say for a command line what a setting does and what it is if left out."""
    for python, reworded in REWORDED.items():
        description = re.sub(python, reworded, description)
    text = re.sub(r"`(\w+)`", lambda name: _option(name[1]) if name[1] in SETTINGS else name[1], description)
    default = "must be given" if option.required else f"default: {_shown(option.default)}"
    return f"{text} ({default})".strip().replace("%", "%%")


def _shown(default: Any) -> str:
    if isinstance(default, float):
        return f"{Decimal(str(default)):f}"  # 0.00001, not 1e-05
    return {"None": "none", "True": "yes", "False": "no"}.get(str(default), str(default))
