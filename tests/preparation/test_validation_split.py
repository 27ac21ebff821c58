"""Which sites or sequences measure the model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import DataError
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.photos.folders import scan_folder
from camera_trap_al.pools import Role
from camera_trap_al.preparation.validation_split import choose_held_out, hold_out_for_validation
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.place_table import HELD_OUT_FROM
from camera_trap_al.run_store.rebuild import rebuild


def test_whole_groups_are_held_out_about_a_fifth_with_every_class_on_both_sides() -> None:
    # Ten sites of four photos, each with two classes: any two sites hold a fifth and leave every class on both sides.
    groups = np.repeat(np.arange(10), 4)
    targets = np.concatenate([[site % 3, site % 3, (site + 1) % 3, (site + 1) % 3] for site in range(10)])
    for seed in range(20):
        chosen = choose_held_out(targets, groups, seed)
        held_out = np.unique(groups[chosen])
        assert len(chosen) == 4 * len(held_out) == 8
        assert set(targets[chosen]) == set(np.delete(targets, chosen)) == {0, 1, 2}


def test_rather_no_class_loses_all_its_photos() -> None:
    # Class 1 is at site 0 only: held out, nothing could be learnt of it.
    groups = np.repeat(np.arange(6), 3)
    targets = np.where(groups == 0, 1, 0)
    for seed in range(20):
        assert 0 not in groups[choose_held_out(targets, groups, seed)]


@pytest.mark.parametrize(
    ("targets", "groups"),
    [
        ([0, 0, 1, 1], [5, 5, 5, 5]),  # one group
        ([0, 1], [0, 1]),  # a photo of each class
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2, 2]),  # each class in one group
    ],
)
def test_what_cannot_be_split_is_not_split(targets: list[int], groups: list[int]) -> None:
    assert choose_held_out(np.array(targets), np.array(groups), 0).tolist() == []


class Season:
    """A run with photos of two classes at ten sites, to which others come; all photos of a site are a sequence."""

    def __init__(self, root: Path, split: str) -> None:
        self.root = root
        for site in range(10):
            for name in ("deer", "fox"):
                self.add(f"train/{name}/{site}/{name}.jpg")
            self.add(f"unlabelled/{site}/a.jpg")
        self.store = RunStore.open(RunConfig(output_dir=root / "run", seed=1, validation_split=split))

    def add(self, path: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(b"not looked at")

    def start(self, *, sites_are_known: bool = True) -> Catalogue:
        """Register what is there, and hold some of it out; without sites, nothing else is known either."""
        scans = {role: scan_folder(self.root / role.name.lower()) for role in (Role.TRAIN, Role.UNLABELLED)}
        catalogue = self.store.register(scans)
        names = [path.split("/")[-2] if sites_are_known else "" for path in catalogue.paths]
        sites = ["" if name in ("deer", "fox") else name for name in names]
        sequences = np.array([int(site) if site else -1 for site in sites])
        return hold_out_for_validation(self.store, replace(catalogue, sites=sites, sequences=sequences))


def held_out(catalogue: Catalogue) -> set[str]:
    return {catalogue.paths[row] for row in np.flatnonzero(catalogue.pools.is_held_out).tolist()}


@pytest.mark.parametrize("split", ["site", "sequence"])
def test_what_is_held_out_stays_so_and_takes_in_what_comes_to_it(tmp_path: Path, split: str) -> None:
    season = Season(tmp_path, split)
    first = season.start()
    sites = {path.split("/")[-2] for path in held_out(first)}
    assert len(sites) == 2 and len(held_out(first)) == 6, "of each site two labelled photos and one without a label"
    for site in range(10):
        season.add(f"unlabelled/{site}/b.jpg")
        season.add(f"train/deer/{site}/new.jpg")
    after = held_out(season.start())
    added = {f"{site}/b.jpg" for site in sites} | {f"deer/{site}/new.jpg" for site in sites}
    assert after == held_out(first) | added


@pytest.mark.parametrize("split", ["site", "sequence"])
def test_no_label_is_lost_when_a_later_start_knows_less_of_the_photos(tmp_path: Path, split: str) -> None:
    season = Season(tmp_path, split)
    first = season.start()
    season.add("unlabelled/3/b.jpg")
    later = season.start(sites_are_known=False)
    assert held_out(later) == held_out(first)
    assert later.pools.labelled.tolist() == first.pools.labelled.tolist()


@pytest.mark.parametrize("split", ["site", "sequence"])
def test_a_run_of_a_version_that_did_not_note_it_keeps_what_it_held_out(tmp_path: Path, split: str) -> None:
    season = Season(tmp_path, split)
    first = held_out(season.start())
    with season.store.transaction() as db:
        db.execute("DELETE FROM settings WHERE name = ?", (f"frozen.{HELD_OUT_FROM}",))
    assert held_out(season.start(sites_are_known=False)) == first


def test_a_database_that_is_made_anew_keeps_the_same_photos_out(tmp_path: Path) -> None:
    season = Season(tmp_path, "site")
    first = season.start()
    season.store.write_labels()
    season.store.close()
    season.store.database.unlink()
    rebuild(season.store.config)
    with RunStore.open(season.store.config) as store:
        again = store.catalogue({})
    assert held_out(again) == held_out(first)
    assert store.recall(HELD_OUT_FROM) == len(first)


def test_photos_of_which_nothing_is_known_are_learnt_from(tmp_path: Path) -> None:
    season = Season(tmp_path, "site")
    for number in range(30):
        season.add(f"train/deer/{number}.jpg")
    assert not any(path.count("/") == 1 and path.startswith("deer") for path in held_out(season.start()))


def test_sequences_that_are_not_known_cannot_be_held_out(tmp_path: Path) -> None:
    season = Season(tmp_path, "sequence")
    with pytest.raises(DataError, match="of none of the 20 labelled photos the sequence is known"):
        season.start(sites_are_known=False)
