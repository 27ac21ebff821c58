import logging
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.deep_learning import embedding_parts
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_parts import EmbeddingParts

ALL = np.arange(18)


def expected(dataset, rows):
    return dataset.cache.images(rows).mean(axis=(1, 2)).astype(np.float32)


def everything(parts, dataset, rows=ALL, precision="bf16"):
    """Rows and embeddings of all files together, ascending by row."""
    found = list(parts.read(rows, dataset.cache.fingerprints(rows), precision))
    if not found:
        return [], np.empty((0, 3))
    in_files, embeddings = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(in_files)
    return in_files[order].tolist(), embeddings[order]


@pytest.fixture
def new_parts(tmp_path):
    """Function that opens the parts as a new start does."""

    def opened(network="colours", n_rows=18):
        return EmbeddingParts(tmp_path / "parts", network, n_rows)

    return opened


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(embedding_parts, "PART_SIZE", 4)


def test_embeddings_are_put_down_in_files_and_read_back(new_parts, dataset, tmp_path, mean_colours):
    parts = new_parts()
    parts.extract(mean_colours(2), dataset, ALL[::-1], "fp32")
    rows, embeddings = everything(parts, dataset)
    assert rows == ALL.tolist()
    np.testing.assert_allclose(embeddings, expected(dataset, ALL))
    assert len(list((tmp_path / "parts").iterdir())) == 5  # 18 photos, four a file
    rows, embeddings = everything(parts, dataset, np.array([11, 3]))
    assert rows == [3, 11]
    np.testing.assert_allclose(embeddings, expected(dataset, np.array([3, 11])))


def test_what_is_there_is_not_embedded_again_also_after_a_restart(new_parts, dataset, mean_colours):
    network = mean_colours(2)
    new_parts().extract(network, dataset, ALL[:6], "fp32")
    again = new_parts()
    again.extract(network, dataset, ALL, "fp32")
    assert sorted(network.embedded) == ALL.tolist()
    np.testing.assert_allclose(everything(again, dataset)[1], expected(dataset, ALL))


def test_after_a_kill_only_the_part_in_work_is_lost(new_parts, dataset, mean_colours):
    class Killed(BaseException):
        pass

    class Mortal(mean_colours):
        def embed_batches(self, dataset, rows, precision="fp32"):
            for number, batch in enumerate(super().embed_batches(dataset, rows, precision)):
                if number == 5:  # ten photos are embedded, eight of them put down
                    raise Killed
                yield batch

    with pytest.raises(Killed):
        new_parts().extract(Mortal(2), dataset, ALL, "fp32")
    network = mean_colours(2)
    parts = new_parts()
    parts.extract(network, dataset, ALL, "fp32")
    assert network.embedded == ALL[8:].tolist()
    np.testing.assert_allclose(everything(parts, dataset)[1], expected(dataset, ALL))


def test_bf16_does_not_do_where_fp32_is_wanted(new_parts, dataset, mean_colours):
    network, parts = mean_colours(2), new_parts()
    parts.extract(network, dataset, ALL[:6], "bf16")
    parts.extract(network, dataset, ALL[:6], "bf16")
    assert network.embedded == ALL[:6].tolist()
    parts.extract(network, dataset, ALL[:3], "fp32")
    assert network.embedded == [*ALL[:6], *ALL[:3]]
    found = everything(new_parts(), dataset, ALL[:6])[1]  # of two embeddings of a photo, the later one
    np.testing.assert_allclose(found - expected(dataset, ALL[:6]), np.repeat([[0.0], [0.25]], 3, axis=0) * np.ones(3))


def test_files_of_another_network_are_removed(new_parts, dataset, tmp_path, mean_colours):
    new_parts().extract(mean_colours(2), dataset, ALL, "fp32")
    other = new_parts("another")
    assert everything(other, dataset)[0] == []
    assert not list((tmp_path / "parts").glob("*.npz"))


