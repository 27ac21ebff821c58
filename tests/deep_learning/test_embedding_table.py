import numpy as np
import pytest

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.embedding_table import EmbeddingTable
from camera_trap_al.run_store import RunStore

N_ROWS = 10


def embeddings_of(rows, offset=0.0):
    return np.array([[row, row + 0.5, -row] for row in rows], np.float32) + np.float32(offset)


def marks(rows):
    return np.array(rows, np.uint64) + 100


def filled(*puts, network="net"):
    table = EmbeddingTable(N_ROWS)
    for rows in puts:
        table.put(np.array(rows), embeddings_of(rows), marks(rows), network)
    return table


def test_embeddings_come_back_in_the_order_asked_for_in_whatever_order_they_came():
    table = filled([7, 2], [4, 9, 0])
    np.testing.assert_array_equal(table.of(np.array([9, 2, 7, 0, 4])), embeddings_of([9, 2, 7, 0, 4]))


def test_rows_without_an_embedding_are_nan():
    found = filled([3]).all_rows()
    assert found.shape == (N_ROWS, 3)
    assert np.flatnonzero(np.isfinite(found).all(axis=1)).tolist() == [3]
    assert EmbeddingTable(N_ROWS).all_rows().shape == (N_ROWS, 0)


def test_a_new_embedding_replaces_the_old_one():
    table = filled([3, 5])
    table.put(np.array([5, 1]), embeddings_of([5, 1], 9.0), marks([5, 1]), "net")
    expected = np.concatenate([embeddings_of([5], 9.0), embeddings_of([3]), embeddings_of([1], 9.0)])
    np.testing.assert_array_equal(table.of(np.array([5, 3, 1])), expected)


def test_embeddings_of_another_network_are_forgotten():
    table = filled([3, 5])
    table.put(np.array([1]), np.ones((1, 4), np.float32), marks([1]), "another")
    assert table.network == "another"
    assert np.flatnonzero(np.isfinite(table.all_rows()).all(axis=1)).tolist() == [1]
    assert table.all_rows().shape == (N_ROWS, 4)


@pytest.mark.parametrize(
    ("fingerprint", "network", "exactly", "good"),
    [(103, "net", True, True), (104, "net", True, False), (0, "net", True, False), (103, "other", True, False)],
)
def test_an_embedding_is_good_for_its_photo_and_network(fingerprint, network, exactly, good):
    table = filled([3])
    assert table.is_good(np.array([3]), np.array([fingerprint], np.uint64), network, exactly).tolist() == [good]
    assert not table.is_good(np.array([4]), marks([4]), "net", False).any()


def test_one_in_bf16_is_not_good_where_fp32_is_needed():
    table = filled([3])
    table.put(np.array([6]), embeddings_of([6]), marks([6]), "net", exactly=False)
    rows = np.array([3, 6])
    assert table.is_good(rows, marks(rows), "net", exactly=True).tolist() == [True, False]
    assert table.is_good(rows, marks(rows), "net", exactly=False).tolist() == [True, True]


def test_only_embedded_rows_take_room():
    table = EmbeddingTable(1_000_000)
    table.put(np.array([999_999]), np.ones((1, 256), np.float32), np.array([1], np.uint64), "net")
    assert table._values.shape == (1, 256)


@pytest.fixture
def store(tmp_path):
    return RunStore.open(RunConfig(output_dir=tmp_path / "run", seed=1))


def test_a_saved_table_is_loaded_whole(store):
    table = filled([7, 2])
    table.put(np.array([5]), embeddings_of([5]), marks([5]), "net", exactly=False)
    store.save(list(table.artefacts()))
    loaded = EmbeddingTable.load(store, N_ROWS, "net")
    np.testing.assert_array_equal(loaded.all_rows(), table.all_rows())
    np.testing.assert_array_equal(loaded.photos, table.photos)
    np.testing.assert_array_equal(loaded.is_exact, table.is_exact)
    more = EmbeddingTable.load(store, N_ROWS + 2, "net")  # two photos came
    np.testing.assert_array_equal(more.all_rows()[:N_ROWS], table.all_rows())
    assert EmbeddingTable.load(store, N_ROWS, "another").network == ""


def test_embedded_photos_are_the_lines_of_the_file_in_row_order(store):
    store.save(list(filled([7, 2]).artefacts()))
    np.testing.assert_array_equal(np.load(store.folder / "embedding" / "embedding.npy"), embeddings_of([2, 7]))
    with np.load(store.folder / "embedding" / "photos.npz") as saved:
        assert np.flatnonzero(saved["fingerprints"]).tolist() == [2, 7]


def test_an_empty_table_is_not_saved():
    assert list(EmbeddingTable(N_ROWS).artefacts()) == []


def test_an_embedding_without_a_photo_is_refused_and_overwrites_nothing():
    table = filled([3, 5])
    with pytest.raises(ValueError, match="fingerprint"):
        table.put(np.array([4]), embeddings_of([4]), np.zeros(1, np.uint64), "net")
    np.testing.assert_array_equal(table.of(np.array([3, 5])), embeddings_of([3, 5]))
