"""Which rows are labelled, unlabelled, validation, audit or set aside."""

import mmap
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["REFUSED", "UNLABELLED", "FloatArray", "IndexArray", "Pools", "Role", "empty_where_unused"]

IndexArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

UNLABELLED = -1
REFUSED = -2


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
    is_held_out
        (n_rows,) bool, True for rows of any role that are kept out of the training to measure the model, with or
        without a label; by default none.
    propagated
        (n_rows,) int64, the class id that a row without a label has from another one of its sequence; `REFUSED` where
        the label of that one does not count for it, `UNLABELLED` where there is none, by default everywhere.
    is_empty
        (n_rows,) bool, True for rows of the unlabelled folder in which a detector saw nothing, if that decides what
        they show; by default none.
    """

    roles: NDArray[np.int8]
    targets: IndexArray
    is_set_aside: NDArray[np.bool_]
    is_initial: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    audit_lots: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    is_held_out: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    propagated: IndexArray = field(default_factory=lambda: np.zeros(0, np.int64))
    is_empty: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        of_none = {"audit_lots": np.nan, "propagated": UNLABELLED}
        of_none |= dict.fromkeys(("is_initial", "is_held_out", "is_empty"), False)
        for name, value in of_none.items():
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.roles), value))
        lengths = [len(getattr(self, each.name)) for each in fields(self)]
        if len(set(lengths)) > 1:
            named = ", ".join(each.name for each in fields(self))
            raise ValueError(f"Pools needs arrays of one length, {named}; got {lengths}.")

    @property
    def labelled(self) -> IndexArray:
        """Rows that the model learns from, ascending: training photos and answered ones, but none that measure it."""
        return self._rows((self.targets != UNLABELLED) & ~self.measures)

    @property
    def measures(self) -> NDArray[np.bool_]:
        """(n_rows,) whether a row only ever measures the model, with or without a label."""
        measures: NDArray[np.bool_] = (self.roles == Role.VALIDATION) | self.is_audit | self.is_held_out
        return measures

    @property
    def propagating(self) -> IndexArray:
        """Rows that have no label but learn with that of another photo of their sequence, ascending."""
        rows = self.to_choose_from
        return rows[self.propagated[rows] >= 0]

    @property
    def unlabelled(self) -> IndexArray:
        """Rows of the unlabelled folder that have no label yet, ascending, without those that a detector decided."""
        return self._rows((self.roles == Role.UNLABELLED) & (self.targets == UNLABELLED) & ~self.is_empty)

    @property
    def decided_empty(self) -> IndexArray:
        """Rows without a label in which a detector saw nothing, and that are taken for empty therefore, ascending."""
        return self._rows(self.is_empty & (self.targets == UNLABELLED))

    @property
    def to_ask(self) -> IndexArray:
        """Rows that may still be asked about, ascending, those of the audit included."""
        rows = self.unlabelled
        return rows[~self.is_held_out[rows]]

    @property
    def to_choose_from(self) -> IndexArray:
        """Rows that may still be asked about outside the audit, ascending."""
        rows = self.unlabelled
        return rows[~self.measures[rows]]

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
        rows = self._rows(self.is_audit & (self.targets == UNLABELLED) & ~self.is_empty)
        return rows[np.argsort(self.audit_lots[rows] % 1)]

    def audit_groups(self, rows: IndexArray) -> IndexArray:
        """Give (n,) numbers, equal for those of `rows` of the audit that were drawn as one."""
        return self.audit_lots[rows].astype(np.int64)

    def candidates(
        self, lots: NDArray[np.float64], at_most: int | None, not_now: IndexArray | None = None
    ) -> IndexArray:
        """Rows that a strategy may choose from, ascending: the unlabelled ones outside the audit with the lowest lots.

        As labels use them up, those with the next higher lots come in. Of rows with equal lots, all are taken or none,
        as far as that is possible.

        Parameters
        ----------
        lots
            (n_rows,) a random number for each row, or for each sequence of rows.
        at_most
            How many there are; None for all.
        not_now
            (n,) rows that are left for later, unless there are no others.
        """
        rows = self.to_choose_from
        if not_now is not None and len(not_now) and len(others := np.setdiff1d(rows, not_now)):
            rows = others
        if at_most is None or len(rows) <= at_most:
            return rows
        by_lot = rows[np.argsort(lots[rows], kind="stable")]
        whole = by_lot[lots[by_lot] < lots[by_lot[at_most]]]
        return np.sort(whole if len(whole) else by_lot[:at_most])

    @property
    def validation(self) -> IndexArray:
        """Labelled rows that only ever measure the model, ascending, but those of the audit."""
        return self._rows(self.measures & ~self.is_audit & (self.targets != UNLABELLED))

    @property
    def answered(self) -> IndexArray:
        """Rows of the unlabelled folder that the run asked about and got a label for, ascending, also vanished ones."""
        return np.flatnonzero((self.roles == Role.UNLABELLED) & (self.targets != UNLABELLED) & ~self.is_initial)

    @property
    def usable(self) -> IndexArray:
        """Rows whose photo may be looked at, whatever their role, ascending: not those that a detector decided."""
        return self._rows(~self.is_empty | (self.targets != UNLABELLED))

    @property
    def set_aside(self) -> IndexArray:
        """Rows that cannot be used, ascending."""
        return np.flatnonzero(self.is_set_aside)

    def _rows(self, wanted: NDArray[np.bool_]) -> IndexArray:
        return np.flatnonzero(wanted & ~self.is_set_aside)
