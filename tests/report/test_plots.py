import sys
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer, ErrorbarContainer
from PIL import Image

from camera_trap_al.report import (
    EmbeddingMap,
    plot_class_balance,
    plot_confusion_matrix,
    plot_embedding_map,
    plot_learning_curve,
    plot_seconds,
)
from camera_trap_al.report.plots import class_style, to_png


def named(axes):
    """What is drawn, by its name in the legend."""
    return dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))


def ends_of(errorbar):
    (bars,) = errorbar.lines[2]
    return [segment[:, 1].tolist() for segment in bars.get_segments()]


def test_the_learning_curve_has_a_point_per_round_with_its_interval(rounds):
    (axes,) = plot_learning_curve(rounds).axes
    drawn = named(axes)
    accuracy = drawn["accuracy, 95 % interval"]
    assert isinstance(accuracy, ErrorbarContainer)
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [(100, 0.6), (200, 0.7), (300, 0.8)])
    np.testing.assert_allclose(ends_of(accuracy), [(0.5, 0.7), (0.65, 0.8), (0.8, 0.8)])
    np.testing.assert_allclose(drawn["macro F1"].get_xydata(), [(200, 0.6), (300, 0.7)])
    assert set(drawn) == {"accuracy, 95 % interval", "macro F1"}
    assert axes.get_ylim()[0] == 0


def test_the_forecast_is_drawn_at_its_end_with_its_interval_and_curve(rounds, expected):
    (axes,) = plot_learning_curve(rounds, expected).axes
    drawn = named(axes)
    end = drawn["expected, 80 % interval"]
    np.testing.assert_allclose(end.lines[0].get_xydata(), [(400, 0.82)])
    np.testing.assert_allclose(ends_of(end), [(0.81, 0.83)])  # 0.80 now, and 0.01 to 0.03 more
    x, y = drawn["fitted curve"].get_xydata().T
    assert (x[0], x[-1]) == (100, 400)
    np.testing.assert_allclose(y, 0.9 - 0.1 * (x / 300) ** -0.775)


def test_figures_of_a_run_result_can_be_drawn(evaluation):
    (axes,) = plot_learning_curve([{"train_set_size": 9, **evaluation.to_dict()}]).axes
    np.testing.assert_allclose(
        ends_of(named(axes)["accuracy, 95 % interval"]), [evaluation.to_dict()["intervals"]["accuracy"]]
    )


def test_bars_are_as_long_as_the_counts_the_most_frequent_class_on_top():
    labels, predicted = {"$a$": 3, "_b": 20, "c": 0}, {"_b": 7, "$a$": 900}
    figure = plot_class_balance(labels, predicted)
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["_b", "$a$", "c"]
    assert not any(text.get_parse_math() for text in left.get_yticklabels())
    assert left.yaxis.get_inverted()
    widths = [
        [bar.get_width() for container in axes.containers if isinstance(container, BarContainer) for bar in container]
        for axes in (left, right)
    ]
    assert widths == [[20, 3, 0], [7, 900, 0]]
    assert [text.get_text() for text in right.texts] == ["7", "900", "0"]
    assert len(plot_class_balance(labels).axes) == 1


def test_every_photo_is_a_point_in_the_colour_of_its_class_and_labelled_ones_are_larger(make_map):
    embedding_map = make_map(("$a$", "_b", "c", "d"))
    figure = plot_embedding_map(embedding_map)
    (axes,) = figure.axes
    found = {}
    for part in axes.collections:
        (size,), (colour,) = part.get_sizes(), part.get_facecolor()
        found |= {(round(float(x), 4), round(float(y), 4)): (size, to_rgb(colour)) for x, y in part.get_offsets()}
    (small, large) = sorted({size for size, _ in found.values()})
    drawn = zip(embedding_map.points.tolist(), embedding_map.class_ids, embedding_map.is_labelled, strict=True)
    assert found == {
        (round(x, 4), round(y, 4)): (large if labelled else small, to_rgb(class_style(class_id)[0]))
        for (x, y), class_id, labelled in drawn
    }
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["$a$", "_b", "c", "d"]
    assert "50% of the variance" in axes.get_xlabel()
    to_png(figure)  # the dollar signs are no formula


def test_classes_of_a_map_can_be_told_apart_by_colour_and_marker():
    styles = [class_style(class_id) for class_id in range(64)]
    assert len(set(styles)) == 64
    assert len({colour for colour, _ in styles[:8]}) == len({marker for _, marker in styles[:8]}) == 8


def test_bars_of_a_round_stand_on_each_other(rounds):
    (axes,) = plot_seconds(rounds).axes
    bars = {label: [(bar.get_y(), bar.get_height()) for bar in part] for label, part in named(axes).items()}
    assert bars == {"training": [(0, 30), (0, 20)], "embedding": [(30, 0), (20, 5.5)]}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "300"], "a round without times is left out"


def test_the_times_of_many_rounds_are_those_of_the_last():
    many = [{"train_set_size": n, "seconds": {"training": 1.0}} for n in range(100)]
    (axes,) = plot_seconds(many).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(n) for n in range(70, 100)]


def test_the_confusion_matrix_has_a_count_in_each_cell_that_has_one(evaluation):
    axes = plot_confusion_matrix(evaluation).axes[0]
    found = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    cells = np.argwhere(evaluation.confusion_matrix)
    assert found == {(row, column): str(evaluation.confusion_matrix[row, column]) for row, column in cells.tolist()}


def test_no_figures_give_empty_plots():
    for figure in (plot_learning_curve([]), plot_seconds([]), plot_class_balance({})):
        assert to_png(figure)


def test_letters_without_a_picture_and_other_settings_of_the_user_are_no_trouble(make_map):
    settings, had_pyplot = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    picture = to_png(plot_embedding_map(make_map(("鹿", "猪", "狐", "熊"))), 50)
    with Image.open(BytesIO(picture)) as image:
        assert image.size[0] == 375  # 7.5 inches
    assert dict(matplotlib.rcParams) == settings
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


@pytest.mark.parametrize("n_classes", [1, 3, 70])
def test_a_map_of_any_number_of_classes_can_be_drawn(n_classes):
    ids = np.arange(n_classes)
    embedding_map = EmbeddingMap(
        points=np.zeros((n_classes, 2), np.float32),
        class_ids=ids,
        is_labelled=ids % 2 == 0,
        classes=tuple(f"class {i}" for i in ids),
        shares=(0.0, 0.0),
        n_photos=n_classes,
    )
    assert to_png(plot_embedding_map(embedding_map), 40)
