"""A run on photos of bursts, with a tiny network: what is asked, what labels count for, and what measures the model."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expert_by_name import Expert, tiny_run, tiny_settings
from PIL import ExifTags, Image

from camera_trap_al import RunResult
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.query import Answer
from camera_trap_al.run_store import RunStore

pytestmark = pytest.mark.usefixtures("sixteen_pixels")
HUES = {"deer": 0, "frog": 1, "jay": 2}
N_BURSTS, LENGTH = 30, 3
START = datetime(2024, 5, 1, 23, 59, 50)


def write_photo(path: Path, name: str, rng: np.random.Generator, taken_at: datetime, scene: int = 0) -> None:
    """Write a photo that shows the hue of its species before a background that is the same for each scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    background = np.random.default_rng(scene).integers(0, 90, (4, 4, 3)).repeat(6, axis=0).repeat(6, axis=1)
    pixels = background + rng.integers(0, 5, background.shape)
    pixels[..., HUES[name]] += 90
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = f"{taken_at:%Y:%m:%d %H:%M:%S}"
    Image.fromarray(pixels.astype(np.uint8)).save(path, exif=exif)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At each of three sites 10 bursts of 3 photos, an hour apart, of which the folders say nothing."""
    root, rng = tmp_path_factory.mktemp("bursts"), np.random.default_rng(0)
    for name in HUES:
        for number in range(4):
            site = f"site {number % 2}"
            time = START + timedelta(days=number)
            write_photo(root / "train" / name / site / f"{number}.jpg", name, rng, time, scene=100 + number)
    for burst in range(N_BURSTS):
        name = list(HUES)[burst % 3]
        for number in range(LENGTH):
            time = START + timedelta(days=30, hours=burst, seconds=10 * number)  # the first burst is across midnight
            path = root / "unlabelled" / f"site {burst // 10}" / f"{burst:02}-{number} {name}.jpg"
            write_photo(path, name, rng, time, scene=burst)
    return root


def burst_of(path: str) -> str:
    return path.rpartition("/")[2][:2]


def run(photos: Path, output_dir: Path, **changes: Any) -> tuple[Expert, RunResult]:
    return tiny_run(photos, output_dir, **{"active_batch": 10, "embedding_train_num_epochs": 1} | changes)


def bursts_of(expert: Expert) -> list[list[str]]:
    return [[burst_of(path) for path in asked] for asked in expert.asked]


def of_photos(output_dir: Path, what: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(output_dir / "data" / "run.sqlite")) as db:
        columns, _, where = what.partition(" WHERE ")
        return db.execute(f"SELECT {columns} FROM photos WHERE {where or 1} ORDER BY photo_row").fetchall()


def test_each_burst_is_asked_about_once_before_any_is_asked_about_again(photos: Path, tmp_path: Path) -> None:
    expert, _ = run(photos, tmp_path, stop_after=4, active_batch=8)
    rounds = bursts_of(expert)
    assert all(len(set(asked)) == 8 for asked in rounds), "one photo of a burst in a round"
    assert len(set(chain(*rounds[:3]))) == 24
    # Six bursts are left without an answer, then two are asked about again.
    assert sorted(Counter(chain(*rounds)).values()) == [1] * 28 + [2] * 2
    assert len(set(chain(*rounds))) == N_BURSTS
    assert set(rounds[3]) >= {f"{burst:02}" for burst in range(N_BURSTS)} - set(chain(*rounds[:3]))


def test_with_group_by_image_bursts_do_not_count(photos: Path, tmp_path: Path) -> None:
    expert, _ = run(photos, tmp_path, stop_after=3, group_by="image", active_batch=20)
    assert len(set(chain(*bursts_of(expert)))) < N_BURSTS, "60 photos, and not of all 30 bursts"


def test_the_audit_is_whole_bursts(photos: Path, tmp_path: Path) -> None:
    expert, _ = run(photos, tmp_path, stop_after=2, audit_fraction=0.2)
    stored = of_photos(tmp_path, "sequence, audit_lot IS NOT NULL, role")
    audit = Counter(sequence for sequence, is_audit, role in stored if role == 1 and is_audit)
    assert set(audit.values()) == {LENGTH} and len(audit) == 6, "18 of 90 photos"
    predicted = (tmp_path / "predictions.csv").read_text(encoding="utf-8")
    assert predicted.count("\n") - 1 == 90 - 20
    of_audit = {path: is_audit for path, is_audit in of_photos(tmp_path, "path, audit_lot IS NOT NULL")}
    for asked in expert.asked:
        assert [of_audit[path] for path in asked] == [1] * 2 + [0] * 8
        assert len({burst_of(path) for path in asked[2:]}) == 8


def test_few_candidates_are_of_as_many_bursts_as_are_asked_about(photos: Path, tmp_path: Path) -> None:
    # Twelve candidates would be four whole bursts.
    expert, _ = run(photos, tmp_path, stop_after=1, candidate_pool=12)
    assert len(expert.asked[0]) == 10 and len({burst_of(path) for path in expert.asked[0]}) > 4


def test_labels_count_for_photos_that_are_no_candidates_also_with_a_new_network(photos: Path, tmp_path: Path) -> None:
    # After two rounds the network is trained again; no photo of an answered burst is among the 30 candidates then.
    changes = {"candidate_pool": 30, "embedding_finetuning_period": 20, "embedding_finetuning_num_epochs": 1}
    run(photos, tmp_path, stop_after=2, propagate="sequence", finetuning_gate=False, **changes)
    stored = of_photos(tmp_path, "path, class_id, propagated_class, sequence")
    answered = {sequence for path, class_id, _, sequence in stored if class_id is not None and "-" in path}
    decided = [found for path, class_id, found, sequence in stored if sequence in answered and class_id is None]
    assert len(decided) == 40 and None not in decided, "two of each of twenty bursts"
    assert sum(found >= 0 for found in decided) > 10


def test_times_sites_and_sequences_are_stored(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path, stop_after=0)
    stored = of_photos(tmp_path, "path, role, taken_at, time_source, site, sequence")
    assert {source for _, _, _, source, _, _ in stored} == {"exif"}
    sequences = {path: sequence for path, role, *_, sequence in stored if role == 1}
    grouped = {burst_of(path): sequence for path, sequence in sequences.items()}
    assert len(set(grouped.values())) == N_BURSTS
    assert all(grouped[burst_of(path)] == sequence for path, sequence in sequences.items())
    path, _, taken_at, _, site, _ = next(line for line in stored if "00-0" in line[0])
    assert taken_at == (START + timedelta(days=30) - datetime(1970, 1, 1)).total_seconds() * 1000
    assert (path.partition("/")[0], site) == ("site 0", "site 0")


def test_a_table_of_sites_names_them_and_its_lines_without_photos_are_told(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sites.csv").write_text(
        "RelativePath,site\nSITE 0,Brook\nsite 1,Brook\nsite 7,Hill\n", encoding="utf-8"
    )
    run(photos, tmp_path / "run", stop_after=0, sites=tmp_path / "sites.csv")
    stored = of_photos(tmp_path / "run", "path, site, role")
    sites = {path.partition("/")[0]: site for path, site, role in stored if role == 1}
    assert sites == {"site 0": "Brook", "site 1": "Brook", "site 2": "site 2"}
    (told,) = (record.getMessage() for record in caplog.records if "sites.csv" in record.getMessage())
    assert told.startswith("1 folders or photos of ") and 'such as "site 7"' in told


def test_a_label_counts_for_its_burst_with_less_weight_and_is_no_answer(photos: Path, tmp_path: Path) -> None:
    _, result = run(photos, tmp_path, stop_after=2, propagate="sequence")
    assert result.labels_given == 20
    stored = of_photos(tmp_path, "path, class_id, propagated_class, sequence")
    classes = sorted(HUES)
    labelled = {sequence: class_id for path, class_id, _, sequence in stored if class_id is not None and "-" in path}
    propagated = [
        (path, class_id, sequence) for path, _, class_id, sequence in stored if class_id is not None and class_id >= 0
    ]
    assert 10 < len(propagated) <= 40, "two of each burst at the most; colours tell these classes apart"
    for path, class_id, sequence in propagated:
        assert class_id == labelled[sequence]
        assert classes[class_id] in path
    training = json.loads((tmp_path / "export" / "model.json").read_text(encoding="utf-8"))["training"]
    assert sum(training["labels_per_class"].values()) == 12 + 20, "propagated labels are no labels"
    assert training["propagated"] == len(propagated)


def test_a_second_label_of_a_burst_takes_back_what_the_first_one_said(photos: Path, tmp_path: Path) -> None:
    # In the database with the label itself, so that a kill before the next model loses nothing of it.
    run(photos, tmp_path, stop_after=2, propagate="sequence")
    with RunStore.open(RunConfig(**tiny_settings(photos, tmp_path, propagate="sequence"))) as store:
        decided = dict(of_photos(tmp_path, "photo_row, sequence WHERE propagated_class IS NOT NULL"))
        asked, sequence = next(iter(decided.items()))
        query = store.ask(np.array([asked]))
        store.commit(query, Answer({asked: 0}, source="expert"))
    left = dict(of_photos(tmp_path, "photo_row, sequence WHERE propagated_class IS NOT NULL"))
    assert left == {row: number for row, number in decided.items() if number != sequence}


def test_photos_of_one_name_in_train_and_validation_do_not_tear_each_others_bursts(
    photos: Path, tmp_path: Path
) -> None:
    # Both begin with 000.jpg, two years apart: in one folder, the clock would seem to be reset again and again.
    rng = np.random.default_rng(3)
    for folder, year, n_bursts in (("train", 0, 12), ("validation", 700, 3)):
        for number in range(3 * n_bursts):
            time = START + timedelta(days=year, hours=number // 3, seconds=10 * (number % 3))
            for name in HUES:
                path = tmp_path / folder / name / "site 0" / f"{number * 4 if year else number:03}.jpg"
                write_photo(path, name, rng, time + timedelta(minutes=5 * list(HUES).index(name)))
    run(photos, tmp_path / "run", stop_after=0, train_data=tmp_path / "train", validation_data=tmp_path / "validation")
    stored = of_photos(tmp_path / "run", "role, sequence")
    assert Counter(Counter(sequence for role, sequence in stored if role != 1).values()) == {3: 3 * 15}


def test_a_restart_decides_nothing_again(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path, stop_after=2, propagate="sequence")
    before = of_photos(tmp_path, "propagated_class")
    classifier = (tmp_path / "classifier" / "classifier.npz").read_bytes()
    run(photos, tmp_path, stop_after=0, propagate="sequence")
    assert of_photos(tmp_path, "propagated_class") == before
    assert (tmp_path / "classifier" / "classifier.npz").read_bytes() == classifier


def test_a_site_is_held_out_with_all_its_photos(photos: Path, tmp_path: Path) -> None:
    expert, result = run(photos, tmp_path, validation_split="site", active_batch=40)
    figures = result.validation_history[0]
    assert (figures["split"], figures["n_images"], figures["n_shared_sequences"]) == ("site", 6, 0)
    held_out = {site for site, is_held_out in of_photos(tmp_path, "site, is_held_out") if is_held_out}
    assert len(held_out) == 1 and held_out < {"site 0", "site 1"}
    asked = {path.partition("/")[0] for query in expert.queries for path in query.paths}
    assert asked == {"site 0", "site 1", "site 2"} - held_out
    assert result.ended_because == "every photo that may be asked about is labelled"
    assert result.labels_given == 60, "photos of the site that is held out are predicted, not asked about"


def test_sequences_can_be_held_out(photos: Path, tmp_path: Path) -> None:
    _, result = run(photos, tmp_path, validation_split="sequence", stop_after=1)
    figures = result.validation_history[0]
    assert (figures["split"], figures["n_shared_sequences"]) == ("sequence", 0)
    assert 2 <= figures["n_images"] <= 4, "about a fifth of twelve"


def test_a_held_out_site_needs_two_sites(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one_site = tmp_path / "train"
    rng = np.random.default_rng(1)
    for name in HUES:
        write_photo(one_site / name / "a.jpg", name, rng, START)
        write_photo(one_site / name / "b.jpg", name, rng, START)
    with pytest.raises(DataError, match="of none of the 6 labelled photos the site is known"):
        run(photos, tmp_path / "run", train_data=one_site, validation_split="site")
    with pytest.raises(ConfigError, match="Leave one of them out"):
        run(photos, tmp_path / "run", validation_data=one_site, validation_split="site")


def test_a_validation_folder_that_shares_sequences_is_told(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(2)
    for name in HUES:  # at the place and seconds after the first training photo of each class
        write_photo(tmp_path / "validation" / name / "site 0" / "new.jpg", name, rng, START + timedelta(seconds=5))
    _, result = run(photos, tmp_path / "run", validation_data=tmp_path / "validation", stop_after=0)
    # The three classes were photographed at one place and time, so that all of them are one sequence.
    assert "1 sequences have photos both in validation_data and in the training photos" in caplog.text
    assert result.validation_history[0]["n_shared_sequences"] == 1
    assert result.validation_history[0]["split"] == "folder"


def test_a_batch_is_full_also_where_whole_bursts_would_leave_too_few_candidates(photos: Path, tmp_path: Path) -> None:
    expert, _ = run(photos, tmp_path, stop_after=1, candidate_pool=10)
    assert len(expert.queries[0]) == 10
