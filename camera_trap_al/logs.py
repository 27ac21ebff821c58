"""How a run tells what it does: one log line when a stage starts, one when it ends."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["only_warnings_of", "run_logging", "stage"]

PACKAGE = "camera_trap_al"


@contextmanager
def stage(logger: logging.Logger, what: str) -> Iterator[None]:
    """Log at INFO that `what` starts and, if it succeeds, that it is done and how many seconds it took."""
    logger.info("%s ...", what)
    start = time.perf_counter()
    yield
    logger.info("%s: done in %.1f s", what, time.perf_counter() - start)


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
