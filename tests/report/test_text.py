from camera_trap_al.report.text import BAR_WIDTH, learning_curve


def test_the_curve_has_a_line_per_evaluation_with_a_bar_as_long_as_the_accuracy():
    history = [
        {"train_set_size": 100, "accuracy": 0.25, "macro_f1": 0.1234, "further": "figures"},
        {"train_set_size": 20_000, "accuracy": 1.0, "macro_f1": 0.9},
    ]
    title, first, second = learning_curve(history).splitlines()
    assert title.split() == ["labels", "accuracy", "macro", "F1"]
    assert first.split() == ["100", "#" * (BAR_WIDTH // 4), "0.250", "0.123"]
    assert second.split() == ["20000", "#" * BAR_WIDTH, "1.000", "0.900"]


def test_the_columns_stand_below_each_other():
    figures = [{"train_set_size": 10**n, "accuracy": n / 6, "macro_f1": 0.123} for n in range(7)]
    lines = learning_curve(figures).splitlines()
    assert {line.index("0.123") for line in lines[1:]} == {lines[0].index("macro F1")}


def test_no_evaluation_gives_the_title_only():
    assert len(learning_curve([]).splitlines()) == 1
