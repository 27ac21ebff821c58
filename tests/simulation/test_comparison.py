import csv
import json
import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from camera_trap_al import SimulationResult, cli, simulate
from camera_trap_al.active_learning_methods import MarginSampling
from camera_trap_al.cli import simulate as cli_simulate
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.exceptions import ConfigError, DataError, LabelFileError
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.simulation.known_photos import KnownEmbeddings
from camera_trap_al.simulation.result import scores_of, summarise

pytestmark = pytest.mark.usefixtures("sixteen_pixels")

CLASSES = ("boar", "deer", "fox")
N_UNLABELLED = 24
SMALL = {
    "active_batch": 6,
    "use_pretrained": False,
    "feat_dim": 4,
    "embedding_train_num_epochs": 1,
    "classifier": "logistic",
    "device": "cpu",
    "num_workers": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 training, 24 unlabelled and 12 validation photos of three species, hard to tell apart, and their truth."""
    data, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)

    def write(path, species):
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = 110 + 25 * species + rng.normal(0, 25, 3)
        Image.fromarray(np.full((8, 8, 3), np.clip(colour, 0, 255), np.uint8)).save(path)

    for species, name in enumerate(CLASSES):
        for number in range(4):
            write(data / "train" / name / f"{number}.png", species)
            write(data / "validation" / name / f"{number}.png", species)
    lines = []
    for number in range(N_UNLABELLED):
        write(data / "unlabelled" / f"site{number % 2}" / f"{number}.png", number % 3)
        lines.append((f"{number}.png", f"site{number % 2}", CLASSES[number % 3]))
    with (data / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("File", "RelativePath", "Species"), *lines])
    return data


@pytest.fixture(scope="module")
def embeddings():
    """Three clouds that overlap, in the order of the rows: 12 training, 24 unlabelled, 12 validation photos."""
    rng = np.random.default_rng(1)
    # Unlabelled photos by path: those of site0 are the even numbers, sorted as words.
    numbers = [int(path.split("/")[1]) for path in sorted(f"site{n % 2}/{n}" for n in range(N_UNLABELLED))]
    species = [*np.repeat(range(3), 4), *(number % 3 for number in numbers), *np.repeat(range(3), 4)]
    return (np.eye(3)[species] + rng.normal(0, 0.6, (48, 3))).astype(np.float32)


def truth_of(folder):
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        return {f"{line['RelativePath']}/{line['File']}": line["Species"] for line in csv.DictReader(file)}


def by_hand(folder, embeddings, strategy, seed, candidate_pool=None):
    """The loop as the documentation of ActiveLearningEnvironment has it, with scikit-learn's figures."""
    dataset = ExtendedImageFolder.from_folders(*(folder / name for name in ("train", "unlabelled", "validation")))
    truth = truth_of(folder)
    config = RunConfig(**SMALL, active_learning_strategy=strategy, seed=seed, candidate_pool=candidate_pool)
    env = ActiveLearningEnvironment(dataset, config, KnownEmbeddings(embeddings))
    lines, round_number = [], 1
    while True:
        for update in env.stale_models():
            update()
        rows = env.pools.validation
        true, said = dataset.targets[rows], env.probabilities(rows).argmax(axis=1)
        f1 = f1_score(true, said, average="macro", labels=np.union1d(true, said), zero_division=0)
        lines.append((env.n_answers, f1, accuracy_score(true, said), balanced_accuracy_score(true, said)))
        if env.why_finished():
            return lines
        rows = env.choose_rows(round_number)
        dataset.relabel(rows, [CLASSES.index(truth[dataset.catalogue.paths[row]]) for row in rows])
        round_number += 1


def curve(result, strategy, seed, candidates=1.0):
    curves = result.curves
    mine = curves[(curves.strategy == strategy) & (curves.seed == seed) & (curves.candidates == candidates)]
    return list(mine[["labels", "macro_f1", "accuracy", "balanced_accuracy"]].itertuples(index=False, name=None))


def test_a_simulation_equals_the_loop_by_hand(folder, embeddings):
    result = simulate(
        folder,
        folder / "truth.csv",
        ["uniform", "margin"],
        [3, 5],
        candidate_shares=(1.0, 0.5),
        embeddings=embeddings,
        **SMALL,
    )
    for strategy in ("uniform", "margin"):
        for seed in (3, 5):
            expected = by_hand(folder, embeddings, strategy, seed)
            assert [line[0] for line in expected] == [0, 6, 12, 18, 24]
            np.testing.assert_allclose(curve(result, strategy, seed), expected)
    np.testing.assert_allclose(
        curve(result, "margin", 3, 0.5), by_hand(folder, embeddings, "margin", 3, candidate_pool=12)
    )
    assert curve(result, "uniform", 3, 0.5) == []


def test_the_network_is_trained_once_and_all_see_its_embeddings(folder, monkeypatch):
    fits = []
    from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer

    fit = EmbeddingTrainer.fit
    monkeypatch.setattr(EmbeddingTrainer, "fit", lambda self, *given: fits.append(1) or fit(self, *given))
    result = simulate(folder, folder / "truth.csv", ["margin"], [0, 1], max_labels=12, **SMALL)
    assert fits == [1]
    assert sorted(set(result.curves.strategy)) == ["margin", "uniform"]
    assert sorted(set(result.curves.labels)) == [0, 6, 12]
    again = simulate(folder, truth_of(folder), ["margin"], [0, 1], max_labels=12, **SMALL)
    pd.testing.assert_frame_equal(result.curves.drop(columns="seconds"), again.curves.drop(columns="seconds"))


def test_initial_labels_are_drawn_by_seed_and_the_same_for_all_strategies(folder, embeddings):
    arguments = {"initial_per_class": 2, "max_labels": 6, "embeddings": embeddings, **SMALL}
    result = simulate(folder, folder / "truth.csv", ["margin", "entropy"], range(6), **arguments)
    starts = result.curves[result.curves.labels == 0].pivot(index="seed", columns="strategy", values="macro_f1")
    assert (starts.nunique(axis="columns") == 1).all()
    assert starts["margin"].nunique() > 1


def test_strategies_may_be_objects_with_names_of_their_own(folder, embeddings):
    arguments = {"max_labels": 6, "embeddings": embeddings, **SMALL}
    result = simulate(folder, folder / "truth.csv", {"mine": MarginSampling(), "theirs": "margin"}, [1], **arguments)
    assert curve(result, "mine", 1) == curve(result, "theirs", 1)
    alone = simulate(folder, folder / "truth.csv", [MarginSampling()], [1], **arguments)
    assert curve(alone, "MarginSampling", 1) == curve(result, "mine", 1)


def test_photos_that_are_called_unusable_are_left_out(folder, embeddings):
    truth = truth_of(folder) | {"site0/0.png": "unusable"}
    result = simulate(folder, truth, ["uniform"], [0], embeddings=embeddings, **SMALL)
    assert result.curves.labels.max() == N_UNLABELLED - 1


def made_up_curves():
    """The curve of "good" is that of uniform one round earlier, that of "bad" one later."""
    base = np.array([[0.2, 0.3, 0.4, 0.5, 0.6], [0.22, 0.31, 0.42, 0.5, 0.61], [0.2, 0.32, 0.4, 0.52, 0.6]])
    shifted = {"uniform": base, "good": base + 0.1, "bad": base - 0.1 + np.array([[0.0], [0.002], [0.001]])}
    return pd.DataFrame(
        {"strategy": name, "candidates": 1.0, "seed": seed, "labels": 10 * step, "macro_f1": scores[seed, step]}
        for name, scores in shifted.items()
        for seed in range(3)
        for step in range(5)
    )


def test_the_summary_by_hand():
    summary = summarise(made_up_curves()).set_index("strategy")
    assert summary.index.tolist() == ["good", "uniform", "bad"]
    assert summary.verdict.to_dict() == {"good": "win", "uniform": "tie", "bad": "loss"}
    assert summary.difference["good"] == pytest.approx(0.1)
    assert summary.final["uniform"] == pytest.approx((0.6 + 0.61 + 0.6) / 3)
    assert summary.labels_to_reach["uniform"] == 40
    means = np.array([0.41, 0.5067]) + 0.1  # of uniform after 20 and 30 labels, and that of "good"
    assert summary.labels_to_reach["good"] == pytest.approx(
        20 + 10 * (0.60333 - 0.50667) / (0.60667 - 0.50667), abs=0.05
    )
    assert means[0] < 0.60333 < means[1]
    assert np.isinf(summary.labels_to_reach["bad"])
    assert summary.share_of_labels["uniform"] == 1


def test_a_summary_needs_the_yardstick_and_the_same_seeds():
    curves = made_up_curves()
    with pytest.raises(ConfigError, match="uniform"):
        summarise(curves[curves.strategy != "uniform"])
    with pytest.raises(ConfigError, match="good must have the same seeds"):
        summarise(curves[(curves.strategy != "good") | (curves.seed > 0)])


def test_scores_are_a_row_per_seed_and_a_column_per_number_of_labels():
    labels, scores = scores_of(made_up_curves().sample(frac=1, random_state=0), "uniform", 1.0, "macro_f1")
    assert labels.tolist() == [0, 10, 20, 30, 40]
    assert scores[1].tolist() == [0.22, 0.31, 0.42, 0.5, 0.61]


def test_what_is_saved_can_be_read_again(tmp_path):
    result = SimulationResult.of(made_up_curves())
    result.save(tmp_path / "new")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "curves.csv"), result.curves)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "summary.csv"), result.summary)
    with Image.open(tmp_path / "new" / "learning_curves.png") as picture:
        assert picture.format == "PNG" and picture.size == (900, 550)


