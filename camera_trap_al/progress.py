"""How a run stands, and whether it is worth going on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import cohen_kappa_score

from camera_trap_al.statistics.audit import FEWEST_FOR_INTERVAL, Audit, wilson_interval
from camera_trap_al.statistics.bootstrap import Interval
from camera_trap_al.statistics.forecast import Forecast

__all__ = ["LABELS_AHEAD", "Progress", "agreement_between"]

SETTLED_AGREEMENT = 0.99  # [Bloodgood & Vijay-Shanker, 2009], on average over
SETTLED_ROUNDS = 3
WORTH_AN_HOUR = 0.01  # of accuracy; what 100 labels bring below that is hard to tell from chance
LABELS_AHEAD = 100  # of a forecast
PLATEAU = 250  # labels per class, from which on more bring little for camera-trap photos (see docs/how_good.md)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How a run stands before a question.

    Attributes
    ----------
    n_answers
        Labels given over the life of the run.
    n_rounds
        Rounds that were answered.
    labels_per_class
        Labelled photos that the model has learnt from, by the name of their class.
    n_propagated
        Photos besides that it has learnt from with the label of another photo of their sequence.
    measured_on
        ``"validation"`` or ``"audit"`` photos; None if there are none.
    n_measured
        How many these are.
    accuracy
        Share of these that the model names rightly, 0 to 1.
    interval
        95 % interval of the accuracy; None if there are too few photos for one.
    macro_f1
        Mean F1 of the classes; None with audit photos.
    audit
        What the audit photos say; None without any.
    agreements
        How well the predictions of each model agree with those of the model before, as Cohen's kappa, at most 1, in
        the order of the rounds.
    forecast
        What the next 100 labels are likely to bring; None while there are too few rounds to tell.
    """

    n_answers: int
    n_rounds: int
    labels_per_class: Mapping[str, int]
    n_propagated: int = 0
    measured_on: str | None = None
    n_measured: int = 0
    accuracy: float | None = None
    interval: Interval | None = None
    macro_f1: float | None = None
    audit: Audit | None = None
    agreements: Sequence[float] = field(default_factory=tuple)
    forecast: Forecast | None = None

    @property
    def has_settled(self) -> bool:
        """Whether the predictions hardly changed in the last three rounds."""
        last = self.agreements[-SETTLED_ROUNDS:]
        return len(last) == SETTLED_ROUNDS and float(np.mean(last)) >= SETTLED_AGREEMENT

    @property
    def few_labels(self) -> list[str]:
        """Classes with fewer labels than it takes until more bring little, the fewest first."""
        few = [(n, name) for name, n in self.labels_per_class.items() if n < PLATEAU]
        return [name for _, name in sorted(few)]

    def reaches(self, accuracy: float) -> bool:
        """Whether the accuracy is at least this, so that chance does not explain it; never below 50 photos."""
        if self.accuracy is None or self.interval is None or self.n_measured < FEWEST_FOR_INTERVAL:
            return False
        # An interval from drawing anew has no width where all photos are named rightly.
        return min(self.interval[0], wilson_interval(self.accuracy, self.n_measured)[0]) >= accuracy

    @property
    def advice(self) -> str:
        """Say in one line whether it is worth going on, and why."""
        reasons = "; ".join([*self._accuracy_told(), self._agreement_told(), self._labels_told()])
        return f"{self._verdict()} {reasons[0].upper()}{reasons[1:]}."

    def _verdict(self) -> str:
        brings_little = self.forecast is None or self.forecast.gain < WORTH_AN_HOUR
        n_learnt = sum(n > 0 for n in self.labels_per_class.values())
        if self.has_settled and brings_little and self.accuracy is not None and n_learnt > 1:
            return "Advice: you may stop (type q)."
        if len(self.agreements) < SETTLED_ROUNDS:
            return "Advice: go on; it is too early to tell more."
        return "Advice: go on."

    def _accuracy_told(self) -> list[str]:
        if self.accuracy is None:
            return []
        within = f" ({self.interval[0]:.1%} to {self.interval[1]:.1%})" if self.interval else ""
        few = f" on only {self.n_measured} photos" if 0 < self.n_measured < FEWEST_FOR_INTERVAL else ""
        told = [f"accuracy {self.accuracy:.1%}{within}{few}"]
        if self.forecast is not None:
            low, high = 100 * self.forecast.low, 100 * self.forecast.high
            brings = f"{LABELS_AHEAD} more labels are likely to bring {100 * self.forecast.gain:.1f} points"
            told.append(f"{brings} ({low:.1f} to {high:.1f})")
        return told

    def _agreement_told(self) -> str:
        if not self.agreements:
            return "whether predictions still change shows after the next round"
        told = f"predictions agree with those of the round before to {self.agreements[-1]:.3f}"
        return f"{told} (settled: {SETTLED_AGREEMENT})"

    def _labels_told(self) -> str:
        few = self.few_labels
        if not few:
            return f"every class has {PLATEAU} labels or more"
        named = ", ".join(f"{name} {self.labels_per_class[name]}" for name in few[:3])
        more = ", ..." if len(few) > 3 else ""
        return f"{len(few)} of {len(self.labels_per_class)} classes have fewer than {PLATEAU} labels ({named}{more})"


def agreement_between(guesses: Mapping[int, int], before: Mapping[int, int]) -> float | None:
    """Compare what two models think of the same photos [Bloodgood & Vijay-Shanker, 2009].

    Parameters
    ----------
    guesses, before
        Class ids by row; rows that only one of them has do not count.

    Returns
    -------
    Cohen's kappa, at most 1; None without a common row.
    """
    rows = sorted(guesses.keys() & before.keys())
    if not rows:
        return None
    now, then = ([by_row[row] for row in rows] for by_row in (guesses, before))
    return 1.0 if now == then else float(cohen_kappa_score(now, then))
