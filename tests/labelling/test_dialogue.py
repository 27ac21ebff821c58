import pytest

from camera_trap_al.labelling.dialogue import say_table, told_at_interrupt


def test_ctrl_c_is_explained_and_let_through(capsys):
    with pytest.raises(KeyboardInterrupt), told_at_interrupt("Nothing is lost."):
        raise KeyboardInterrupt
    with pytest.raises(ValueError), told_at_interrupt("Nothing is lost."):
        raise ValueError
    assert capsys.readouterr().out == "\nNothing is lost.\n"


def test_a_table_has_columns_as_wide_as_they_need(capsys):
    say_table(("row", "file", "what"), [(3, "a/long name.jpg", "x"), (None, "b.jpg", "y")])
    assert capsys.readouterr().out.splitlines() == [
        "  row  file             what",
        "  3    a/long name.jpg  x",
        "       b.jpg            y",
    ]
