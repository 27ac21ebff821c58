"""Which photos of a run are reserved for the audit, when it begins and when photos are added."""

import logging
from dataclasses import replace

import numpy as np

from camera_trap_al.photos.catalogue import Catalogue, groups_of
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.photo_table import AUDIT_DRAWN_FROM
from camera_trap_al.statistics.audit import draw_audit
from camera_trap_al.statistics.propagation import mates_of

__all__ = ["reserve_audit"]

logger = logging.getLogger(__name__)


def reserve_audit(store: RunStore, catalogue: Catalogue) -> Catalogue:
    """Reserve photos for the audit: at the beginning from all unlabelled ones, later from those that were added.

    No sequence is both learnt from and in the audit: a photo that is added to a sequence of the audit joins it, and one
    that is added to any other sequence, or is of one with training photos, is not drawn.

    A run that began without an audit goes on without one: what its strategy has left over is no random sample.
    """
    drawn_from, fraction = store.recall(AUDIT_DRAWN_FROM), store.config.audit_share
    if not fraction or (drawn_from is None and store.has_begun()) or drawn_from == len(catalogue):
        return catalogue
    pools, rng = catalogue.pools, store.config.generator("audit", drawn_from or 0)
    sequences = np.full(len(catalogue), -1) if catalogue.sequences is None else catalogue.sequences
    new, reserved = pools.to_ask[pools.to_ask >= (drawn_from or 0)], np.flatnonzero(pools.is_audit)
    learnt_from = np.setdiff1d(np.concatenate([pools.labelled, pools.to_choose_from]), new)
    may_be_alike = mates_of(learnt_from, new, sequences)
    joining = np.setdiff1d(mates_of(reserved, new, sequences), may_be_alike)
    to_draw = np.setdiff1d(new, np.concatenate([joining, may_be_alike]))
    lots = np.full(len(catalogue), np.nan)
    lots[to_draw] = draw_audit(
        groups_of(catalogue, to_draw),
        fraction,
        rng,
        at_least=int(drawn_from is None),
        first_number=int(pools.audit_groups(reserved).max(initial=-1)) + 1,
        is_sequence=sequences[to_draw] >= 0,
        n_others=len(pools.to_ask) - len(to_draw),
    )
    numbers = dict(zip(sequences[reserved].tolist(), pools.audit_groups(reserved).tolist(), strict=True))
    lots[joining] = [numbers[sequence] for sequence in sequences[joining].tolist()] + rng.random(len(joining))
    rows = np.flatnonzero(~np.isnan(lots))
    store.reserve_for_audit(dict(zip(rows.tolist(), lots[rows].tolist(), strict=True)))
    if len(rows):
        logger.info("Audit: %d photos drawn at random measure the model and are never learnt from", len(rows))
    elif drawn_from is None and len(new):
        logger.warning(
            "No photo can be drawn for the audit: each of the %d is of a sequence that has training photos, so that "
            "figures from it would flatter. validation_data or validation_split can tell how good the model is.",
            len(new),
        )
    return replace(catalogue, pools=replace(pools, audit_lots=np.where(np.isnan(lots), pools.audit_lots, lots)))
