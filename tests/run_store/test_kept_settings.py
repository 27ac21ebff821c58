"""What a later start says of settings that are not as they were."""

import json
import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from camera_trap_al.config import OF_ONE_START, RunConfig
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact
from camera_trap_al.run_store.kept_settings import to_store, with_kept_settings

Start = Callable[..., RunConfig]


@pytest.fixture
def start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Start:
    """Starts a run, or starts it again, with settings; `said` is what the last start logged."""
    caplog.set_level("INFO")
    said: list[tuple[int, str]] = []

    def started(**settings: Any) -> RunConfig:
        with RunStore.open(RunConfig(output_dir=tmp_path / "run", **settings)) as store:
            store.save([Artefact("classifier/classifier.npz", {}, lambda path: path.write_bytes(b"model"))])
        told = [(record.levelno, record.getMessage()) for record in caplog.records]
        said[:] = [line for line in told if not line[1].startswith(("New run in", "Going on with the run in"))]
        caplog.clear()
        return store.config

    started.said = said
    return started


def ignored(run: Path, name: str, asked: object, kept: object) -> tuple[int, str]:
    return (
        logging.WARNING,
        f"{name}={asked} is ignored: the run in {run} began with {kept} and keeps it. To change it, start a new run: "
        "use_checkpoints=False or another output_dir.",
    )


def effective(name: str, new: object, old: object) -> tuple[int, str]:
    return logging.INFO, f"{name}={new} takes effect; it was {old}"


OTHERS = {
    **{"use_pretrained": False, "embedding_arch": "vgg11", "embedding_loss_type": "softmax"},
    **{"embedding_loss_margin": 2.5, "embedding_loss_data_strategy": "hardest", "feat_dim": 8, "seed": 2},
    **{"embedding_train_lr": 0.5, "embedding_train_weight_decay": 0.1, "embedding_train_num_epochs": 9},
    **{"embedding_train_loader_type": "balanced", "validate_model": False, "num_workers": 3, "active_batch": 7},
    **{"active_learning_strategy": "entropy", "normalize_embedding": False, "extract_embedding_batch_size": 3},
    **{"embedding_finetuning_period": 5, "embedding_finetuning_lr": 0.5, "embedding_finetuning_weight_decay": 0.1},
    **{"embedding_finetuning_num_epochs": 1, "embedding_finetuning_loader_type": "single", "device": "cpu"},
    **{"balanced_loader_num_classes": 3, "balanced_loader_num_samples": 4, "label_source": "watch", "max_labels": 9},
    **{"classifier_params": {"alpha": 0.1}, "precision": "fp32", "candidate_pool": None, "predict_pool": "never"},
    **{"classifier": RandomForestClassifier(), "image_cache": "off", "image_cache_gb": 1.5, "freeze_batchnorm": True},
    **{"finetuning_gate": False, "classes": ["a", "b"], "class_aliases": {"x": "a"}, "label_column": "Art"},
    **{"new_classes": "add", "request_rows": "changed", "accept_error": 0.1, "class_weight": "balanced"},
    **{"audit_fraction": 0.1, "stop_when": bool, "target_accuracy": 0.9, "detection_threshold": 0.5},
    **{"detections_empty": "empty", "group_by": "image", "sequence_gap": 5.0, "sequence_pattern": "SEQ"},
    **{"site_level": 1, "photo_times": "file", "propagate": "sequence", "validation_split": "site"},
}


def names_of(kind: str) -> set[str]:
    return {each.name for each in fields(RunConfig) if each.metadata.get(kind)}


def test_every_setting_is_kept_or_told_when_it_changes(tmp_path: Path) -> None:
    told = set(RunConfig().told_settings())
    assert {each.name for each in fields(RunConfig)} == names_of("kept") | told | OF_ONE_START
    assert not names_of("kept") & told and not OF_ONE_START & told
    assert set(OTHERS) | names_of("first_start") == names_of("kept") | told


@pytest.mark.parametrize("name", OTHERS)
def test_each_setting_that_differs_is_told_once(start: Start, tmp_path: Path, name: str) -> None:
    value = OTHERS[name]
    start(seed=1)
    old = {"seed": 1, "audit_fraction": 0.05}.get(name, getattr(RunConfig(), name))
    is_kept = name in names_of("kept")
    config = start(**{"seed": 1, name: value})
    run, told, was = tmp_path / "run", repr(value), repr(old)
    said = [ignored(run, name, told, was) if is_kept else effective(name, told, was)]
    assert start.said == said
    assert getattr(config, name) == (old if is_kept else value)
    start(**{"seed": 1, name: value})
    assert start.said == (said if is_kept else []), "the kept one is ignored each time, the other is what it was"
    start(seed=1)
    assert start.said == ([] if is_kept else [effective(name, was, told)])


def test_nothing_is_said_of_the_same_settings(start: Start) -> None:
    for _ in range(3):
        # The parameters are those of an MLP; what photos without an animal are, only a detection file can tell.
        start(**OTHERS | {"classifier": "mlp", "detections": __file__})
        assert start.said == []


