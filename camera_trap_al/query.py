"""What is asked of the expert in one round, and what comes back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "LabelSource", "Query"]


@dataclass(frozen=True, eq=False)
class Query:
    """The photos that one round asks about.

    Attributes
    ----------
    round
        Number of the round, counted from 1 over the life of the run.
    rows
        (n,) int64, the rows asked about, in the order in which the strategy chose them.
    paths
        The same photos as paths relative to the unlabelled folder, separated by ``/``.
    classes
        Class names by class id: the names that an answer may use.
    """

    round: int
    rows: NDArray[np.int64]
    paths: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.paths):
            raise ValueError(f"A query needs one path per row; got {len(self.rows)} rows and {len(self.paths)} paths.")

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Answer:
    """What the expert said to one query.

    Attributes
    ----------
    labels
        Class id of each answered row. Empty when the expert stopped instead.
    stop
        True when the expert wants the run to end here; the query stays open and is asked again at the next start.
    source
        Where the labels came from, for the record: the name of the label file, or of the label source.
    file_content
        The accepted label file, byte for byte, to be archived; None when there was no file.
    n_ignored
        Labels in the file for photos that were not asked about.
    """

    labels: Mapping[int, int] = field(default_factory=dict)
    stop: bool = False
    source: str = ""
    file_content: bytes | None = field(default=None, repr=False)
    n_ignored: int = 0


class LabelSource(Protocol):
    """Whoever labels: any object with this one method can be given as `label_source`."""

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Answer a query, and have the answer stored before anybody is told that it was accepted.

        Parameters
        ----------
        query
            The photos that are asked about.
        commit
            Stores an answer for good; must be called exactly once with every complete answer, and never when the
            expert stops. If it raises, the answer is not stored and the error must be let through.

        Returns
        -------
        The stored answer: a label for every row of the query, or no labels and `stop` set.
        """
        ...
