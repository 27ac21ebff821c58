import csv
import re
import runpy
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch

from camera_trap_al.active_learning_methods.base import PoolView
from camera_trap_al.active_learning_methods.contract import check_strategy

SCRIPTS = ("label_in_timelapse.py", "own_network.py", "own_strategy.py")


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def filled_in(examples, tmp_path):
    """Function that saves the script for Timelapse with other settings, as a user does in an editor."""

    def fill_in(**settings):
        text = (examples / "label_in_timelapse.py").read_text(encoding="utf-8")
        for name, value in settings.items():
            line = f"{name} = {value!r}"
            text, n_found = re.subn(rf"^{name} = .*$", lambda _, line=line: line, text, flags=re.MULTILINE)
            assert n_found == 1, name
        script = tmp_path / "label_in_timelapse.py"
        script.write_text(text, encoding="utf-8")
        return script

    return fill_in


def test_a_person_labels_a_round_in_timelapse_and_stops(filled_in, photos, start, tell_species):
    run = photos / "Active Learning Files"
    script = filled_in(
        LABELLED=str(photos / "train"),
        UNLABELLED=str(photos / "unlabelled"),
        VALIDATION=str(photos / "validation"),
        RUN_FOLDER=str(run),
        PHOTOS_PER_ROUND=4,
        NETWORK="squeezenet1_1",
        PRETRAINED=False,
        EPOCHS=0,
    )
    person = start(script, run_folder=run)
    asked = person.answer()
    said = person.stop()

    assert len(asked) == 4 and not set(asked) & set(person.asked())
    assert "Photos that you labelled: 4, in this many rounds: 1" in said
    answered = {f"unlabelled_data/{folder}/{name}": tell_species(name) for name, folder in asked}
    labels = {row["path"]: row["label"] for row in read_csv(run / "data" / "labels.csv")}
    assert answered.items() <= labels.items()
    for line, name in (("How good", "report.html"), ("The other photos", "predictions.csv"), ("The trained", "export")):
        (path,) = re.findall(rf"^{line}.*: +(\S.*?{re.escape(name)})", said, re.MULTILINE)
        assert path == str(run / name) and (run / name).exists()
    assert len(read_csv(run / "predictions.csv")) == 5
    with closing(sqlite3.connect(photos / "unlabelled" / "TimelapseTemplate.tdb")) as template:
        (listed,) = template.execute("SELECT List FROM TemplateTable WHERE DataLabel = 'Species'").fetchone()
    assert all(f'"{species}"' in listed for species in ("badger", "deer", "fox"))


def test_a_template_that_is_there_is_left_alone_and_a_wrong_folder_is_explained(filled_in, photos, start):
    template = photos / "unlabelled" / "Mine.tdb"
    template.write_bytes(b"of the user")
    script = filled_in(LABELLED=str(photos / "labeled"), UNLABELLED=str(photos / "unlabelled"))
    process = start(script).process
    said, _ = process.communicate()
    assert process.returncode == 1
    assert str(photos / "labeled") in said and "Traceback" not in said
    assert template.read_bytes() == b"of the user" and not (template.parent / "TimelapseTemplate.tdb").exists()


def test_own_network_learns_and_knows_the_labels_of_an_earlier_start(examples, photos, start, tell_species):
    output = photos / "own network"
    words = (photos / "train", photos / "unlabelled", "--validation", photos / "validation", "--batch", "2")
    words = (examples / "own_network.py", *words, "--rounds", "2", "--epochs", "8")

    first = start(*words, run_folder=output)
    asked = first.answer()
    first.stop()
    kept = {row["path"]: row["label"] for row in read_csv(output / "labels.csv")}
    assert kept == {f"{folder}/{name}": tell_species(name) for name, folder in asked}

    second = start(*words, run_folder=output)
    second.listen_for("2 photos have a label from an earlier start.")
    asked += second.answer() + second.answer()
    said = second.end()
    assert len(set(asked)) == len(read_csv(output / "labels.csv")) == 6
    assert "With 12 labels: accuracy 100.0%" in said
    predicted = {(row["File"], row["RelativePath"]): row["Species"] for row in read_csv(output / "predictions.csv")}
    assert len(predicted) == 3 and not predicted.keys() & set(asked)
    assert all(species == tell_species(name) for (name, _), species in predicted.items())
    network = runpy.run_path(str(examples / "own_network.py"))["OwnNetwork"](n_classes=3)
    network.load_state_dict(torch.load(output / "own_network.pt", weights_only=True))


def test_own_strategy_is_checked_and_then_used_by_a_run(examples, photos, start, tell_species):
    said = start(examples / "own_strategy.py", photos, "--labels", "6", "--batch", "3", "--epochs", "0").end()
    assert "The strategy keeps what a query strategy promises." in said
    assert [line[:24] for line in said.splitlines() if line.startswith("Round")] == [
        "Round 1 asks about 3 pho",
        "Round 2 asks about 3 pho",
    ]
    assert "6 answers; max_labels is reached" in said
    assert "accuracy" in said  # the learning curve
    labels = {row["path"]: row["label"] for row in read_csv(photos / "own strategy" / "data" / "labels.csv")}
    given = {path: label for path, label in labels.items() if path.startswith("unlabelled_data")}
    given = {path: label for path, label in given.items() if label != "unlabelled"}
    assert len(given) == 6 and all(tell_species(path) == label for path, label in given.items())


class FeaturesAreProbabilities:
    def probabilities(self, embeddings):
        return embeddings


def test_own_strategy_takes_the_least_sure_photo_of_each_species_in_turn(examples):
    strategy = runpy.run_path(str(examples / "own_strategy.py"))["EachSpeciesInTurn"]()
    check_strategy(strategy)
    probabilities = [[0.55, 0.45], [0.6, 0.4], [0.65, 0.35], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]
    view = PoolView(
        embeddings=np.array(probabilities, np.float32),
        targets=np.full(6, -1),
        labelled=np.zeros(0, np.int64),
        unlabelled=np.arange(6),
        classes=("deer", "fox"),
        classifier=FeaturesAreProbabilities(),
    )
    assert strategy.select_batch(view, 5, np.random.default_rng(0)).tolist() == [0, 4, 1, 5, 2]


def test_the_list_of_examples_names_each(examples):
    listed = (examples / "README.md").read_text(encoding="utf-8")
    there = {path.name for path in examples.iterdir() if path.suffix in (".py", ".ipynb")}
    assert there == {*SCRIPTS, "labelling_loop.ipynb"}
    assert all(f"`{name}`" in listed for name in there)