def test_the_table_says_who_wins():
    lines = SimulationResult.of(made_up_curves()).table().splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| good | 0.703 |") and "win" in lines[2]
    assert "not reached" in lines[4] and "loss" in lines[4]


def test_photos_without_truth_and_unknown_classes_are_all_listed(folder, embeddings):
    truth = truth_of(folder) | {"site0/2.png": "der", "site0/4.png": "wolf"}
    del truth["site1/1.png"]
    with pytest.raises(LabelFileError) as error:
        simulate(folder, truth, embeddings=embeddings, **SMALL)
    assert {fault.file for fault in error.value.faults} == {"site0/2.png", "site0/4.png", "site1/1.png"}
    assert 'Did you mean "deer"?' in str(error.value)


@pytest.mark.parametrize("missing", ["validation", "unlabelled"])
def test_a_missing_folder_is_told_with_the_way_out(tmp_path, missing):
    for name in {"train", "unlabelled", "validation"} - {missing}:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"there is no folder {missing}") as error:
        simulate(tmp_path, {}, **SMALL)
    assert "labelled photos" in str(error.value) if missing == "validation" else "truth" in str(error.value)


@pytest.mark.parametrize(
    ("strategies", "problem"),
    [
        ({"uniform": "margin"}, "must not give another strategy the name 'uniform'"),
        (["margin", "margin"], "must have different names; got margin twice"),
    ],
    ids=["the yardstick's name", "one name twice"],
)
def test_strategies_that_would_be_taken_for_each_other_are_refused(strategies, problem):
    with pytest.raises(ConfigError, match=problem):
        simulate("nowhere", {}, strategies)


