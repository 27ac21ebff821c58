import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camera_trap_al.evaluation import EvaluationReport, evaluate
from camera_trap_al.exceptions import ConfigError, DataError

CLASSES = ("wolf", "ant eater", "deer", "never seen", "Zebra")
TRUE = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 1, 4]  # a deer taken for a zebra: the zebra has no true image, the deer no prediction


def one_hot(ids: list[int], n_classes: int = len(CLASSES)) -> np.ndarray:
    return np.eye(n_classes, dtype=np.float32)[ids] * 0.9


@pytest.fixture
def report() -> EvaluationReport:
    return evaluate(np.array(TRUE), one_hot(PREDICTED), CLASSES)


def test_figures_of_an_example_worked_by_hand(report: EvaluationReport) -> None:
    assert report.n_images == 6
    assert report.accuracy == report.micro_precision == report.micro_recall == pytest.approx(4 / 6)
    # Precision and recall: wolf 2/2, 2/3; ant eater 2/3, 2/2; deer 0 (never predicted), 0; Zebra 0, 0 (never true).
    assert report.macro_precision == pytest.approx((1 + 2 / 3) / 4)
    assert report.macro_recall == pytest.approx((2 / 3 + 1) / 4)
    assert report.macro_f1 == pytest.approx((0.8 + 0.8) / 4)


def test_the_matrix_holds_the_occurring_classes_by_name_and_true_classes_in_rows(report: EvaluationReport) -> None:
    assert report.conf_mat_classes == ("Zebra", "ant eater", "deer", "wolf")
    np.testing.assert_array_equal(
        report.confusion_matrix,
        [
            [0, 0, 0, 0],
            [0, 2, 0, 0],
            [1, 0, 0, 0],
            [0, 1, 0, 2],
        ],
    )
    assert report.confusion_matrix.dtype == np.int64


def test_figures_equal_plain_loops_on_random_answers() -> None:
    rng = np.random.default_rng(0)
    true, probabilities = rng.integers(0, 6, 300), rng.random((300, 6)).astype(np.float32)
    probabilities[np.arange(300), true] += 0.4
    report = evaluate(true, probabilities, [f"class {5 - i}" for i in range(6)])
    pairs = list(zip(true.tolist(), probabilities.argmax(axis=1).tolist(), strict=True))
    precisions, recalls, f1s = [], [], []
    for i in range(6):
        hits = sum(t == p == i for t, p in pairs)
        precisions.append(hits / sum(p == i for _, p in pairs))
        recalls.append(hits / sum(t == i for t, _ in pairs))
        f1s.append(2 * precisions[-1] * recalls[-1] / (precisions[-1] + recalls[-1]))
    assert report.accuracy == pytest.approx(sum(t == p for t, p in pairs) / 300)
    assert report.macro_precision == pytest.approx(sum(precisions) / 6)
    assert report.macro_recall == pytest.approx(sum(recalls) / 6)
    assert report.macro_f1 == pytest.approx(sum(f1s) / 6)
    for row, column in np.ndindex(6, 6):
        assert report.confusion_matrix[row, column] == sum(pair == (5 - row, 5 - column) for pair in pairs)


def test_a_single_class_works(tmp_path: Path) -> None:
    report = evaluate(np.array([0, 0]), np.ones((2, 1), np.float32), ["only"])
    assert (report.accuracy, report.macro_f1, report.confusion_matrix.tolist()) == (1.0, 1.0, [[2]])
    report.save(tmp_path)


def test_metrics_json_has_exactly_the_documented_keys(report: EvaluationReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics) == [
        "accuracy",
        "micro_precision",
        "micro_recall",
        "macro_precision",
        "macro_recall",
        "macro_f1",
        "conf_mat_classes",
        "n_images",
        "temperature",
        "expected_calibration_error",
        "expected_calibration_error_calibrated",
    ]
    assert metrics == report.to_dict()
    assert metrics["conf_mat_classes"] == ["Zebra", "ant eater", "deer", "wolf"]


def test_save_leaves_the_three_files_and_replaces_older_ones(report: EvaluationReport, tmp_path: Path) -> None:
    folder = tmp_path / "test_results" / "train_set_size_6"
    evaluate(np.array([0]), one_hot([0]), CLASSES).save(folder)
    report.save(folder)
    assert {path.name for path in folder.iterdir()} == {"confusion_matrix.npy", "confusion_matrix.png", "metrics.json"}
    saved = np.load(folder / "confusion_matrix.npy", allow_pickle=False)
    np.testing.assert_array_equal(saved, report.confusion_matrix)


def test_the_plot_grows_with_the_classes_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera_trap_al.evaluation.MAX_INCHES", 18)
    sides = {}
    for n_classes in (2, 25, 50):
        ids = list(range(n_classes))
        names = [f"species with a long name {i}" for i in ids]
        evaluate(np.array(ids), one_hot(ids, n_classes), names).save(tmp_path)
        with Image.open(tmp_path / "confusion_matrix.png") as image:
            image.verify()
            sides[n_classes] = image.height
    assert sides[2] < 1000
    assert sides[25] >= 25 * 40  # pixels: enough for a label and a count in each cell
    assert sides[25] < sides[50] <= 1800  # 18 inches at 100 pixels each


def test_counts_stand_in_the_cells(tmp_path: Path) -> None:
    # The same shares and colours; only the printed counts differ.
    images = []
    for repeats in (1, 7):
        evaluate(np.repeat([0, 1], repeats), one_hot([0] * repeats + [1] * repeats), CLASSES).save(tmp_path)
        with Image.open(tmp_path / "confusion_matrix.png") as image:
            pixels = np.asarray(image.convert("L"))
            images.append(pixels[100:])  # without the title, which holds the number of images
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize("name", ["$", "$x$", "$\\frac$", "a_b^c", "Lynx lynx (Linné)"])
def test_any_class_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    evaluate(np.array([0, 1]), one_hot([0, 1], 2), [name, "deer"]).save(tmp_path)
    assert (tmp_path / "confusion_matrix.png").stat().st_size > 0


def test_drawing_leaves_the_pyplot_of_the_user_alone(report: EvaluationReport, tmp_path: Path) -> None:
    import matplotlib

    settings = dict(matplotlib.rcParams)
    had_pyplot = "matplotlib.pyplot" in sys.modules
    report.save(tmp_path)
    assert dict(matplotlib.rcParams) == settings
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


@pytest.mark.parametrize(
    ("true", "probabilities", "error", "message"),
    [
        ([], np.zeros((0, 5)), DataError, "no image to evaluate it on"),
        ([0, 1], one_hot([0]), ConfigError, r"\(2, 5\); got \(1, 5\)"),
        ([0], one_hot([0], 4), ConfigError, r"\(1, 5\); got \(1, 4\)"),
        ([5], one_hot([0]), ConfigError, "from 0 to 4; got 5 to 5"),
        ([-1], one_hot([0]), ConfigError, "from 0 to 4; got -1 to -1"),
        ([0], np.full((1, 5), np.nan), DataError, "NaN"),
    ],
)
def test_arguments_that_cannot_be_judged_are_an_error(
    true: list[int], probabilities: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(np.array(true, dtype=np.int64), probabilities, CLASSES)
