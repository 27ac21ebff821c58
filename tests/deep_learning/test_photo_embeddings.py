import numpy as np
import pytest

from camera_trap_al.deep_learning import photo_embeddings
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.photo_embeddings import PhotoEmbeddings

ALL = np.arange(18)


def expected(dataset, rows):
    return dataset.cache.images(rows).mean(axis=(1, 2)).astype(np.float32)


def streamed(embeddings, rows):
    found = list(embeddings.stream(rows))
    some, values = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(some)
    return some[order].tolist(), values[order]


@pytest.fixture(params=["parts on disk", "in memory"])
def new_embeddings(request, tmp_path):
    def make(dataset, network):
        folder = tmp_path / "parts" if request.param == "parts on disk" else None
        embeddings = PhotoEmbeddings(dataset, network, folder)
        embeddings.network = "colours"
        return embeddings

    return make


def test_what_was_made_is_in_the_table_and_not_missing(new_embeddings, dataset, mean_colours):
    embeddings = new_embeddings(dataset, mean_colours())
    assert embeddings.missing(ALL, exactly=True).tolist() == ALL.tolist()
    embeddings.make(np.array([7, 2, 11]), "fp32")
    embeddings.make(ALL[:0], "fp32")
    assert embeddings.missing(ALL, exactly=True).tolist() == np.setdiff1d(ALL, [2, 7, 11]).tolist()
    np.testing.assert_allclose(embeddings.table.of(np.array([11, 7])), expected(dataset, np.array([11, 7])))


def test_after_a_training_everything_is_missing(new_embeddings, dataset, mean_colours):
    embeddings = new_embeddings(dataset, mean_colours())
    embeddings.make(ALL, "fp32")
    embeddings.network = "colours after a training"
    assert embeddings.missing(ALL, exactly=False).tolist() == ALL.tolist()


def test_the_whole_pool_is_streamed_and_only_what_is_missing_is_embedded(
    new_embeddings, dataset, monkeypatch, mean_colours
):
    monkeypatch.setattr(photo_embeddings, "ROWS_PER_GO", 4)
    network = mean_colours()
    embeddings = new_embeddings(dataset, network)
    embeddings.make(ALL[:5], "fp32")
    rows, values = streamed(embeddings, ALL)
    assert rows == ALL.tolist()
    np.testing.assert_allclose(values, expected(dataset, ALL))
    assert sorted(network.embedded) == ALL.tolist()


def test_candidates_in_bf16_are_streamed_in_fp32(new_embeddings, dataset, mean_colours):
    embeddings = new_embeddings(dataset, mean_colours())
    embeddings.make(ALL[:9], "bf16")
    assert not len(embeddings.missing(ALL[:9], exactly=False))
    assert embeddings.missing(ALL[:9], exactly=True).tolist() == ALL[:9].tolist()
    np.testing.assert_allclose(streamed(embeddings, ALL)[1], expected(dataset, ALL))


def test_exact_embeddings_come_from_the_table_if_they_are_all_there(new_embeddings, dataset, mean_colours):
    network = mean_colours()
    embeddings = new_embeddings(dataset, network)
    embeddings.make(ALL[:4], "fp32")
    np.testing.assert_allclose(embeddings.exact(ALL[:4]), expected(dataset, ALL[:4]))
    assert network.embedded == ALL[:4].tolist()
    np.testing.assert_allclose(embeddings.exact(ALL[:6]), expected(dataset, ALL[:6]))


def test_unreadable_photos_are_neither_entered_nor_streamed(new_embeddings, own_photos, mean_colours):
    (own_photos / "unlabelled" / "site0" / "u_deer.png").write_bytes(b"no picture")  # row 10
    dataset = ExtendedImageFolder.from_folders(own_photos / "train", own_photos / "unlabelled")
    embeddings = new_embeddings(dataset, mean_colours())
    embeddings.make(np.arange(8, 12), "fp32")
    assert embeddings.missing(np.arange(8, 12), exactly=True).tolist() == [10]
    assert streamed(embeddings, np.arange(15))[0] == [row for row in range(15) if row != 10]