def write_found(folder, path, box):
    """One animal in every photo, by the path relative to the folder of all."""
    entries = [
        {"file": file.relative_to(folder).as_posix(), "detections": [{"category": "1", "conf": 0.5, "bbox": box}]}
        for file in sorted(folder.rglob("*.png"))
    ]
    path.write_text(json.dumps({"detection_categories": {"1": "animal"}, "images": entries}), encoding="utf-8")
    return path


def test_a_simulation_looks_at_the_animals_that_a_detector_found(tmp_path):
    """The reference is the same simulation of photos that show nothing but what is in the boxes."""
    rng, lines = np.random.default_rng(2), []
    for kind, n in (("train", 4), ("validation", 4), ("unlabelled", 8)):
        for species, name in enumerate(CLASSES):
            for number in range(n):
                folder = "site" if kind == "unlabelled" else name
                animal = np.full((32, 32, 3), np.clip(110 + 25 * species + rng.normal(0, 25, 3), 0, 255), np.uint8)
                around = rng.integers(0, 256, (128, 128, 3), np.uint8)
                around[48:80, 48:80] = animal
                for place, pixels in (("cut", animal), ("whole", around)):
                    path = tmp_path / place / kind / folder / f"{name}{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
                if kind == "unlabelled":
                    lines.append((f"{name}{number}.png", "site", name))
    truth = {f"site/{file}": name for file, _, name in lines}
    # With a tenth added on each side, the square that is cut out is still within the animal.
    found = write_found(tmp_path / "whole", tmp_path / "found.json", [0.425, 0.425, 0.15, 0.15])
    settings = {**SMALL, "embedding_train_num_epochs": 0, "strategies": ["margin"], "seeds": [0]}
    cut = simulate(tmp_path / "cut", truth, **settings)
    with_boxes = simulate(tmp_path / "whole", truth, **settings, detections=found, detection_threshold=0.5)
    whole = simulate(tmp_path / "whole", truth, **settings, detections=found, detection_threshold=0.6)
    assert curve(with_boxes, "margin", 0) == curve(cut, "margin", 0)
    assert curve(whole, "margin", 0) != curve(cut, "margin", 0)


