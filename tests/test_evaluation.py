import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, classification_report, log_loss, top_k_accuracy_score

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


def test_figures_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    true, probabilities = rng.integers(0, 7, 400), rng.dirichlet(np.ones(7), 400).astype(np.float32)
    report = evaluate(true, probabilities, [f"class {i}" for i in range(7)])
    predicted = probabilities.argmax(axis=1)
    assert report.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, predicted))
    assert report.top_3_accuracy == pytest.approx(top_k_accuracy_score(true, probabilities, k=3))
    assert report.log_loss == pytest.approx(log_loss(true, probabilities), rel=1e-5)
    theirs = classification_report(true, predicted, output_dict=True, zero_division=0)
    for class_id, ours in enumerate(report.per_class):
        expected = theirs[str(class_id)]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"])
        )
        assert (ours.name, ours.support) == (f"class {class_id}", expected["support"])


def test_a_class_that_is_only_predicted_does_not_count_in_the_balanced_accuracy(report: EvaluationReport) -> None:
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)  # the Zebra has no image


def test_the_most_confused_pairs_come_first_and_equal_ones_by_name() -> None:
    true, predicted = [0, 0, 0, 1, 2, 2, 4], [2, 2, 1, 1, 0, 2, 2]
    report = evaluate(np.array(true), one_hot(predicted), CLASSES)
    assert [(pair.true, pair.predicted, pair.n_images) for pair in report.most_confused] == [
        ("wolf", "deer", 2),
        ("Zebra", "deer", 1),
        ("deer", "wolf", 1),
        ("wolf", "ant eater", 1),
    ]


def test_misclassified_photos_are_listed_by_pair_the_surest_mistake_first(tmp_path: Path) -> None:
    true, predicted = np.array([0, 0, 0, 1, 2]), [2, 1, 2, 1, 0]
    sure = np.array([0.5, 0.8, 0.7, 0.9, 0.6], np.float32)[:, None]
    photos = [f"wolf/site/{i}.jpg" for i in range(5)]
    evaluate(true, np.eye(5, dtype=np.float32)[predicted] * sure, CLASSES).save(tmp_path, photos)
    assert (tmp_path / "misclassified.csv").read_text("utf-8").splitlines() == [
        "File,RelativePath,true_species,predicted_species,confidence",
        "2.jpg,wolf\\site,wolf,deer,0.7000",
        "0.jpg,wolf\\site,wolf,deer,0.5000",
        "1.jpg,wolf\\site,wolf,ant eater,0.8000",
        "4.jpg,wolf\\site,deer,wolf,0.6000",
    ]


def test_without_a_mistake_the_list_has_its_header_only(tmp_path: Path) -> None:
    report = evaluate(np.array([0, 1]), one_hot([0, 1]), CLASSES)
    report.save(tmp_path, ["wolf/a.jpg", "ant eater/b.jpg"])
    assert len((tmp_path / "misclassified.csv").read_text("utf-8").splitlines()) == 1
    assert report.most_confused == []


def test_the_accuracy_is_told_with_its_interval() -> None:
    right_and_wrong = evaluate(np.array([0, 0, 1, 1]), one_hot([0, 0, 0, 0]), CLASSES, np.array([1, 1, 2, 2]))
    assert right_and_wrong.n_groups == 2
    assert right_and_wrong.accuracy_told == "accuracy 50.0% (95 % interval 0.0% to 100.0%)"
    assert evaluate(np.array([0]), one_hot([0]), CLASSES).accuracy_told == "accuracy 100.0%"


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
        "n_groups",
        "split",
        "n_shared_sequences",
        "balanced_accuracy",
        "top_3_accuracy",
        "intervals",
        "log_loss",
        "log_loss_calibrated",
        "temperature",
        "expected_calibration_error",
        "expected_calibration_error_calibrated",
        "per_class",
        "most_confused",
    ]
    assert metrics == report.to_dict()
    assert metrics["conf_mat_classes"] == ["Zebra", "ant eater", "deer", "wolf"]
    assert metrics["per_class"][1] == pytest.approx(
        {"name": "ant eater", "precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2}
    )


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


def test_a_group_is_needed_for_each_image() -> None:
    with pytest.raises(ConfigError, match=r"groups must have a number per photo, \(1,\); got \(2,\)"):
        evaluate(np.array([0]), one_hot([0]), CLASSES, np.array([0, 1]))


@pytest.mark.parametrize(
    ("true", "probabilities", "error", "message"),
    [
        ([], np.zeros((0, 5)), DataError, "no photo to evaluate it on"),
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
