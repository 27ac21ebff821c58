"""Do work ahead of the one who waits for it, in threads: these work the same on Windows as elsewhere."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["decoding_threads", "mapped_ahead"]

MOST_DECODING_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def decoding_threads(num_workers: int) -> int:
    """Say how many photos are decoded side by side: `num_workers`, or for 0 one per core, at most 8."""
    return num_workers or min(MOST_DECODING_THREADS, os.cpu_count() or 1)


def mapped_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Result]:
    """Apply a function to items in threads; the results come in the order of the items.

    Items are drawn in the caller's thread and in their order, so that random draws among them are repeatable.

    Parameters
    ----------
    function
        What to apply; an error that it raises is raised where its result would have come.
    items
        What to apply it to; may be endless.
    threads
        How many calls run side by side.
    ahead
        How many calls are begun, or done and waiting, beyond the one whose result is wanted.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
