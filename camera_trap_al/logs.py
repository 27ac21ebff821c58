"""How a run tells what it does: one log line when a stage starts, one when it ends."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["only_warnings_of", "run_logging", "stage", "timed"]

PACKAGE = "camera_trap_al"


_seconds: ContextVar[dict[str, float] | None] = ContextVar("seconds", default=None)


@contextmanager
def stage(logger: logging.Logger, what: str, kind: str = "") -> Iterator[None]:
    """Log at INFO that `what` starts and, if it succeeds, that it is done and how many seconds it took.

    Parameters
    ----------
    logger
        The logger of the module whose work it is.
    what
        What is done, with its counts.
    kind
        What `timed` adds it to; "" if it is a part of another stage.
    """
    logger.info("%s ...", what)
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    if kind and (total := _seconds.get()) is not None:
        total[kind] += seconds
    logger.info("%s: done in %.1f s", what, seconds)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Give the seconds of the stages that end within the context, by their kinds; they may be cleared in between."""
    total: defaultdict[str, float] = defaultdict(float)
    token = _seconds.set(total)
    try:
        yield total
    finally:
        _seconds.reset(token)


@contextmanager
def run_logging() -> Iterator[None]:
    """Make ``logging.getLogger().setLevel(logging.INFO)`` alone enough to see the log of a run.

    Python shows no INFO line until somebody adds a handler. If nobody has, the package's logger gets one on stderr for
    the length of the run; a program that configures logging itself is left alone.
    """
    logger = logging.getLogger(PACKAGE)
    if logger.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def only_warnings_of(*libraries: str) -> Iterator[None]:
    """Keep libraries that tell each of their steps at INFO, by the names of their loggers, from doing so."""
    loggers = [logging.getLogger(name) for name in libraries]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
