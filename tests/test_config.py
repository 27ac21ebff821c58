import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from camera_trap_al.active_learning_methods import STRATEGIES, MarginSampling
from camera_trap_al.config import LOSS_STRATEGIES, LOSS_TYPES, RunConfig
from camera_trap_al.estimators import CLASSIFIERS
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.labelling import KnownLabels
from camera_trap_al.main_scripts import run_active_learning

REQUIRED = inspect.Parameter.empty
SPECIFICATION: dict[str, Any] = {  # the 28 parameters of the 2023 package, in its order
    "train_data": REQUIRED,
    "unlabelled_data": REQUIRED,
    "validation_data": None,
    "validate_model": True,
    "use_checkpoints": True,
    "num_workers": 0,
    "output_dir": "default",
    "active_batch": 100,
    "active_learning_strategy": "margin",
    "use_pretrained": True,
    "embedding_arch": "resnet18",
    "embedding_loss_type": "triplet",
    "embedding_loss_margin": 1.0,
    "embedding_loss_data_strategy": "random",
    "feat_dim": 256,
    "normalize_embedding": True,
    "extract_embedding_batch_size": 256,
    "embedding_finetuning_period": 2000,
    "embedding_finetuning_lr": 0.0001,
    "embedding_finetuning_weight_decay": 0,
    "embedding_finetuning_num_epochs": 20,
    "embedding_finetuning_loader_type": "balanced",
    "embedding_train_lr": 0.00001,
    "embedding_train_weight_decay": 0.0005,
    "embedding_train_num_epochs": 5,
    "embedding_train_loader_type": "single",
    "balanced_loader_num_classes": 20,
    "balanced_loader_num_samples": 10,
}
NEW = {
    "seed": None,
    "device": None,
    "pretrained_weights": None,
    "label_source": None,
    "max_labels": None,
    "classifier": "mlp",
    "classifier_params": None,
    "precision": "auto",
    "candidate_pool": 20_000,
    "predict_pool": "end",
    "image_cache": "auto",
    "image_cache_gb": 20.0,
    "freeze_batchnorm": "auto",
    "finetuning_gate": True,
    "initial_labels": None,
    "classes": None,
    "class_aliases": None,
    "label_column": "Species",
    "new_classes": "refuse",
    "request_rows": "all",
    "refit": None,
    "rebuild": False,
    "accept_error": 0.05,
    "audit_fraction": None,
    "stop_when": None,
    "target_accuracy": None,
    "class_weight": None,
    "detections": None,
    "detection_threshold": 0.2,
    "detections_empty": None,
    "group_by": "auto",
    "sequence_gap": 60.0,
    "sequence_pattern": None,
    "site_level": None,
    "sites": None,
    "photo_times": "exif",
    "propagate": None,
    "validation_split": None,
}
DEFAULTS = {name: None if default is REQUIRED else default for name, default in (SPECIFICATION | NEW).items()}

