"""What the page about a run is made from, by hand."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camera_trap_al.evaluation import EvaluationReport, evaluate
from camera_trap_al.report import EmbeddingMap, PhotoCard, ReportData
from camera_trap_al.statistics.forecast import Forecast, LearningCurve

HOSTILE = ("<script>alert(1)</script>", '$x$ & "y"', "_'quoted'", "鹿</title>")


@pytest.fixture
def evaluation() -> EvaluationReport:
    """Of nine photos of three hostile classes, one is named wrongly: the first class is taken for the second."""
    true = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    probabilities = np.full((9, 4), 0.05, np.float32)
    probabilities[np.arange(9), [1, 0, 0, 1, 1, 1, 2, 2, 2]] = 0.85
    return evaluate(true, probabilities, HOSTILE)


@pytest.fixture
def expected() -> Forecast:
    """Two points more at 400 labels, on a curve that is 0.9 - 0.1 at 300 labels."""
    curve = LearningCurve(ceiling=0.9, drop=0.1, exponent=0.775, scale=300)
    return Forecast(at=400, figure=0.82, gain=0.02, low=0.01, high=0.03, level=0.8, curve=curve)


@pytest.fixture
def rounds() -> list[dict[str, Any]]:
    """Three rounds, the first without macro F1, the last without an interval."""
    first = {"train_set_size": 100, "accuracy": 0.6, "interval": [0.5, 0.7], "seconds": {"training": 30.0}}
    second = {"train_set_size": 200, "accuracy": 0.7, "macro_f1": 0.6, "intervals": {"accuracy": [0.65, 0.8]}}
    third = {"train_set_size": 300, "accuracy": 0.8, "macro_f1": 0.7}
    return [first, second, third | {"interval": None, "seconds": {"training": 20.0, "embedding": 5.5}}]


@pytest.fixture
def make_map() -> Callable[..., EmbeddingMap]:
    """Makes the map of eight photos, two of each class, the first of them labelled."""

    def make(classes: tuple[str, ...] = HOSTILE) -> EmbeddingMap:
        points = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
        labelled = np.tile([True, False], 4)
        return EmbeddingMap(
            points=points,
            class_ids=np.repeat(np.arange(4), 2),
            is_labelled=labelled,
            classes=classes,
            shares=(0.5, 0.25),
            n_photos=20,
        )

    return make


@pytest.fixture
def report_data(
    evaluation: EvaluationReport,
    expected: Forecast,
    rounds: list[dict[str, Any]],
    make_map: Callable[..., EmbeddingMap],
) -> ReportData:
    """Everything that a page can show, of four classes with hostile names."""
    asked = (
        PhotoCard(path="a/1.jpg", thumbnail=_jpeg(1), guess=HOSTILE[0], confidence=0.5, label=HOSTILE[0], score=-0.1),
        PhotoCard(path="a/<b>&2.jpg", guess=HOSTILE[1], confidence=0.75, label=HOSTILE[0], score=-0.25),
        PhotoCard(path="a/3.jpg", thumbnail=_jpeg(3), label="unusable", is_audit=True),
    )
    return ReportData(
        run="Wood <1> & co",
        made_at="2026-11-26 19:30",
        n_answers=1200,
        n_rounds=12,
        n_unlabelled=34_567,
        labels_per_class=dict(zip(HOSTILE, (150, 100, 49, 1), strict=True)),
        predicted_per_class=dict(zip(HOSTILE, (1000, 500, 250, 0), strict=True)),
        measured_on="validation",
        rounds=rounds,
        evaluation=evaluation,
        prevalence={HOSTILE[0]: (0.5, (0.4, 0.6)), HOSTILE[1]: (0.25, None)},
        forecast=expected,
        advice="Advice: go on <now>.",
        strategy="margin",
        asked_round=12,
        asked=asked,
        n_asked=5,
        n_named=2,
        n_named_rightly=1,
        doubtful=(PhotoCard(path="b/4.jpg", thumbnail=_jpeg(4), guess=HOSTILE[2], confidence=0.41, second=HOSTILE[3]),),
        suspects=(
            PhotoCard(
                path="train_data/5.jpg",
                thumbnail=_jpeg(5),
                guess=HOSTILE[1],
                confidence=0.93,
                label=HOSTILE[0],
                own_confidence=0.02,
            ),
        ),
        suspects_note="300 of 300 labelled photos were judged.",
        embedding_map=make_map(),
    )


@pytest.fixture
def bare_data() -> ReportData:
    """A run that has asked nothing and can measure nothing."""
    return ReportData(
        run="run", made_at="now", n_answers=0, n_rounds=0, n_unlabelled=5, labels_per_class={"boar": 1, "deer": 2}
    )


def _jpeg(seed: int) -> bytes:
    buffer = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((128, 96)).save(buffer, "JPEG")
    return buffer.getvalue()
