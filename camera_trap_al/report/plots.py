"""Figures of a run for notebooks and for the page: each function gives a matplotlib figure, which nobody else holds.

``figure.savefig`` writes it, a notebook shows it after ``%matplotlib inline``. pyplot, whose state and backend belong
to the user, is not used. Colours are those of Okabe & Ito (2008), made for colour-blind eyes; classes have markers too.
"""

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from camera_trap_al.report.data import interval_of
from camera_trap_al.report.embedding_map import EmbeddingMap
from camera_trap_al.statistics.forecast import Forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_class_balance", "plot_embedding_map", "plot_learning_curve", "plot_seconds", "to_png"]

BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
LEGEND_ROWS = 30
MARKERS = "os^DvPX*"
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
WIDTH = 7.5  # inches
MAX_HEIGHT = 30
ROUNDS_SHOWN = 30  # of the times


def plot_learning_curve(history: Sequence[Mapping[str, Any]], forecast: Forecast | None = None) -> "Figure":
    """Draw accuracy and macro F1 against labels, with intervals, and what more labels are likely to bring.

    Parameters
    ----------
    history
        One mapping per evaluation with `train_set_size` and `accuracy` (0 to 1), and, where they are known, `macro_f1`
        and the ends of the accuracy's 95 % interval, as `interval` or in `intervals`, as `RunResult` has them.
    forecast
        Draws the fitted curve and the interval of its end.
    """
    figure, axes = _new_figure(4.2)
    sizes = [point["train_set_size"] for point in history]
    accuracies = np.array([point["accuracy"] for point in history], float)
    ends = [interval_of(point) or (point["accuracy"],) * 2 for point in history]
    low, high = np.array(ends, float).reshape(-1, 2).T
    below, above = np.maximum(accuracies - low, 0), np.maximum(high - accuracies, 0)
    label = "accuracy, 95 % interval" if any(interval_of(point) for point in history) else "accuracy"
    axes.errorbar(sizes, accuracies, [below, above], color=BLUE, marker="o", capsize=3, label=label)
    f1s = [(point["train_set_size"], point["macro_f1"]) for point in history if point.get("macro_f1") is not None]
    if f1s:
        axes.plot(*zip(*f1s, strict=True), color=RED, marker="s", linestyle=":", label="macro F1")
    if forecast is not None:
        _draw_forecast(axes, min(sizes), forecast)
    axes.set(xlabel="photos that the model learnt from", ylabel="share", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def _draw_forecast(axes: "Axes", first: int, forecast: Forecast) -> None:
    sizes = np.linspace(first, forecast.at, 200)
    axes.plot(sizes, forecast.curve.at(sizes), color=GREEN, linestyle="--", label="fitted curve")
    now = forecast.figure - forecast.gain
    ends = np.clip([now + forecast.low, now + forecast.high], 0, 1)
    below, above = forecast.figure - ends[0], ends[1] - forecast.figure
    axes.errorbar(
        [forecast.at],
        [forecast.figure],
        [[max(below, 0)], [max(above, 0)]],
        color=GREEN,
        marker="D",
        capsize=5,
        linestyle="none",
        label=f"expected, {100 * forecast.level:.0f} % interval",
    )


def plot_class_balance(
    labels_per_class: Mapping[str, int], predicted_per_class: Mapping[str, int] | None = None
) -> "Figure":
    """Draw how many labels each class has, the most frequent first, beside how many photos the model takes for it.

    Parameters
    ----------
    labels_per_class
        Photos that the model learns from, by the name of their class.
    predicted_per_class
        Unlabelled photos that the model takes for each class; without any there is one panel.
    """
    from matplotlib.figure import Figure

    names = sorted(labels_per_class, key=lambda name: (-labels_per_class[name], name))
    panels = [("labels", BLUE, labels_per_class)]
    if predicted_per_class:
        panels.append(("unlabelled photos that the model takes for it", RED, predicted_per_class))
    figure = Figure(figsize=(WIDTH, min(1.2 + 0.26 * len(names), MAX_HEIGHT)), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, colour, counts) in zip(all_axes, panels, strict=True):
        bars = axes.barh(range(len(names)), [counts.get(name, 0) for name in names], color=colour)
        axes.bar_label(bars, padding=2, fontsize=8)
        axes.margins(x=0.18, y=0.01)
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_yticks(range(len(names)), names, parse_math=False, fontsize=8)
    all_axes[0].invert_yaxis()
    return figure


def plot_embedding_map(embedding_map: EmbeddingMap) -> "Figure":
    """Draw photos as points, coloured by class: large ones by their label, small pale ones by what the model thinks."""
    figure, axes = _new_figure(5.6)
    handles, found = [], np.unique(embedding_map.class_ids).tolist()
    for class_id in found:
        colour, marker = class_style(class_id)
        of_class = embedding_map.class_ids == class_id
        for is_labelled, size, alpha, edge in ((False, 5, 0.35, "none"), (True, 26, 1.0, "#333333")):
            x, y = embedding_map.points[of_class & (embedding_map.is_labelled == is_labelled)].T
            handle = axes.scatter(
                x,
                y,
                s=size,
                color=colour,
                marker=marker,
                alpha=alpha,
                edgecolors=edge,
                linewidths=0.4,
                zorder=2 + is_labelled,
            )
        handles.append(handle)
    first, second = embedding_map.shares
    axes.set(
        xlabel=f"first component ({first:.0%} of the variance)", ylabel=f"second component ({second:.0%})", xticks=[]
    )
    axes.set_yticks([])
    names, n_columns = [str(class_id) for class_id in found], -(-len(found) // LEGEND_ROWS)
    legend = figure.legend(handles, names, loc="outside right upper", fontsize=8, ncols=n_columns)
    for text, class_id in zip(legend.get_texts(), found, strict=True):
        text.set_parse_math(False)  # a dollar sign in a class name must not start a formula
        text.set_text(embedding_map.classes[class_id])  # here, since a legend leaves out names with "_" in front
    return figure


def class_style(class_id: int) -> tuple[str, str]:
    """Give the colour and marker of a class: different ones for 64 classes, both different among the first 8."""
    return COLOURS[class_id % len(COLOURS)], MARKERS[(class_id + class_id // len(COLOURS)) % len(MARKERS)]


def plot_seconds(history: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw how long each stage took before each question, of the last 30.

    Parameters
    ----------
    history
        One mapping per round with `train_set_size` and `seconds`, a mapping from the name of a stage.
    """
    figure, axes = _new_figure(3.6)
    rounds = [point for point in history if point.get("seconds")][-ROUNDS_SHOWN:]
    stages = list(dict.fromkeys(stage for point in rounds for stage in point["seconds"]))
    bottom = np.zeros(len(rounds))
    for number, stage in enumerate(stages):
        seconds = np.array([point["seconds"].get(stage, 0.0) for point in rounds])
        colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
        axes.bar(range(len(rounds)), seconds, bottom=bottom, label=stage, color=colour, hatch=hatch, edgecolor="white")
        bottom += seconds
    labels = [str(point["train_set_size"]) for point in rounds]
    axes.set_xticks(range(len(rounds)), labels, rotation=90 if len(rounds) > 12 else 0)
    axes.set(xlabel="photos that the model learnt from", ylabel="seconds")
    if stages:
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def to_png(figure: "Figure", dots_per_inch: int = 110) -> bytes:
    """Give a figure as the bytes of a PNG; a letter that matplotlib's font lacks becomes a box, without a warning."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="png", dpi=dots_per_inch)
    return buffer.getvalue()


def _new_figure(height: float) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