def write_plain_array(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.arange(3))


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-30]),
        lambda file: file.write_bytes(file.read_bytes().replace(b"\x00\x00\x80\x3f", b"\x00\x00\x00\x00") + b"x"),
        lambda file: file.write_bytes(file.read_bytes()[:900] + b"\xff\xff" + file.read_bytes()[902:]),
        lambda file: np.savez(file, rows=np.arange(3)),
        lambda file: write_plain_array(file),
        lambda file: np.savez(file, **{**np.load(file), "rows": np.array(["a", "b"])}),
    ],
    ids=["empty", "cut off", "longer", "changed", "of other content", "a plain array", "rows that are no numbers"],
)
def test_a_damaged_file_is_made_again(new_parts, dataset, tmp_path, caplog, damage, mean_colours):
    new_parts().extract(mean_colours(2), dataset, ALL, "fp32")
    damaged = sorted((tmp_path / "parts").iterdir())[1]
    damage(damaged)
    network, parts = mean_colours(2), new_parts()
    parts.extract(network, dataset, ALL, "fp32")
    np.testing.assert_allclose(everything(parts, dataset)[1], expected(dataset, ALL))
    np.testing.assert_allclose(everything(new_parts(), dataset)[1], expected(dataset, ALL))


def test_what_a_kill_left_half_written_does_not_count(new_parts, dataset, tmp_path, mean_colours):
    new_parts().extract(mean_colours(2), dataset, ALL[:4], "fp32")
    whole = tmp_path / "parts" / "part_000000.npz"
    (tmp_path / "parts" / "part_000001.new.npz").write_bytes(whole.read_bytes()[:50])
    parts = new_parts()
    parts.extract(mean_colours(2), dataset, ALL, "fp32")
    np.testing.assert_allclose(everything(new_parts(), dataset)[1], expected(dataset, ALL))


def test_a_photo_that_changed_is_embedded_again(new_parts, own_photos, mean_colours):
    folders = (own_photos / "train", own_photos / "unlabelled", own_photos / "validation")
    dataset = ExtendedImageFolder.from_folders(*folders)
    new_parts().extract(mean_colours(2), dataset, ALL, "fp32")
    path = dataset.catalogue.path(10)
    path.write_bytes(dataset.catalogue.path(3).read_bytes())
    changed = ExtendedImageFolder.from_folders(*folders)
    network, parts = mean_colours(2), new_parts()
    parts.extract(network, changed, ALL, "fp32")
    assert network.embedded == [10]
    np.testing.assert_allclose(everything(parts, changed)[1], expected(changed, ALL))


def test_unreadable_photos_are_left_out(new_parts, own_photos, caplog, mean_colours):
    (own_photos / "unlabelled" / "site0" / "u_deer.png").write_bytes(b"no picture")  # row 10
    dataset = ExtendedImageFolder.from_folders(own_photos / "train", own_photos / "unlabelled")
    parts = new_parts()
    with caplog.at_level(logging.INFO):
        parts.extract(mean_colours(2), dataset, np.arange(15), "fp32")
    assert everything(parts, dataset, np.arange(15))[0] == [row for row in range(15) if row != 10]
    assert set(dataset.cache.unreadable) == {10}


def test_what_was_embedded_of_an_older_photo_is_not_given(new_parts, own_photos, mean_colours):
    folders = (own_photos / "train", own_photos / "unlabelled")
    dataset = ExtendedImageFolder.from_folders(*folders)
    new_parts().extract(mean_colours(2), dataset, np.arange(15), "fp32")
    dataset.catalogue.path(10).write_bytes(b"no picture any more")
    changed = ExtendedImageFolder.from_folders(*folders)
    parts = new_parts()
    parts.extract(mean_colours(2), changed, np.arange(15), "fp32")
    assert everything(parts, changed, np.arange(15))[0] == [row for row in range(15) if row != 10]


def test_what_is_in_bf16_is_not_given_where_fp32_is_wanted(new_parts, dataset, mean_colours):
    parts = new_parts()
    parts.extract(mean_colours(2), dataset, ALL[:4], "bf16")
    parts.extract(mean_colours(2), dataset, ALL[4:8], "fp32")
    assert everything(parts, dataset, ALL, "fp32")[0] == [4, 5, 6, 7]
    assert everything(parts, dataset, ALL, "bf16")[0] == [*range(8)]


def test_only_the_files_of_the_rows_are_opened(new_parts, dataset, mean_colours, monkeypatch):
    parts = new_parts()
    parts.extract(mean_colours(2), dataset, ALL, "fp32")
    opened = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda file: opened.append(file) or load(file))
    assert everything(parts, dataset, np.array([9]))[0] == [9]
    assert len(opened) == 1
