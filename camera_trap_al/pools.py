"""Which rows are labelled, unlabelled, validation, audit or set aside."""

import mmap
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNLABELLED", "FloatArray", "IndexArray", "Pools", "Role", "empty_where_unused"]

IndexArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

UNLABELLED = -1


def empty_where_unused(shape: tuple[int, int]) -> FloatArray:
    """Make an array of zeros that takes memory only near the rows that are written.

    `numpy.zeros` does so too, but asks for pages of 2 MB, of which a few scattered rows touch all.
    """
    n_bytes = max(1, shape[0] * shape[1] * 4)
    pages = mmap.mmap(-1, n_bytes)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.float32, shape[0] * shape[1]).reshape(shape)


class Role(IntEnum):
    """The data set that a photo came from; the value is what the run store keeps."""

    TRAIN = 0
    UNLABELLED = 1
    VALIDATION = 2

    @property
    def argument(self) -> str:
        """The argument of `run_active_learning` that names this data set's folder."""
        return f"{self.name.lower()}_data"


@dataclass(frozen=True, eq=False)
class Pools:
    """Sets of rows, always derived from arrays that say one thing each.

    Attributes
    ----------
    roles
        (n_rows,) int8, the `Role` of each row.
    targets
        (n_rows,) int64, the class id of each row, `UNLABELLED` where there is no label.
    is_set_aside
        (n_rows,) bool, True for rows that cannot be used (unreadable, vanished or marked unusable).
    is_initial
        (n_rows,) bool, True for rows of the unlabelled folder whose label was known before the run asked anything;
        by default none.
    audit_lots
        (n_rows,) float64, NaN for rows that are not reserved for the audit, by default all. Of the others, the whole
        part numbers what was drawn as one, a burst or a single photo; what is behind the point is the place in the
        random order of the audit.
    """

    roles: NDArray[np.int8]
    targets: IndexArray
    is_set_aside: NDArray[np.bool_]
    is_initial: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    audit_lots: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))

    def __post_init__(self) -> None:
        if not len(self.is_initial):
            object.__setattr__(self, "is_initial", np.zeros(len(self.roles), np.bool_))
        if not len(self.audit_lots):
            object.__setattr__(self, "audit_lots", np.full(len(self.roles), np.nan))
        lengths = [len(getattr(self, each.name)) for each in fields(self)]
        if len(set(lengths)) > 1:
            named = ", ".join(each.name for each in fields(self))
            raise ValueError(f"Pools needs arrays of one length, {named}; got {lengths}.")

    @property
    def labelled(self) -> IndexArray:
        """Rows that the model learns from, ascending: the training set and every answered photo outside the audit."""
        return self._rows((self.roles != Role.VALIDATION) & (self.targets != UNLABELLED) & ~self.is_audit)

    @property
    def unlabelled(self) -> IndexArray:
        """Rows that may still be asked about, ascending, those of the audit included."""
        return self._rows((self.roles == Role.UNLABELLED) & (self.targets == UNLABELLED))

    @property
    def is_audit(self) -> NDArray[np.bool_]:
        """(n_rows,) whether a row is reserved for the audit, labelled or not."""
        return ~np.isnan(self.audit_lots)

    @property
    def audit(self) -> IndexArray:
        """Labelled rows of the audit, ascending: they only ever measure the model."""
        return self._rows(self.is_audit & (self.targets != UNLABELLED))

    def audit_to_come(self) -> IndexArray:
        """Unlabelled rows of the audit in the order in which they are asked about."""
        rows = self._rows(self.is_audit & (self.targets == UNLABELLED))
        return rows[np.argsort(self.audit_lots[rows] % 1)]

    def audit_groups(self, rows: IndexArray) -> IndexArray:
        """Give (n,) numbers, equal for those of `rows` of the audit that were drawn as one."""
        return self.audit_lots[rows].astype(np.int64)

    def candidates(
        self, lots: NDArray[np.float64], at_most: int | None, not_now: IndexArray | None = None
    ) -> IndexArray:
        """Rows that a strategy may choose from, ascending: the unlabelled ones outside the audit with the lowest lots.

        As labels use them up, those with the next higher lots come in.

        Parameters
        ----------
        lots
            (n_rows,) a random number for each row, always the same.
        at_most
            How many there are; None for all.
        not_now
            (n,) rows that are left for later, unless there are no others.
        """
        rows = self.unlabelled
        rows = rows[~self.is_audit[rows]]
        if not_now is not None and len(not_now) and len(others := np.setdiff1d(rows, not_now)):
            rows = others
        if at_most is None or len(rows) <= at_most:
            return rows
        lowest = np.argpartition(lots[rows], at_most - 1)[:at_most]
        return np.sort(rows[lowest])

    @property
    def validation(self) -> IndexArray:
        """Rows that only ever measure the model, ascending."""
        return self._rows(self.roles == Role.VALIDATION)

    @property
    def answered(self) -> IndexArray:
        """Rows of the unlabelled folder that the run asked about and got a label for, ascending, also vanished ones."""
        return np.flatnonzero((self.roles == Role.UNLABELLED) & (self.targets != UNLABELLED) & ~self.is_initial)

    @property
    def usable(self) -> IndexArray:
        """Rows that are not set aside, whatever their role, ascending."""
        return np.flatnonzero(~self.is_set_aside)

    @property
    def set_aside(self) -> IndexArray:
        """Rows that cannot be used, ascending."""
        return np.flatnonzero(self.is_set_aside)

    def _rows(self, wanted: NDArray[np.bool_]) -> IndexArray:
        return np.flatnonzero(wanted & ~self.is_set_aside)
