import numpy as np

from camera_trap_al.photos.catalogue import class_of, new_catalogue
from camera_trap_al.photos.folders import scan_data_folders
from camera_trap_al.pools import UNLABELLED


def test_rows_follow_the_data_sets_and_the_sorted_paths(photo_folders):
    catalogue = new_catalogue(scan_data_folders(*photo_folders))
    train = ["boar/1.jpg", "deer/2.jpg", "deer/3.jpg"]
    unlabelled = ["north/4.jpg", "north/5.jpg", "south/7.jpg", "south/8.jpg", "south/a/6.jpg"]
    assert catalogue.paths == [*train, *unlabelled, "boar/9.jpg", "deer/10.jpg"]
    assert len(catalogue) == 10
    assert catalogue.pools.targets.tolist() == [0, 1, 1, *[UNLABELLED] * 5, 0, 1]
    np.testing.assert_array_equal(catalogue.pools.validation, [8, 9])
    assert catalogue.path(0) == photo_folders.train / "boar" / "1.jpg"
    assert catalogue.path(7) == photo_folders.unlabelled / "south" / "a" / "6.jpg"
    assert all(catalogue.path(row).is_file() for row in range(10))


def test_the_class_of_a_photo_is_its_top_level_folder():
    assert class_of("deer/a/1.jpg") == "deer"