def test_several_differences_are_told_one_by_one(start: Start, tmp_path: Path) -> None:
    start(feat_dim=8, embedding_loss_type="siamese", embedding_loss_data_strategy="hard_pair", seed=5)
    config = start(
        embedding_loss_type="siamese", feat_dim=16, embedding_arch="vgg11", active_batch=7, embedding_loss_margin=1
    )
    run = tmp_path / "run"
    assert start.said == [
        ignored(run, "embedding_arch", "'vgg11'", "'resnet18'"),
        ignored(run, "embedding_loss_data_strategy", "'random'", "'hard_pair'"),
        ignored(run, "feat_dim", 16, 8),
        effective("active_batch", 7, 100),
    ]
    assert (config.feat_dim, config.embedding_arch, config.embedding_loss_data_strategy) == (8, "resnet18", "hard_pair")
    assert (config.seed, config.active_batch) == (5, 7), "no seed was asked for this time, so that nothing is ignored"


@pytest.mark.parametrize("name", ["pretrained_weights", "initial_labels"])
def test_a_file_that_only_the_beginning_needs_is_told_when_it_is_another_one(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    start(seed=1, **{name: first})
    monkeypatch.chdir(tmp_path)
    for same in (first, str(first), "first"):
        start(seed=1, **{name: same})
        assert start.said == []
    first.unlink()  # it was read when the run began
    start(seed=1, **{name: first})
    start(seed=1)
    assert start.said == [], "left out, as it may be"
    for _ in range(2):
        start(seed=1, **{name: second})
        assert start.said == [ignored(tmp_path / "run", name, repr(str(second)), repr(str(first)))]


@pytest.mark.parametrize("name", ["pretrained_weights", "initial_labels"])
def test_a_file_that_comes_after_the_beginning_is_told(start: Start, tmp_path: Path, name: str) -> None:
    start(seed=1)
    start(seed=1, **{name: tmp_path / "late"})
    assert start.said == [ignored(tmp_path / "run", name, repr(str(tmp_path / "late")), None)]


class Mine:
    """A query strategy and a label source, at another place in memory each time."""

    def select_batch(self, *_: object) -> None: ...

    def request_labels(self, *_: object) -> None: ...


class Yours(Mine):
    """Another one."""


def test_objects_and_functions_are_told_by_what_they_are_not_by_where_they_lie(start: Start) -> None:
    kept_alive = [Mine() for _ in range(3)]
    for each in kept_alive:
        start(active_learning_strategy=each, label_source=each, seed=1)
        assert start.said == []
    start(active_learning_strategy=Yours(), label_source=lambda query: [], seed=1)
    assert start.said == [
        effective("active_learning_strategy", "Yours", "Mine"),
        effective("label_source", "function", "Mine"),
    ]
    assert not any(" at 0x" in text for _, text in start.said)
    start(active_learning_strategy="margin", label_source=lambda query: None, seed=1)
    assert start.said == [effective("active_learning_strategy", "'margin'", "Yours")]


def test_numbers_of_numpy_are_told_as_numbers(start: Start) -> None:
    start(seed=1, feat_dim=np.int64(8), use_pretrained=np.bool_(False), max_labels=np.int64(5))
    config = start(seed=1, feat_dim=np.int64(8), use_pretrained=np.bool_(False), max_labels=5)
    assert start.said == []
    assert (config.feat_dim, config.use_pretrained) == (8, False)
    start(seed=1, feat_dim=8, use_pretrained=False, max_labels=np.int64(6))
    assert start.said == [effective("max_labels", 6, 5)]


def test_where_things_lie_and_what_one_start_is_to_do_is_no_change(start: Start, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    start(seed=1, unlabelled_data=tmp_path / "a")
    start(seed=1, unlabelled_data=tmp_path / "b", train_data=tmp_path / "a", rebuild=True)
    assert [text for _, text in start.said if "takes effect" in text or "is ignored" in text] == []


def test_a_seed_that_was_drawn_is_kept_and_another_one_told(start: Start, tmp_path: Path) -> None:
    seed = start().seed
    assert isinstance(seed, int)
    assert start().seed == seed
    assert start.said == []
    assert start(seed=seed + 1).seed == seed
    assert start.said == [ignored(tmp_path / "run", "seed", seed + 1, seed)]


def test_what_is_stored_is_plain_and_leads_back_to_the_kept_settings() -> None:
    config = RunConfig(seed=3, feat_dim=8, active_batch=9)
    stored = json.loads(json.dumps(to_store(config, begins=True)))
    assert with_kept_settings(RunConfig(active_batch=9), stored) == config
    later = to_store(config, begins=False)
    assert stored.items() >= later.items()
    assert stored.keys() - later.keys() == names_of("kept") | {f"asked.{name}" for name in names_of("first_start")}


def test_a_run_that_stored_less_is_not_said_to_differ(caplog: pytest.LogCaptureFixture) -> None:
    """As one of an older version, which knew fewer settings and told none."""
    caplog.set_level("INFO")
    assert with_kept_settings(RunConfig(seed=3, active_batch=9), {"feat_dim": 256}).active_batch == 9
    assert caplog.messages == []
