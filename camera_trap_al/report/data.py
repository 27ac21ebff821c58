"""What the page about a run is made from: plain values, so that anybody can make one by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from camera_trap_al.evaluation import EvaluationReport
from camera_trap_al.report.embedding_map import EmbeddingMap
from camera_trap_al.statistics.bootstrap import Interval
from camera_trap_al.statistics.forecast import Forecast

__all__ = ["PhotoCard", "ReportData", "interval_of"]


@dataclass(frozen=True, kw_only=True)
class PhotoCard:
    """A photo and what is said of it.

    Attributes
    ----------
    path
        Where it lies below its data folder, separated by ``/``.
    thumbnail
        A small JPEG; None if the photo cannot be shown.
    guess
        Class that the model names, or named when it asked; None if nothing is known of that.
    confidence
        Probability of that class, 0..1.
    second
        The class that is next.
    label
        What the expert says; None if nothing yet.
    score
        The strategy's score when the photo was asked about; None without one.
    is_audit
        Whether it was asked about for the audit.
    own_confidence
        Probability of its label by a model that did not learn from it, 0..1.
    """

    path: str
    thumbnail: bytes | None = field(default=None, repr=False)
    guess: str | None = None
    confidence: float | None = None
    second: str | None = None
    label: str | None = None
    score: float | None = None
    is_audit: bool = False
    own_confidence: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportData:
    """All that the page shows. What is empty or None is left out of it, with a word why.

    Attributes
    ----------
    run
        Name of the run, such as that of its folder.
    made_at
        When, in words.
    n_answers, n_rounds, n_unlabelled
        Answers and rounds so far, and photos without a label.
    labels_per_class
        Labelled photos that the model learns from, by the name of their class; every class is there.
    n_propagated
        Photos besides that it learns from with the label of another photo of their sequence.
    predicted_per_class
        How many of the candidates the model takes for each class.
    measured_on
        ``"validation"`` or ``"audit"`` photos; None if there are none.
    rounds
        The figures of each round (`plot_learning_curve`), and ``seconds`` by the name of a stage (`plot_seconds`).
    evaluation
        The validation of the present model.
    confusion_image
        PNG of its confusion matrix, if that is drawn already.
    prevalence
        Share of each class among the unlabelled photos that the run began with, and its interval if there is one.
    forecast
        What the next labels are likely to bring.
    advice
        Whether it is worth going on, in a sentence or two.
    strategy
        Name of the strategy that asks now.
    asked_round
        The round that `asked` is of.
    asked
        Photos of the last round, in the order in which the strategy chose them.
    n_asked
        How many they were, if `asked` is only the first of them.
    n_named, n_named_rightly
        Of how many of them the model named a class before it asked, and how often that was right.
    doubtful
        Photos without a label that the model is least sure of.
    suspects
        Photos whose label the model does not believe.
    suspects_note
        How they were found.
    embedding_map
        The map of the embeddings.
    """

    run: str
    made_at: str
    n_answers: int
    n_rounds: int
    n_unlabelled: int
    labels_per_class: Mapping[str, int]
    n_propagated: int = 0
    predicted_per_class: Mapping[str, int] = field(default_factory=dict)
    measured_on: str | None = None
    rounds: Sequence[Mapping[str, Any]] = ()
    evaluation: EvaluationReport | None = None
    confusion_image: bytes | None = field(default=None, repr=False)
    prevalence: Mapping[str, tuple[float, Interval | None]] = field(default_factory=dict)
    forecast: Forecast | None = None
    advice: str = ""
    strategy: str = ""
    asked_round: int | None = None
    asked: Sequence[PhotoCard] = ()
    n_asked: int = 0
    n_named: int = 0
    n_named_rightly: int = 0
    doubtful: Sequence[PhotoCard] = ()
    suspects: Sequence[PhotoCard] = ()
    suspects_note: str = ""
    embedding_map: EmbeddingMap | None = None


def interval_of(figures: Mapping[str, Any]) -> Interval | None:
    """Find the interval of the accuracy among the figures of a round or of an evaluation; None without one."""
    found = figures.get("interval") or figures.get("intervals", {}).get("accuracy")
    return None if found is None else (float(found[0]), float(found[1]))