def test_detections_do_not_go_with_embeddings_that_are_given(folder, embeddings, tmp_path):
    found = write_found(folder, tmp_path / "found.json", [0.25, 0.25, 0.5, 0.5])
    with pytest.raises(ConfigError, match="detections has no effect on embeddings that are given"):
        simulate(folder, folder / "truth.csv", **SMALL, embeddings=embeddings, detections=found)


def test_every_bad_argument_is_listed():
    with pytest.raises(ConfigError) as error:
        simulate(
            "nowhere",
            {},
            ["margn"],
            [],
            candidate_shares=(0.5, 2),
            metric="f1",
            initial_per_class=0,
            seed=1,
            activ_batch=10,
            embedding_arch="resnet_18",
            feat_dim=0,
            validate_model=False,
            detections_empty="empty",
        )
    listed = "\n".join(error.value.problems)
    for part in (
        "strategies must be",
        "did you mean 'margin'",
        "seeds must be",
        "candidate_shares must be",
        "metric must be",
        "initial_per_class must be",
        "seed is no setting of a simulation: use seeds",
        "Did you mean active_batch?",
        "embedding_arch",
        "feat_dim must be",
        "validate_model is no setting of a simulation, since it would have no effect",
        "detections_empty is no setting of a simulation, since it would have no effect",
    ):
        assert part in listed


def test_embeddings_of_other_photos_are_refused(folder, embeddings):
    with pytest.raises(ConfigError, match="a row for each of the 48 photos"):
        simulate(folder, folder / "truth.csv", embeddings=embeddings[1:], **SMALL)


def test_photos_without_an_embedding_are_left_out(folder, embeddings):
    holes = embeddings.copy()
    holes[12] = np.nan  # the first unlabelled photo
    result = simulate(folder, folder / "truth.csv", ["uniform"], [0], embeddings=holes, **SMALL)
    assert result.curves.labels.max() == N_UNLABELLED - 1


def test_every_option_arrives_as_it_was_typed(monkeypatch):
    calls = []

    def recorded(*given, **settings):
        calls.append((given, settings))
        return SimulationResult.of(made_up_curves())

    monkeypatch.setattr(cli_simulate, "simulate", recorded)
    words = "--strategies uniform badge --seeds 4 5 --candidate-shares 1 0.25 --max-labels 50 --classifier logistic"
    assert cli.main(["simulate", "data", "truth.csv", *words.split(), "--feat-dim", "8", "--output-dir", "out"]) == 0
    ((given, settings),) = calls
    assert given == ("data", "truth.csv")
    typed = {
        "strategies": ["uniform", "badge"],
        "seeds": [4, 5],
        "candidate_shares": [1.0, 0.25],
        "max_labels": 50,
        "classifier": "logistic",
        "feat_dim": 8,
        "output_dir": "out",
    }
    defaults = {name: each.default for name, each in signature(run_active_learning).parameters.items()}
    own = {name: each.default for name, each in signature(simulate).parameters.items()}
    assert settings == {name: typed.get(name, own.get(name, defaults.get(name))) for name in settings}
    assert settings.keys() >= own.keys() - {"data", "truth", "embeddings", "settings"}


def test_help_describes_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate", "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(
        word in said for word in ("TRUTH_CSV", "--strategies", "--candidate-shares", "--classifier", "Simulation")
    )
    assert "`" not in said


def test_the_installed_command_shows_the_table_and_writes_the_files(folder, tmp_path):
    command = [
        *(Path(sys.executable).with_name("camera-trap-al"), "simulate", folder, folder / "truth.csv"),
        *("--no-use-pretrained", "--embedding-arch", "shufflenet_v2_x0_5", "--embedding-train-num-epochs", "0"),
        *("--classifier", "logistic", "--seeds", "0", "1", "--max-labels", "6", "--active-batch", "6"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "| margin |" in ended.stdout and "| uniform |" in ended.stdout
    assert {path.name for path in (tmp_path / "Simulation").iterdir()} == {
        "curves.csv",
        "summary.csv",
        "learning_curves.png",
    }


def test_a_truth_that_is_not_there_is_told(capsys, folder):
    assert cli.main(["simulate", str(folder), str(folder / "no.csv"), "--no-use-pretrained"]) == 1
    assert "no.csv" in capsys.readouterr().err
