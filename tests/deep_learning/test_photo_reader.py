import logging

import numpy as np
import pytest

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.photo_reader import PhotoReader
from camera_trap_al.exceptions import DataError
from camera_trap_al.run_store import RunStore


@pytest.fixture
def opened(own_photos):
    """Function that gives a data set in memory, with a reader."""

    def make(**options):
        folders = (own_photos / "train", own_photos / "unlabelled", own_photos / "validation")
        dataset = ExtendedImageFolder.from_folders(*folders, num_workers=1, **({"image_cache": "memory"} | options))
        return dataset, PhotoReader(dataset)

    return make


def spoil(dataset, rows):
    for row in rows:
        dataset.catalogue.path(row).write_bytes(b"no picture")


def test_photos_are_decoded_and_bad_ones_set_aside(opened):
    dataset, reader = opened()
    spoil(dataset, [10, 12])
    reader.decode(lambda: dataset.pools.usable)
    assert dataset.pools.set_aside.tolist() == [10, 12]
    assert not len(dataset.cache.missing(dataset.pools.usable))


def test_others_come_in_for_bad_ones_until_there_are_enough_and_one_warning_tells_of_all(opened, caplog):
    """One candidate after the other turns out to be unreadable, more often than Python could call itself."""
    dataset, reader = opened()
    spoil(dataset, [9, 10, 11, 12])
    waves = []

    def one_candidate():
        waves.append(dataset.pools.unlabelled[:1])
        return waves[-1]

    reader.decode(one_candidate)
    assert [int(row) for (row,) in waves] == [9, 10, 11, 12, 13]
    assert not caplog.records, "nothing is said before the list of them is written"
    reader.record(None)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "4 photos cannot be read" in warning.getMessage()


def test_the_list_is_written_before_the_warning_points_to_it(opened, own_photos, tmp_path, caplog):
    dataset, reader = opened()
    store = RunStore.open(RunConfig(output_dir=tmp_path / "run", seed=1))
    reader.record(store)
    listed = store.folder / "unreadable_images.csv"
    assert listed.read_text("utf-8").splitlines() == ["path,reason"], "up to date from the first time on"
    spoil(dataset, [10])
    reader.decode(lambda: dataset.pools.usable)
    reader.record(store)
    assert str(listed) in caplog.text


def test_photos_found_bad_later_are_set_aside_once(opened):
    dataset, reader = opened(image_cache="off")
    spoil(dataset, [10])
    assert reader.set_unreadable_aside() == 0
    dataset.cache.read(np.arange(18))
    assert reader.set_unreadable_aside() == 1
    assert reader.set_unreadable_aside() == 0


@pytest.mark.parametrize("mode", ["memory", "off"])
def test_a_drive_that_is_gone_is_not_taken_for_bad_photos(opened, own_photos, mode):
    dataset, reader = opened(image_cache=mode)
    gone = (own_photos / "unlabelled").rename(own_photos / "elsewhere")
    with pytest.raises(DataError, match="cannot be reached any more") as error:
        reader.decode(lambda: dataset.pools.unlabelled)
        dataset.cache.read(dataset.pools.unlabelled)
        reader.set_unreadable_aside()
    assert error.value.path == own_photos / "unlabelled"
    assert not len(dataset.pools.set_aside)
    gone.rename(own_photos / "unlabelled")
    assert dataset.cache.read(dataset.pools.unlabelled)[1].all()
    assert reader.set_unreadable_aside() == 0


def test_without_a_readable_labelled_photo_there_is_nothing_to_learn_from(opened):
    dataset, reader = opened()
    spoil(dataset, dataset.pools.labelled.tolist())
    with pytest.raises(DataError, match="No labelled photo can be read"):
        reader.decode(lambda: dataset.pools.usable)
