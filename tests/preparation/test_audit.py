"""Which photos are reserved for the audit, in a real database: bursts stay on one side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.config import RunConfig
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.photos.folders import scan_folder
from camera_trap_al.pools import IndexArray, Role
from camera_trap_al.preparation.audit import reserve_audit
from camera_trap_al.run_store import RunStore

LENGTH = 4


class Season:
    """A run whose photos, named by the number of their burst, come little by little."""

    def __init__(self, root: Path, audit_fraction: float = 0.2) -> None:
        self.train, self.unlabelled = root / "train", root / "unlabelled"
        self.add(self.train / "deer", {1000: 1})
        self.store = RunStore.open(RunConfig(output_dir=root / "run", seed=1, audit_fraction=audit_fraction))

    def add(self, folder: Path, n_photos: dict[int, int]) -> None:
        """Write so many photos of each burst, behind those that are there."""
        folder.mkdir(parents=True, exist_ok=True)
        for burst, n in n_photos.items():
            n_before = len(list(folder.glob(f"{burst} *")))
            for number in range(n_before, n_before + n):
                (folder / f"{burst} {number:03}.jpg").write_bytes(b"not looked at")

    def start(self) -> Catalogue:
        """Register what is there, and reserve some of it."""
        scans = {Role.TRAIN: scan_folder(self.train), Role.UNLABELLED: scan_folder(self.unlabelled)}
        catalogue = self.store.register(scans)
        return reserve_audit(self.store, replace(catalogue, sequences=bursts(catalogue)))


def bursts(catalogue: Catalogue) -> IndexArray:
    return np.array([int(path.rpartition("/")[2].split()[0]) for path in catalogue.paths])


def audit_of(catalogue: Catalogue) -> dict[int, int]:
    """How many photos of each burst are in the audit."""
    of_audit, counts = np.unique(bursts(catalogue)[catalogue.pools.is_audit], return_counts=True)
    return dict(zip(of_audit.tolist(), counts.tolist(), strict=True))


@pytest.fixture
def season(tmp_path: Path) -> Season:
    season = Season(tmp_path)
    season.add(season.unlabelled / "site", dict.fromkeys(range(25), LENGTH))
    return season


def test_whole_bursts_are_reserved_and_stay_reserved(season: Season) -> None:
    first = season.start()
    assert set(audit_of(first).values()) == {LENGTH} and len(audit_of(first)) == 5, "20 of 100 photos"
    np.testing.assert_array_equal(season.start().pools.audit_lots, first.pools.audit_lots)


def test_a_burst_with_a_training_photo_is_not_drawn(tmp_path: Path) -> None:
    season = Season(tmp_path, audit_fraction=0.5)
    season.add(season.unlabelled / "site", dict.fromkeys(range(25), LENGTH))
    season.add(season.train / "deer", dict.fromkeys(range(15), 1))
    assert set(audit_of(season.start())) <= set(range(15, 25))


def test_a_photo_that_is_added_to_a_burst_goes_where_the_others_are(season: Season) -> None:
    before = season.start()
    number = dict(zip(bursts(before).tolist(), np.floor(before.pools.audit_lots).tolist(), strict=True))
    season.add(season.unlabelled / "site", dict.fromkeys(range(25), 2))
    after = season.start()
    assert audit_of(after) == dict.fromkeys(audit_of(before), LENGTH + 2)
    added = np.flatnonzero(after.pools.is_audit & (np.arange(len(after)) >= len(before)))
    assert len(added) == 10
    for row in added.tolist():
        assert np.floor(after.pools.audit_lots[row]) == number[int(bursts(after)[row])], "drawn as one with its burst"


def test_of_photos_that_are_added_new_bursts_are_drawn(season: Season) -> None:
    before = season.start()
    season.add(season.unlabelled / "site 2", dict.fromkeys(range(50, 75), LENGTH))
    new = {burst: n for burst, n in audit_of(season.start()).items() if burst not in audit_of(before)}
    assert set(new) <= set(range(50, 75)) and list(new.values()) == [LENGTH] * 5


def test_bursts_that_come_little_by_little_stay_whole_or_out(season: Season) -> None:
    for month in range(1, 5):
        season.start()
        new = dict.fromkeys(range(100 * month, 100 * month + 10), LENGTH)
        season.add(season.unlabelled / f"site {month}", new)
    assert set(audit_of(season.start()).values()) == {LENGTH}


def test_a_photo_that_is_added_to_a_burst_that_is_learnt_from_is_not_drawn(season: Season) -> None:
    # A burst of which only some are reserved, as one that is longer than a tenth of the photos.
    before = season.start()
    burst = next(iter(audit_of(before)))
    with season.store.transaction() as db:
        (row,) = np.flatnonzero(before.pools.is_audit & (bursts(before) == burst))[:1].tolist()
        db.execute("UPDATE photos SET audit_lot = NULL WHERE photo_row = ?", (row,))
    season.add(season.unlabelled / "site", {burst: 3})
    assert audit_of(season.start())[burst] == LENGTH - 1


def test_it_is_told_when_all_bursts_have_training_photos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    season = Season(tmp_path)
    for folder in (season.unlabelled / "site", season.train / "deer"):
        season.add(folder, dict.fromkeys(range(25), 1))
    assert audit_of(season.start()) == {}
    assert (
        "No photo can be drawn for the audit: each of the 25 is of a sequence that has training photos" in caplog.text
    )