NO_FOLDER = [3, "", b"/tmp", "/not/there", Path("not there"), "~nobody-of-this-name/photos"]
NO_BOOLEAN = [1, 0, "True", None]
NO_COUNT = [0, -1, 1.0, "1", None, True, float("nan")]
NO_NATURAL = [-1, 0.5, "0", None, False]
NO_POSITIVE = [0, -1.0, float("nan"), float("inf"), "1", None, True, 1j]
NO_WEIGHT_DECAY = [-0.1, float("nan"), float("inf"), "0", None, False]
BAD: dict[str, list[Any]] = {
    "train_data": NO_FOLDER,
    "unlabelled_data": NO_FOLDER,
    "validation_data": NO_FOLDER,
    "validate_model": NO_BOOLEAN,
    "use_checkpoints": NO_BOOLEAN,
    "num_workers": NO_NATURAL,
    "output_dir": [3, None, "", __file__, "~nobody-of-this-name/run"],
    "active_batch": NO_COUNT,
    "active_learning_strategy": ["", "Margin", 3, None, MarginSampling, object()],
    "use_pretrained": NO_BOOLEAN,
    "embedding_loss_type": ["", "Softmax", 3, None, ["softmax"]],
    "embedding_loss_margin": NO_POSITIVE,
    "embedding_loss_data_strategy": ["", "hard", 3, None],
    "feat_dim": NO_COUNT,
    "normalize_embedding": NO_BOOLEAN,
    "extract_embedding_batch_size": NO_COUNT,
    "embedding_finetuning_period": NO_COUNT,
    "embedding_finetuning_lr": NO_POSITIVE,
    "embedding_finetuning_weight_decay": NO_WEIGHT_DECAY,
    "embedding_finetuning_num_epochs": NO_NATURAL,
    "embedding_finetuning_loader_type": ["", "both", 3, None],
    "embedding_train_lr": NO_POSITIVE,
    "embedding_train_weight_decay": NO_WEIGHT_DECAY,
    "embedding_train_num_epochs": NO_NATURAL,
    "embedding_train_loader_type": ["", "both", 3, None],
    "balanced_loader_num_classes": NO_COUNT,
    "balanced_loader_num_samples": NO_COUNT,
    "seed": [-1, 0.5, "1", True],
    "pretrained_weights": [3, "", "/not/there.pth", Path(__file__).parent],
    "label_source": [3, "person", object(), type("Source", (), {"request_labels": lambda self: None})],
    "max_labels": [-1, 0.5, "1", True],
    "precision": ["", "fp16", 32, None],
    "candidate_pool": [0, -1, 1.5, "1", True],
    "predict_pool": ["", "always", True, None],
    "image_cache": ["", "disk", True, None],
    "image_cache_gb": [-1, float("nan"), float("inf"), "20", None, True],
    "freeze_batchnorm": ["", "never", None, 2],
    "finetuning_gate": NO_BOOLEAN,
    "initial_labels": [3, "", "/not/there.csv", Path(__file__).parent],
    "classes": [3, "deer", [], ["deer", "deer"], ["unusable"], [" "]],
    "class_aliases": [3, "deer", ["deer"], {"deer": 3}, {"": "deer"}],
    "label_column": ["", " Species", 3, None],
    "new_classes": ["", "ask", True, None],
    "request_rows": ["", "some", True, None],
    "refit": ["", "all", True, 1],
    "rebuild": ["yes", None, 1],
    "accept_error": [-0.1, 0.6, "few", None],
    "audit_fraction": [-0.1, 0.6, "few", True],
    "stop_when": [True, "90 %", 0.9],
    "target_accuracy": [-0.1, 1.1, "90 %", True],
    "classifier": ["svm", 3, None, LogisticRegression, object()],
    "class_weight": ["", "balance", True, {0: 2.0}],
    "detections": [3, "", "/not/there.json", Path(__file__).parent],
    "detection_threshold": [-0.1, 1.1, "0.2", None],
    "detections_empty": ["", " empty", "skip", 3],
    "group_by": ["", "burst", True, None],
    "sequence_gap": NO_POSITIVE,
    "sequence_pattern": ["", "(", "(a)(b)", 3],
    "site_level": [0, -1, 1.5, "1", True],
    "sites": [3, "", "/not/there.csv", Path(__file__).parent],
    "photo_times": ["", "filesystem", True, None],
    "propagate": ["", "image", True],
    "validation_split": ["", "random", True],
}
CHECKED_ELSEWHERE = {"embedding_arch", "device"}  # deep_learning knows what there is


def problems_of(**arguments: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        RunConfig(**arguments)
    return caught.value.problems


def test_run_active_learning_has_the_specifications_parameters_and_then_new_ones_by_keyword_only():
    parameters = inspect.signature(run_active_learning).parameters.values()
    positional = {each.name: each.default for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD}
    keyword_only = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert len(positional) == 28
    assert list(positional.items()) == list(SPECIFICATION.items())
    assert keyword_only == NEW
    assert len(parameters) == len(SPECIFICATION) + len(NEW)


def test_the_settings_are_the_parameters_in_their_order_with_their_defaults():
    config = RunConfig()
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS
    assert list(inspect.signature(RunConfig).parameters) == list(DEFAULTS)


def test_every_setting_has_a_case_here():
    assert set(BAD) | CHECKED_ELSEWHERE | {"classifier_params"} == set(DEFAULTS)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_with_name_value_and_the_default_as_the_way_out(name, value):
    (problem,) = problems_of(**{name: value})
    assert problem.startswith(f"{name} must be ")
    shown = str(value) if isinstance(value, Path) and name in ("pretrained_weights", "initial_labels") else value
    assert f"; got {shown!r}." in problem
    default = DEFAULTS[name]
    assert problem.endswith(f"The default is {default!r}.") if default is not None else "The default" not in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_workers", 0),
        ("active_batch", np.int64(1)),
        ("embedding_train_num_epochs", 0),
        ("embedding_train_weight_decay", 0),
        ("embedding_train_lr", np.float32(1e-3)),
        ("embedding_loss_margin", 1),
        ("use_pretrained", np.bool_(False)),
        ("output_dir", Path("not there yet")),
        ("train_data", Path(__file__).parent),
        ("validation_data", "~"),
        ("pretrained_weights", __file__),
        ("max_labels", 0),
        ("seed", 2**40),
        ("precision", "bf16"),
        ("candidate_pool", None),
        ("candidate_pool", 100),
        ("image_cache_gb", 0),
        ("freeze_batchnorm", False),
        ("classifier", LogisticRegression()),
        *(("classifier", name) for name in CLASSIFIERS),
        ("class_weight", "balanced"),
        *(("active_learning_strategy", strategy) for strategy in STRATEGIES),
        *(("embedding_loss_type", loss) for loss in LOSS_TYPES),
        *(("embedding_train_loader_type", loader) for loader in ("single", "balanced")),
    ],
)
def test_a_good_value_is_taken_as_it_is(name, value):
    assert getattr(RunConfig(**{name: value}), name) is value


