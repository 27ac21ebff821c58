"""The settings of a run at a later start: which are kept, which change, and what is said of each."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from camera_trap_al.config import RunConfig

__all__ = ["to_store", "with_kept_settings"]

logger = logging.getLogger(__name__)

DRAWN_OR_DERIVED = ("seed", "audit_fraction")  # when a run begins, where they are None
AS_ASKED = "asked."  # before the name of a setting: how it was asked for at the last start


def to_store(config: RunConfig, *, begins: bool) -> dict[str, Any]:
    """Give what a start stores: values by the name that they are stored under; the kept ones when a run `begins`."""
    of_the_first_start = config.first_start_settings()
    told = {
        f"{AS_ASKED}{name}": text
        for name, text in config.told_settings().items()
        if begins or name not in of_the_first_start
    }
    return config.kept_settings() | told if begins else told


def with_kept_settings(config: RunConfig, stored: Mapping[str, Any]) -> RunConfig:
    """Put the kept settings of a run in the place of those asked for, and tell every difference.

    A kept setting that differs is ignored with a WARNING, and so is one that only the first start needs. Others take
    effect, which is logged at INFO.

    Parameters
    ----------
    config
        The settings asked for.
    stored
        What the run stored when it began, and at its last start.
    """
    asked = config.kept_settings()
    kept = {name: stored[name] for name in asked if name in stored}
    for name, value in kept.items():
        if asked[name] != value and not (name in DRAWN_OR_DERIVED and asked[name] is None):
            _warn(config, name, repr(asked[name]), repr(value))
    _tell_changes(config, stored)
    return replace(config, **kept)


def _tell_changes(config: RunConfig, stored: Mapping[str, Any]) -> None:
    for name, told in config.told_settings().items():
        before = stored.get(f"{AS_ASKED}{name}", told)
        if told == before:
            continue
        if name not in config.first_start_settings():
            logger.info("%s=%s takes effect; it was %s", name, told, before)
        elif told != "None":
            _warn(config, name, told, before)


def _warn(config: RunConfig, name: str, asked: str, kept: str) -> None:
    logger.warning(
        "%s=%s is ignored: the run in %s began with %s and keeps it. To change it, start a new run: "
        "use_checkpoints=False or another output_dir.",
        name,
        asked,
        config.run_dir,
        kept,
    )
