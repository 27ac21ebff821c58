import pytest


@pytest.fixture
def export(tmp_path, colour_model):
    return colour_model["write_model"](tmp_path / "export")


@pytest.fixture
def photos(tmp_path, colour_model):
    """A folder of photos of one colour each."""
    return colour_model["write_photos"](tmp_path / "photos")


@pytest.fixture
def colours(colour_model):
    """Red, green and blue, 0..255, of each of these photos by name."""
    return colour_model["COLOURS"]


@pytest.fixture
def expected(colour_model):
    """Function that gives the probabilities of a photo of one colour."""
    return colour_model["expected_probabilities"]


@pytest.fixture
def write_photo(colour_model):
    return colour_model["write_photo"]


@pytest.fixture
def write_model(colour_model):
    return colour_model["write_model"]
