"""Settings of a run in a TOML file, for the command line."""

import codecs
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from inspect import Parameter
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.rules import LABEL_SOURCE_WORDS

__all__ = ["read_settings_file"]

WORDS_OF_PATHS = ("default", *LABEL_SOURCE_WORDS)  # what a setting that takes a path may be besides


def read_settings_file(file: Path, settings: Mapping[str, Parameter]) -> dict[str, Any]:
    """Read the settings in a TOML file, each a line such as ``active_batch = 50``.

    Paths are relative to the folder of the file. ``"none"`` is what a setting that may be None is without a value.

    Parameters
    ----------
    file
        The file.
    settings
        The parameters that may be set, by name.

    Returns
    -------
    Values by name.

    Raises
    ------
    ConfigError
        If the file cannot be read, or names anything else.
    """
    try:
        found = tomllib.loads(_text(file.read_bytes()))
    except OSError as error:
        raise ConfigError(
            f"{file}: the settings cannot be read ({error.strerror}). Look at its name and place."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: the settings cannot be read, since the file is not in UTF-8. Save it as UTF-8 (in Notepad: File, "
            "Save As, Encoding)."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file}: the settings cannot be read ({error}). Each is a line such as  active_batch = 50  or  "
            "train_data = 'D:\\photos\\labelled'  with single quotes around paths."
        ) from error
    problems = [f"{file}: {problem}" for problem in _problems(found, settings)]
    if problems:
        raise ConfigError(problems)
    return {name: _value(value, settings[name].annotation, file.absolute().parent) for name, value in found.items()}


def _text(content: bytes) -> str:
    """Decode a file as Notepad and PowerShell write it: UTF-8, or UTF-16 with a signature."""
    signed = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if signed else "utf-8-sig").replace("\r\n", "\n")


def _problems(found: Mapping[str, Any], settings: Mapping[str, Parameter]) -> Iterator[str]:
    typed = [name for name, setting in settings.items() if setting.annotation is not Any]
    for name in found:
        if name not in settings:
            near = get_close_matches(name.replace("-", "_"), typed, 1)
            yield f"{name!r} is no setting.{f' Is {near[0]!r} meant?' if near else ''}"
        elif name not in typed:
            yield f"{name!r} is a Python object, which cannot stand in a file. Call run_active_learning from Python."


def _value(value: Any, annotation: Any, folder: Path) -> Any:
    kinds = get_args(annotation)
    if value == "none" and NoneType in kinds:
        return None
    is_path = isinstance(value, str) and PathLike[str] in kinds and value not in WORDS_OF_PATHS
    return str(folder / Path(value).expanduser()) if is_path else value
