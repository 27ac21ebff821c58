"""When and where photos were taken, in a real database."""

from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.config import RunConfig
from camera_trap_al.photos.folders import scan_folder
from camera_trap_al.photos.times import PhotoTime
from camera_trap_al.pools import REFUSED, UNLABELLED, Role
from camera_trap_al.run_store import RunStore, place_table

N_PHOTOS = 6


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run that knows six photos."""
    for number in range(N_PHOTOS):
        photo = tmp_path / "photos" / "site" / f"{number}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(b"not looked at")
    store = RunStore.open(RunConfig(output_dir=tmp_path / "run", seed=1))
    store.register({Role.UNLABELLED: scan_folder(tmp_path / "photos")})
    return store


def test_photos_are_asked_for_their_time_once_but_for_those_that_could_not_be_read(store: RunStore) -> None:
    with store.transaction() as db:
        assert place_table.rows_to_read(db).tolist() == list(range(N_PHOTOS))
        found = [PhotoTime(1500, "exif"), PhotoTime(None, "missing"), PhotoTime(None, "unreadable")]
        place_table.store_times(db, dict(enumerate([*found, PhotoTime(7, "file"), PhotoTime(None, "impossible")])))
        assert place_table.rows_to_read(db).tolist() == [2, 5]
        assert place_table.rows_to_read(db, or_of_file=True).tolist() == [1, 2, 4, 5]
        nan = np.nan
        np.testing.assert_array_equal(place_table.times(db), [1500, nan, nan, nan, nan, nan])
        np.testing.assert_array_equal(place_table.times(db, or_of_file=True), [1500, nan, nan, 7, nan, nan])


def test_places_are_stored_where_they_changed(store: RunStore) -> None:
    sites, sequences = ["a", "a", "a", "b", "b", ""], np.array([0, 0, 1, 2, 2, -1])
    with store.transaction() as db:
        place_table.store_places(db, sites, sequences)
        n_changes = db.total_changes
        assert n_changes == N_PHOTOS
        place_table.store_places(db, sites, sequences)
        assert db.total_changes == n_changes
        place_table.store_places(db, sites, np.array([0, 0, 0, 2, 2, -1]))
        assert db.total_changes == n_changes + 1
        stored = db.execute("SELECT site, sequence FROM photos ORDER BY photo_row").fetchall()
    assert stored == [("a", 0), ("a", 0), ("a", 0), ("b", 2), ("b", 2), ("", None)]


def test_what_is_held_out_and_what_is_propagated_comes_back_with_the_catalogue(store: RunStore) -> None:
    propagated = np.array([UNLABELLED, 0, REFUSED, UNLABELLED, 1, UNLABELLED])
    with store.transaction() as db:
        assert place_table.hold_out(db, np.array([1, 4])) == [(Role.UNLABELLED, f"site/{row}.jpg") for row in (1, 4)]
        place_table.store_propagated(db, propagated)
    pools = store.catalogue({}).pools
    assert np.flatnonzero(pools.is_held_out).tolist() == [1, 4]
    assert store.recall(place_table.HELD_OUT_FROM) == N_PHOTOS
    assert pools.propagated.tolist() == propagated.tolist()
