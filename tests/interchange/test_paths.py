import pytest

from camera_trap_al.interchange.paths import folded_path, tidy_path


@pytest.mark.parametrize("written", ["Site 1/a/1.JPG", "Site 1\\a\\1.JPG", "./Site 1//a/1.JPG", "/Site 1/./a/1.JPG/"])
def test_a_path_is_tidied_whichever_way_it_is_written(written):
    assert tidy_path(written) == "Site 1/a/1.JPG"


def test_paths_that_differ_in_case_or_in_how_an_accent_is_stored_fold_to_the_same():
    assert folded_path("Caf\u00e9\\1.JPG") == folded_path("cafe\u0301/1.jpg") != folded_path("cafe/1.jpg")
