"""The figures of a simulation as tables, files and a picture."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.files import make_folder, written_aside
from camera_trap_al.pools import FloatArray
from camera_trap_al.statistics.learning_curves import (
    LEVEL,
    area_under_curve,
    holm,
    labels_to_reach,
    mean_and_interval,
    paired_difference,
    resampled_seeds,
)

__all__ = ["METRICS", "YARDSTICK", "SimulationResult", "summarise"]

METRICS = ("macro_f1", "accuracy", "balanced_accuracy")
YARDSTICK = "uniform"
ARM = ["strategy", "candidates"]


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """What a simulation found.

    Attributes
    ----------
    curves
        A line for each strategy, share of candidates, seed and number of labels: strategy, candidates (0..1, the share
        of the unlabelled photos that it may choose from), seed, labels (answers; the initial labels are not counted),
        macro_f1, accuracy, balanced_accuracy (0..1 each, on the validation photos) and seconds (of choosing).
    summary
        A line for each strategy and share of candidates, the best first; `summarise` tells the columns.
    metric
        Which score the summary is about.
    """

    curves: pd.DataFrame
    summary: pd.DataFrame
    metric: str = "macro_f1"

    @classmethod
    def of(cls, curves: pd.DataFrame, metric: str = "macro_f1") -> "SimulationResult":
        """Make the summary of curves."""
        return cls(curves, summarise(curves, metric), metric)

    def save(self, folder: str | Path) -> None:
        """Write curves.csv, summary.csv and learning_curves.png, each whole or not at all.

        Parameters
        ----------
        folder
            Made if it is not there; files of these names in it are replaced.
        """
        folder = Path(folder).expanduser()
        make_folder(folder)
        for name, frame in (("curves.csv", self.curves), ("summary.csv", self.summary)):
            with written_aside(folder / name) as path:
                frame.to_csv(path, index=False)
        with written_aside(folder / "learning_curves.png") as path:
            self.draw(path)

    def draw(self, path: Path) -> None:
        """Draw the mean learning curves with their 95 % intervals over seeds into a PNG file."""
        from matplotlib.figure import Figure  # not pyplot, whose state and backend belong to the user

        figure = Figure(figsize=(9, 5.5), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        styles = [(colour, dash) for dash in ("-", "--", ":") for colour in (f"C{number}" for number in range(10))]
        for number, (name, candidates) in enumerate(self.summary[ARM].itertuples(index=False)):
            labels, scores = scores_of(self.curves, name, candidates, self.metric)
            mean, low, high = mean_and_interval(scores)
            is_yardstick = (name, candidates) == (YARDSTICK, 1.0)
            colour, dash = ("black", "-") if is_yardstick else styles[number % len(styles)]
            width = 2.5 if is_yardstick else 1.2
            axes.plot(labels, mean, dash, color=colour, lw=width, label=arm_told(name, candidates))
            axes.fill_between(labels, low, high, color=colour, alpha=0.08, lw=0)
        axes.set(xlabel="labels given", ylabel=f"{self.metric} on the validation photos")
        axes.legend(fontsize=7, loc="lower right", ncols=2)
        axes.grid(alpha=0.3)
        figure.savefig(path, format="png")

    def table(self) -> str:
        """Return the summary as a Markdown table."""
        header = ("strategy", f"final {self.metric}", "mean on the way", "against uniform", "labels to reach uniform")
        lines = [header, *(_cells(line) for line in self.summary.to_dict("records"))]
        rows = [f"| {' | '.join(cells)} |" for cells in lines]
        return "\n".join([rows[0], "|" + "---|" * len(header), *rows[1:]])


def arm_told(strategy: str, candidates: float) -> str:
    """Name a strategy, with the share of the photos that it may choose from if that is not all."""
    return strategy if candidates == 1 else f"{strategy}, {candidates:.0%} of the photos"


def _cells(line: dict[Any, Any]) -> tuple[str, ...]:
    interval = "" if math.isnan(line["low"]) else f" ({line['low']:+.3f} to {line['high']:+.3f})"
    gain = f"{line['difference']:+.3f}{interval}: {line['verdict']}"
    reached = "not reached"
    if math.isfinite(line["labels_to_reach"]):
        reached = f"{line['labels_to_reach']:.0f} ({line['share_of_labels']:.0%})"
    name = arm_told(line["strategy"], line["candidates"])
    return name, f"{line['final']:.3f}", f"{line['area']:.3f}", gain, reached


def scores_of(curves: pd.DataFrame, strategy: str, candidates: float, metric: str) -> tuple[FloatArray, FloatArray]:
    """Return (n_budgets,) labels and (n_seeds, n_budgets) scores, seeds ascending, as far as all seeds go."""
    mine = curves[(curves["strategy"] == strategy) & (curves["candidates"] == candidates)]
    table = mine.pivot(index="seed", columns="labels", values=metric).dropna(axis="columns")
    return table.columns.to_numpy(np.float64), table.to_numpy(np.float64)


def summarise(curves: pd.DataFrame, metric: str = "macro_f1", yardstick: str = YARDSTICK) -> pd.DataFrame:
    """Compare each strategy with drawing at random.

    Parameters
    ----------
    curves
        As in `SimulationResult`; the yardstick and the others have the same seeds and numbers of labels.
    metric
        One of ``macro_f1``, ``accuracy``, ``balanced_accuracy``.
    yardstick
        The strategy that the others are compared with, choosing from all photos.

    Returns
    -------
    By strategy and candidates: final (score with all labels, mean over seeds), area (mean score on the way),
    difference, low, high (of the area from that of the yardstick, with the 95 % interval of `paired_difference`),
    p_value (corrected by `holm` for the number of strategies), verdict (``"win"``, ``"tie"`` or ``"loss"``, a tie
    unless p_value is below 0.05), labels_to_reach (the yardstick's final score on the isotonic fit; infinite if it is
    not reached), share_of_labels (of those that the yardstick was given), share_low, share_high (the middle 95 % of
    that when seeds are drawn anew: too narrow with few seeds).

    Raises
    ------
    ConfigError
        If the yardstick is not among the curves, or the seeds differ.
    """
    arms = list(curves[ARM].drop_duplicates().itertuples(index=False, name=None))
    if (yardstick, 1.0) not in arms:
        raise ConfigError(f"strategies must have {yardstick!r}, with which the others are compared; got {arms}.")
    lines = [_line(curves, arm, metric, yardstick) for arm in arms]
    others = [line for line in lines if (line["strategy"], line["candidates"]) != (yardstick, 1.0)]
    for line, p_value in zip(others, holm([line["p_value"] for line in others]), strict=True):
        line["p_value"] = p_value
        line["verdict"] = "tie" if p_value >= 1 - LEVEL else "win" if line["difference"] > 0 else "loss"
    return pd.DataFrame(lines).sort_values("area", ascending=False, kind="stable", ignore_index=True)


def _line(curves: pd.DataFrame, arm: tuple[str, float], metric: str, yardstick: str) -> dict[str, Any]:
    labels, scores = scores_of(curves, *arm, metric)
    base_labels, base = scores_of(curves, yardstick, 1.0, metric)
    if scores.shape != base.shape or (labels != base_labels).any():
        raise ConfigError(f"{arm_told(*arm)} must have the same seeds and numbers of labels as {yardstick}.")
    rng = np.random.default_rng(0)
    compared = paired_difference(labels, scores, base, rng)
    needed = labels_to_reach(labels, scores, _target(base))
    low, high = _share_interval(labels, scores, base, rng)
    return {
        "strategy": arm[0],
        "candidates": arm[1],
        "final": float(scores[:, -1].mean()),
        "area": float(area_under_curve(labels, scores).mean()),
        "difference": compared.difference,
        "low": compared.low,
        "high": compared.high,
        "p_value": compared.p_value,
        "verdict": "tie",
        "labels_to_reach": needed,
        "share_of_labels": needed / max(labels[-1], 1),
        "share_low": low,
        "share_high": high,
    }


def _target(scores: FloatArray) -> float:
    return float(scores[:, -1].mean())


def _share_interval(
    labels: FloatArray, scores: FloatArray, base: FloatArray, rng: np.random.Generator
) -> tuple[float, float]:
    if len(scores) == 1:
        return math.nan, math.nan
    needed = list(_needed_by_drawn_seeds(labels, scores, base, rng))
    low, high = np.quantile(needed, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")  # some are infinite
    return float(low / labels[-1]), float(high / labels[-1])


def _needed_by_drawn_seeds(
    labels: FloatArray, scores: FloatArray, base: FloatArray, rng: np.random.Generator
) -> Iterator[float]:
    for drawn in resampled_seeds(len(scores), rng):
        yield labels_to_reach(labels, scores[drawn], _target(base[drawn]))