def test_all_problems_are_told_at_once():
    problems = problems_of(active_batch=0, feat_dim=-1, use_pretrained="yes", classifier_params={"alpa": 1})
    assert [problem.split()[0].rstrip(":") for problem in problems] == [
        "active_batch",
        "use_pretrained",
        "feat_dim",
        "classifier_params",
    ]


@pytest.mark.parametrize(
    ("name", "typed", "offered"),
    [
        ("active_learning_strategy", "margn", "margin"),
        ("embedding_loss_type", "triplets", "triplet"),
        ("embedding_loss_data_strategy", "semihard", "semi_hard"),
        ("embedding_train_loader_type", "balance", "balanced"),
        ("classifier", "mpl", "mlp"),
        ("classifier", "mlp-fast", "mlp_fast"),
        ("class_weight", "balance", "balanced"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(name, typed, offered):
    (problem,) = problems_of(**{name: typed})
    assert f"(did you mean {offered!r}?)" in problem


def test_a_name_like_no_other_is_answered_with_all_of_them():
    (problem,) = problems_of(active_learning_strategy="xyz")
    assert all(repr(name) in problem for name in STRATEGIES)
    assert "did you mean" not in problem


@pytest.mark.parametrize("source", ["person", 3, str])
def test_what_cannot_answer_is_refused_with_all_that_can(source):
    (problem,) = problems_of(label_source=source)
    assert problem.startswith("label_source must be ")
    if source is not str:
        for way in ("'timelapse'", "'watch'", "'exit'", "CSV", ".ddb", "a function", "request_labels()", "None"):
            assert way in problem


def test_whatever_can_answer_is_a_label_source(tmp_path):
    (tmp_path / "truth.csv").touch()
    for source in (None, "timelapse", "watch", "exit", tmp_path / "truth.csv", lambda query: None, KnownLabels({})):
        RunConfig(label_source=source)


@pytest.mark.parametrize("classes", [[], ["deer", "deer"], [" deer"], [""], ["Skip"], "deer", [3]])
def test_classes_are_different_names_that_mean_nothing_else(classes):
    (problem,) = problems_of(classes=classes)
    assert "a list of different class names, without skip, unlabelled, unusable" in problem


@pytest.mark.parametrize("aliases", [["Roe deer"], {"Roe deer": ""}, {1: "deer"}])
def test_aliases_are_words_for_words(aliases):
    (problem,) = problems_of(class_aliases=aliases)
    assert "{'Roe deer': 'Roe_Deer'}" in problem


def test_initial_labels_must_be_there_at_the_first_start_and_stand_in_for_the_training_folder(tmp_path):
    unlabelled, file = tmp_path / "unlabelled", tmp_path / "labels.csv"
    unlabelled.mkdir()
    folders = {"train_data": None, "unlabelled_data": unlabelled, "output_dir": tmp_path / "run"}
    with pytest.raises(ConfigError, match=r"train_data must be .* Without it, give initial_labels"):
        RunConfig.from_arguments(folders)
    with pytest.raises(ConfigError, match="initial_labels must be the path of a file that exists"):
        RunConfig.from_arguments(folders | {"initial_labels": file})
    file.touch()
    RunConfig.from_arguments(folders | {"initial_labels": file})
    file.unlink()
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "run.sqlite").touch()
    RunConfig.from_arguments(folders | {"initial_labels": file})


@pytest.mark.parametrize("loss", LOSS_TYPES)
@pytest.mark.parametrize("strategy", LOSS_STRATEGIES)
def test_only_the_triplet_loss_refuses_hard_pair(loss, strategy):
    settings = {"embedding_loss_type": loss, "embedding_loss_data_strategy": strategy}
    if (loss, strategy) == ("triplet", "hard_pair"):
        (problem,) = problems_of(**settings)
        assert "'hard_pair' makes pairs" in problem
        assert "embedding_loss_type='siamese'" in problem
    else:
        RunConfig(**settings)


def test_a_round_cannot_ask_about_more_photos_than_there_are_candidates():
    (problem,) = problems_of(candidate_pool=99)
    assert problem.startswith("candidate_pool must be at least active_batch") and "99 and 100" in problem
    RunConfig(candidate_pool=99, active_batch=99)


def test_classifier_params_are_those_of_the_classifier():
    RunConfig(classifier_params={"alpha": 0.1, "max_iter": 5})
    RunConfig(classifier=RandomForestClassifier(), classifier_params={"n_estimators": 5})
    (problem,) = problems_of(classifier=RandomForestClassifier(), classifier_params={"alpha": 0.1, "max_depth": 3})
    assert problem.startswith("classifier_params: RandomForestClassifier has no setting 'alpha'. It has ")
    assert "n_estimators" in problem
    (problem,) = problems_of(classifier_params=[("alpha", 0.1)])
    assert problem.startswith("classifier_params must be a dict of names and values, or None; got [")


def test_classifier_params_need_a_classifier_that_takes_parameters():
    class Own:
        def predict_proba(self, embeddings):
            return embeddings

    (problem,) = problems_of(classifier=Own())
    assert "Own" in problem


@pytest.mark.parametrize("params", [{"alpha": "big"}, {"max_iter": 0}])
def test_values_of_classifier_params_are_checked_too(params):
    (problem,) = problems_of(classifier_params=params)
    assert next(iter(params)) in problem


@pytest.mark.parametrize("name", ["train_data", "unlabelled_data", "validation_data"])
@pytest.mark.parametrize("where", [".", ".."])
def test_a_run_folder_that_is_or_holds_a_data_folder_is_refused(tmp_path, name, where):
    (tmp_path / "photos").mkdir()
    (problem,) = problems_of(**{name: tmp_path / "photos", "output_dir": tmp_path / "photos" / where})
    assert problem.startswith(f"output_dir must not be {name}")


def test_a_file_of_weights_is_not_needed_any_more_when_a_run_is_resumed(tmp_path):
    (problem,) = problems_of(pretrained_weights=tmp_path / "gone.pth", output_dir=tmp_path / "run")
    assert problem.startswith("pretrained_weights must be the path of a file that exists")
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "run.sqlite").touch()
    RunConfig(pretrained_weights=tmp_path / "gone.pth", output_dir=tmp_path / "run")


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_number_beyond_all_floats_is_refused(value):
    (problem,) = problems_of(embedding_train_lr=value)
    assert problem.startswith("embedding_train_lr must be a number above 0")


def test_a_class_in_the_place_of_a_classifier_is_told_once_even_with_parameters():
    (problem,) = problems_of(classifier=LogisticRegression, classifier_params={"C": 1.0})
    assert problem.startswith("classifier must be ")


def test_a_strategy_is_given_by_name_or_as_an_object():
    own = MarginSampling()
    assert RunConfig(active_learning_strategy=own).strategy is own
    for name, strategy in STRATEGIES.items():
        assert type(RunConfig(active_learning_strategy=name).strategy) is strategy


def test_a_run_needs_both_folders_and_every_problem_is_listed_with_those_found_elsewhere(tmp_path):
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_arguments({"train_data": None, "feat_dim": 0}, also=["embedding_arch must be ..."])
    assert caught.value.problems == (
        "train_data must be the path of a folder that exists; got None. Without it, give initial_labels.",
        "unlabelled_data must be the path of a folder that exists; got None.",
        "feat_dim must be a whole number of at least 1; got 0. The default is 256.",
        "embedding_arch must be ...",
    )
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_arguments({"train_data": tmp_path / "a", "unlabelled_data": tmp_path})
    expected = f"train_data must be the path of a folder that exists; got {tmp_path / 'a'!r}."
    assert caught.value.problems == (expected,)  # and does not offer None, which a run cannot do with


def test_good_arguments_make_the_settings(tmp_path):
    config = RunConfig.from_arguments({"train_data": tmp_path, "unlabelled_data": str(tmp_path), "seed": 3})
    assert config == RunConfig(train_data=tmp_path, unlabelled_data=str(tmp_path), seed=3)


def test_folders_are_absolute_and_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    config = RunConfig(train_data="photos", unlabelled_data="~/photos", output_dir="~/run")
    assert config.path_of("train_data") == config.path_of("unlabelled_data") == tmp_path / "photos"
    assert config.path_of("validation_data") is None
    assert config.run_dir == tmp_path / "run"
    assert RunConfig().run_dir == tmp_path / "Active Learning Files"


def test_the_two_trainings_have_their_own_settings():
    config = RunConfig(embedding_train_lr=0.1, embedding_finetuning_num_epochs=3)
    training, finetuning = config.training, config.finetuning
    assert (training.name, training.lr, training.weight_decay, training.num_epochs, training.loader_type) == (
        "train",
        0.1,
        0.0005,
        5,
        "single",
    )
    assert (finetuning.name, finetuning.lr, finetuning.weight_decay, finetuning.num_epochs) == (
        "finetuning",
        0.0001,
        0,
        3,
    )
    assert finetuning.loader_type == "balanced"


def test_a_resumed_run_keeps_the_network_and_the_seed():
    # "Embedding model" is the group that the specification ignores on resume; the data folders may move.
    assert set(RunConfig().kept_settings()) == {
        "use_pretrained",
        "embedding_arch",
        "embedding_loss_type",
        "embedding_loss_margin",
        "embedding_loss_data_strategy",
        "feat_dim",
        "seed",
        # The first training is done when a run goes on, so that other settings of it could not take effect either.
        "embedding_train_lr",
        "embedding_train_weight_decay",
        "embedding_train_num_epochs",
        "embedding_train_loader_type",
        # The audit is drawn when a run begins.
        "audit_fraction",
        # And so is what is kept out of the training.
        "validation_split",
    }


def test_settings_are_told_as_people_write_them_but_not_where_things_lie():
    told = RunConfig(active_batch=np.int64(7), unlabelled_data=None, pretrained_weights=None).told_settings()
    assert (told["active_batch"], told["active_learning_strategy"]) == ("7", "'margin'")
    assert not told.keys() & {
        "unlabelled_data",
        "output_dir",
        "use_checkpoints",
        "rebuild",
        "refit",
        "feat_dim",
        "seed",
    }
    object_given = RunConfig(label_source=lambda query: None).told_settings()["label_source"]
    assert object_given == "function", "an address in memory would differ at each start"


def test_kept_settings_are_plain_values_also_when_numpy_gave_them():
    config = RunConfig(
        feat_dim=np.int64(32), embedding_loss_margin=np.float32(0.5), use_pretrained=np.bool_(True), seed=np.int32(4)
    )
    kept = config.kept_settings()
    assert json.loads(json.dumps(kept)) == kept
    assert (kept["feat_dim"], kept["embedding_loss_margin"], kept["use_pretrained"], kept["seed"]) == (32, 0.5, True, 4)


def test_a_seed_is_drawn_only_when_none_is_given():
    assert RunConfig(seed=0).with_seed().seed == 0
    drawn = {RunConfig().with_seed().seed for _ in range(8)}
    assert len(drawn) > 1
    assert all(isinstance(seed, int) and seed >= 0 for seed in drawn)


def test_the_generator_of_a_stage_is_reproducible_and_independent_of_all_others():
    def numbers(seed: int, stage: str, count: int) -> tuple[int, ...]:
        return tuple(RunConfig(seed=seed).generator(stage, count).integers(2**62, size=4))

    keys = [(seed, stage, count) for seed in (0, 1, 2**33) for stage in ("query", "train") for count in (0, 1, 2)]
    drawn = [numbers(*key) for key in keys]
    assert drawn == [numbers(*key) for key in keys]
    assert len(set(drawn)) == len(keys)


def test_generators_leave_the_global_one_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002  this is about the global generator
    RunConfig(seed=1).with_seed().generator("query", 1).random(10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_settings_cannot_be_changed_later():
    with pytest.raises(AttributeError):
        RunConfig().feat_dim = 3
