"""Which photos a round asks about: those that the strategy chooses, and some of the audit."""

import logging
import sys

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.active_learning_methods.base import PoolView, ScoreSampling
from camera_trap_al.active_learning_methods.one_per_sequence import choose_one_per_sequence
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.photos.sequences import one_each
from camera_trap_al.pools import UNLABELLED, IndexArray, Role
from camera_trap_al.query import Reasons
from camera_trap_al.run_store import RunStore
from camera_trap_al.statistics.audit import audit_photos_of_round

__all__ = ["Questions"]

logger = logging.getLogger(__name__)

ROUNDS_TO_WAIT = 5  # before a skipped photo may be asked about again
STOP_SET_SIZE = 2_000  # as Bloodgood & Vijay-Shanker (2009) recommend
NAMED = 3  # photos in a message
SPARE_AUDIT_ROWS = 10  # read ahead, in case that some cannot be read


class Questions:
    """Which photos are asked about next: most of them chosen by the strategy, some drawn for the audit.

    Parameters
    ----------
    dataset
        The photos and their labels.
    config
        The settings.

    Attributes
    ----------
    lots
        (n_rows,) a random number for each photo or, where bursts count, for each burst; the same however many others
        come later: candidates are the rows with the lowest.
    """

    def __init__(self, dataset: ExtendedImageFolder, config: RunConfig) -> None:
        self.lots = self._lots_of_photos = config.generator("candidates", 0).random(len(dataset))
        self._sequences = None if config.group_by == "image" else dataset.catalogue.sequences
        if self._sequences is not None:
            numbers = one_each(self._sequences)
            _, first_rows, self._numbers = np.unique(numbers, return_index=True, return_inverse=True)
            self.lots = self._lots_of_photos[first_rows][self._numbers]
        self._dataset = dataset
        self._config = config
        self._strategy = config.strategy
        self._skipped = np.zeros(0, np.int64)

    def leave_skipped_out(self, store: RunStore) -> None:
        """Ask about the photos that were skipped in the last rounds only when there are no others."""
        round_number = store.n_rounds() + 1
        self._skipped = store.skipped_rows(round_number - ROUNDS_TO_WAIT, round_number)

    @property
    def candidates(self) -> IndexArray:
        """Rows that the strategy may choose from, ascending: whole sequences, unless these are fewer than a batch."""
        candidates, at_most = self._dataset.pools.candidates, self._config.candidate_pool
        if self._sequences is None:
            return candidates(self.lots, at_most, self._skipped)
        comes_last = self._has_label()
        whole = candidates(self.lots + comes_last, at_most, self._skipped)
        if at_most is None or len(np.unique(self._numbers[whole])) >= self._config.active_batch:
            return whole
        return candidates(self._lots_of_photos + comes_last, at_most, self._skipped)

    def _has_label(self) -> NDArray[np.bool_]:
        """(n_rows,) whether a photo is of a sequence that has a label."""
        has_label = np.zeros(self._numbers.max(initial=-1) + 1, np.bool_)
        has_label[self._numbers[self._dataset.pools.labelled]] = True
        return has_label[self._numbers]

    @property
    def to_read(self) -> tuple[IndexArray, IndexArray, IndexArray]:
        """Rows whose photos are looked at before a round: candidates, the answered ones of the audit and its next."""
        pools = self._dataset.pools
        n_ahead = max(1, round(self._config.audit_share * self._config.active_batch)) + SPARE_AUDIT_ROWS
        return self.candidates, pools.audit, self._audit_to_come()[:n_ahead]

    def _audit_to_come(self) -> IndexArray:
        """Rows of the audit in the order of asking; those that were skipped lately only if no other photo is left."""
        rows = self._dataset.pools.audit_to_come()
        others = rows[~np.isin(rows, self._skipped)]
        is_left = len(others) or not np.isin(self.candidates, self._skipped).all()
        return others if is_left else rows

    @property
    def stop_set(self) -> IndexArray:
        """At most 2,000 rows that are or were candidates, by their lots, labelled by now or not; always the same."""
        pools = self._dataset.pools
        rows = np.flatnonzero(
            (pools.roles == Role.UNLABELLED) & ~pools.measures & ~pools.is_set_aside & ~pools.is_empty
        )
        return np.sort(rows[np.argsort(self.lots[rows], kind="stable")[:STOP_SET_SIZE]])

    @property
    def n_answers_left(self) -> int:
        """Answers until `max_labels` is reached; more than there can be without that limit."""
        n_answers = len(self._dataset.pools.answered)
        return sys.maxsize if self._config.max_labels is None else max(0, self._config.max_labels - n_answers)

    def why_finished(self) -> str | None:
        """Say why there is nothing more to ask, such as that everything is labelled; None if there is."""
        pools = self._dataset.pools
        if not len(pools.to_ask):
            if not len(pools.answered) and pools.is_set_aside[pools.roles == Role.UNLABELLED].all():
                return "no unlabelled photo can be read"
            is_all = not len(pools.unlabelled) and not len(pools.decided_empty)
            return "everything is labelled" if is_all else "every photo that may be asked about is labelled"
        return None if self.n_answers_left else "max_labels is reached"

    def choose(self, view: PoolView, round_number: int) -> IndexArray:
        """Choose the rows of a round, those of the audit first: a batch, less where the pool or `max_labels` ends.

        Raises
        ------
        EmptyPoolError
            If nothing is unlabelled.
        """
        n = min(self._config.active_batch, self.n_answers_left)
        n_audit = audit_photos_of_round(self._config.audit_share, n, round_number)
        audit = self._audit_to_come()[: max(n_audit, n - len(view.unlabelled))]
        if len(audit) and not (n > len(audit) and len(view.unlabelled)):
            return audit
        rng = self._config.generator("query", round_number)
        if self._sequences is None:
            chosen = self._strategy.select_batch(view, n - len(audit), rng)
        else:
            chosen = choose_one_per_sequence(self._strategy, view, n - len(audit), rng, self._sequences)
        return np.concatenate([audit, chosen])

    def tell_several_animals(self, rows: IndexArray) -> None:
        """Name the photos in which a detector saw several animals: the label is to be that of the surest one."""
        catalogue = self._dataset.catalogue
        several = [row for row in rows.tolist() if row in catalogue.boxes and catalogue.boxes[row].n_boxes > 1]
        if several:
            named = ", ".join(catalogue.paths[row] for row in several[:NAMED])
            logger.warning(
                "%d of the photos asked about have several animals, such as %s. The model sees the one that the "
                "detector is surest of: if they are of different species, name that one.",
                len(several),
                named,
            )

    def reasons(self, rows: IndexArray, view: PoolView) -> Reasons:
        """Say what strategy and model think of rows to be asked about; nothing of those that are no candidates."""
        scores, confidences = np.full((2, len(rows)), np.nan, np.float32)
        class_ids = np.full(len(rows), UNLABELLED)
        is_candidate = np.isin(rows, view.unlabelled)
        if is_candidate.any():
            chosen = rows[is_candidate]
            probabilities = view.classifier.probabilities(view.embeddings[chosen])
            class_ids[is_candidate] = probabilities.argmax(axis=1)
            confidences[is_candidate] = probabilities.max(axis=1)
            if isinstance(self._strategy, ScoreSampling):
                scores[is_candidate] = self._strategy.score(view)[np.searchsorted(view.unlabelled, chosen)]
        return Reasons(scores, class_ids, confidences)
