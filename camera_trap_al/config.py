"""Every setting of a run: its default, its rule, and whether a resumed run keeps the old value."""

import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al.active_learning_methods import STRATEGIES
from camera_trap_al.active_learning_methods.base import QueryStrategy
from camera_trap_al.estimators import CLASS_WEIGHTS, CLASSIFIERS, can_weigh, new_estimator
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.photos.folders import RUN_DATABASE
from camera_trap_al.photos.image_cache import CACHE_MODES
from camera_trap_al.query import LabelSourceLike
from camera_trap_al.rules import (
    a_class_name,
    a_file,
    a_function,
    a_label_source,
    a_name,
    a_path,
    a_pattern,
    answers_yes,
    any_path,
    boolean,
    boolean_or,
    broken_rules,
    class_list,
    existing_folder,
    has_method,
    if_given,
    names_by_name,
    number,
    one_of,
    optional,
    setting,
    share,
    whole,
)

__all__ = ["LOSS_STRATEGIES", "LOSS_TYPES", "RunConfig", "TrainingStage"]

LOSS_TYPES = ("softmax", "triplet", "siamese")
LOSS_STRATEGIES = ("hardest", "random", "semi_hard", "hard_pair")
LOADER_TYPES = ("single", "balanced")
PRECISIONS = ("auto", "fp32", "bf16")
PREDICT_POOL = ("end", "rounds", "never")
NEW_CLASSES = ("refuse", "add")
REQUEST_ROWS = ("all", "changed")
REFITS = ("pixel_stats",)
GROUP_BY = ("auto", "sequence", "image")
PHOTO_TIMES = ("exif", "file")
PROPAGATE = ("sequence",)
VALIDATION_SPLITS = ("site", "sequence")
# What belongs to one start, or to where things lie, and is no change of the run.
OF_ONE_START = {
    *("train_data", "unlabelled_data", "validation_data", "detections", "sites", "output_dir"),
    *("use_checkpoints", "refit", "rebuild"),
}
DEFAULT_FOLDER = "Active Learning Files"
AUDIT_WITHOUT_VALIDATION = 0.05


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """How the embedding network is trained once: at first ("train") or after answers ("finetuning")."""

    name: str
    lr: float
    weight_decay: float
    num_epochs: int
    loader_type: str


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The arguments of `run_active_learning`, checked together.

    The fields are the arguments, under the same names; `run_active_learning` documents them. The parts of the package
    that can be used without a run take a `RunConfig` too: every field has a default. Settings that are `kept` stay as
    they were when the run began; those of the `first_start` are files that no later start needs.

    Raises
    ------
    ConfigError
        If any value breaks its rule; the error lists every one that does.
    """

    train_data: str | PathLike[str] | None = setting(None, if_given(existing_folder))
    unlabelled_data: str | PathLike[str] | None = setting(None, if_given(existing_folder))
    validation_data: str | PathLike[str] | None = setting(None, optional(existing_folder))
    validate_model: bool = setting(True, boolean)
    use_checkpoints: bool = setting(True, boolean)
    num_workers: int = setting(0, whole(0))
    output_dir: str | PathLike[str] = setting("default", any_path)
    active_batch: int = setting(100, whole(1))
    active_learning_strategy: str | QueryStrategy = setting("margin", has_method("select_batch", STRATEGIES))
    use_pretrained: bool = setting(True, boolean, kept=True)
    embedding_arch: str = setting("resnet18", lambda value: None, kept=True)  # deep_learning knows the names
    embedding_loss_type: str = setting("triplet", one_of(LOSS_TYPES), kept=True)
    embedding_loss_margin: float = setting(1.0, number(above=0), kept=True)
    embedding_loss_data_strategy: str = setting("random", one_of(LOSS_STRATEGIES), kept=True)
    feat_dim: int = setting(256, whole(1), kept=True)
    normalize_embedding: bool = setting(True, boolean)
    extract_embedding_batch_size: int = setting(256, whole(1))
    embedding_finetuning_period: int = setting(2000, whole(1))
    embedding_finetuning_lr: float = setting(0.0001, number(above=0))
    embedding_finetuning_weight_decay: float = setting(0, number())
    embedding_finetuning_num_epochs: int = setting(20, whole(0))
    embedding_finetuning_loader_type: str = setting("balanced", one_of(LOADER_TYPES))
    embedding_train_lr: float = setting(0.00001, number(above=0), kept=True)
    embedding_train_weight_decay: float = setting(0.0005, number(), kept=True)
    embedding_train_num_epochs: int = setting(5, whole(0), kept=True)
    embedding_train_loader_type: str = setting("single", one_of(LOADER_TYPES), kept=True)
    balanced_loader_num_classes: int = setting(20, whole(1))
    balanced_loader_num_samples: int = setting(10, whole(1))
    seed: int | None = setting(None, optional(whole(0)), kept=True)
    device: str | None = setting(None, lambda value: None)  # deep_learning knows what is there
    pretrained_weights: str | PathLike[str] | None = setting(None, optional(a_path), first_start=True)
    label_source: LabelSourceLike | None = setting(None, optional(a_label_source))
    max_labels: int | None = setting(None, optional(whole(0)))
    classifier: str | Any = setting("mlp", has_method("predict_proba", CLASSIFIERS))
    classifier_params: Mapping[str, Any] | None = setting(None, lambda value: None)
    precision: str = setting("auto", one_of(PRECISIONS))
    candidate_pool: int | None = setting(20_000, optional(whole(1)))
    predict_pool: str = setting("end", one_of(PREDICT_POOL))
    image_cache: str = setting("auto", one_of(CACHE_MODES))
    image_cache_gb: float = setting(20.0, number())
    freeze_batchnorm: str | bool = setting("auto", boolean_or("auto"))
    finetuning_gate: bool = setting(True, boolean)
    initial_labels: str | PathLike[str] | None = setting(None, optional(a_path), first_start=True)
    classes: Sequence[str] | None = setting(None, optional(class_list))
    class_aliases: Mapping[str, str] | None = setting(None, optional(names_by_name))
    label_column: str = setting("Species", a_name)
    new_classes: str = setting("refuse", one_of(NEW_CLASSES))
    request_rows: str = setting("all", one_of(REQUEST_ROWS))
    refit: str | None = setting(None, optional(one_of(REFITS)))
    rebuild: bool = setting(False, boolean)
    accept_error: float = setting(0.05, share(0.5))
    audit_fraction: float | None = setting(None, optional(share(0.5)), kept=True)
    stop_when: Callable[[Any], Any] | None = setting(None, optional(a_function))
    target_accuracy: float | None = setting(None, optional(share(1)))
    class_weight: str | None = setting(None, optional(one_of(CLASS_WEIGHTS)))
    detections: str | PathLike[str] | None = setting(None, optional(a_file))
    detection_threshold: float = setting(0.2, share(1))
    detections_empty: str | None = setting(None, optional(a_class_name))
    group_by: str = setting("auto", one_of(GROUP_BY))
    sequence_gap: float = setting(60.0, number(above=0))
    sequence_pattern: str | None = setting(None, optional(a_pattern))
    site_level: int | None = setting(None, optional(whole(1)))
    sites: str | PathLike[str] | None = setting(None, optional(a_file))
    photo_times: str = setting("exif", one_of(PHOTO_TIMES))
    propagate: str | None = setting(None, optional(one_of(PROPAGATE)))
    validation_split: str | None = setting(None, optional(one_of(VALIDATION_SPLITS)), kept=True)

    def __post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise ConfigError(problems)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any], *, also: Sequence[str] = ()) -> "RunConfig":
        """Check the arguments of a run all together.

        Parameters
        ----------
        arguments
            Values by name.
        also
            Problems that were found where this module cannot look: in the network's name, in the device.

        Raises
        ------
        ConfigError
            Listing every problem, `also` included.
        """
        unchecked = object.__new__(cls)
        for each in fields(cls):
            object.__setattr__(unchecked, each.name, arguments.get(each.name, each.default))
        missing = [
            f"{name} must be the path of a folder that exists; got None."
            + (" Without it, give initial_labels." if name == "train_data" else "")
            for name in ("train_data", "unlabelled_data")
            if arguments.get(name) is None and not (name == "train_data" and arguments.get("initial_labels"))
        ]
        problems = [*missing, *unchecked.problems(), *also]
        if problems:
            raise ConfigError(problems)
        return cls(**arguments)

    def problems(self) -> list[str]:
        """Say what is wrong with the values, one sentence each."""
        found = broken_rules(self)
        if self.embedding_loss_type == "triplet" and self.embedding_loss_data_strategy == "hard_pair":
            found.append(
                "embedding_loss_data_strategy 'hard_pair' makes pairs, and embedding_loss_type 'triplet' needs "
                "triplets. Use embedding_loss_type='siamese', or one of 'hardest', 'random', 'semi_hard'."
            )
        if not _is_enough(self.candidate_pool, self.active_batch):
            found.append(
                f"candidate_pool must be at least active_batch, since each round asks about candidates; got "
                f"{self.candidate_pool} and {self.active_batch}."
            )
        if self.validation_split is not None and self.validation_data is not None:
            found.append(
                f"validation_split={self.validation_split!r} makes validation photos where there are none, and "
                "validation_data is given. Leave one of them out."
            )
        return [*found, *self._folder_problems(), *self._classifier_problems()]

    def _folder_problems(self) -> Iterator[str]:
        """Say which files and folders do not go together; those that are no paths at all are told by their rules."""
        if any_path(self.output_dir):
            return
        for name in ("train_data", "unlabelled_data", "validation_data"):
            folder = None if existing_folder(getattr(self, name)) else self.path_of(name)
            if folder is not None and folder.resolve().is_relative_to(self.run_dir.resolve()):
                yield (
                    f"output_dir must not be {name} or a folder around it, since the run's own files would mix with "
                    f"the photos; got {str(self.run_dir)!r}. Give the run a folder of its own."
                )
        # A run that is resumed needs these files no more.
        resumes = self.use_checkpoints and answers_yes((self.run_dir / RUN_DATABASE).exists)
        decides = self.detections_empty is not None and not a_class_name(self.detections_empty)
        if decides and self.detections is None and not resumes:
            yield (
                f"detections_empty={self.detections_empty!r} needs detections, the file that says in which photos no "
                "animal is. Give it too, or leave detections_empty out."
            )
        for name in ("pretrained_weights", "initial_labels"):
            file = None if a_path(getattr(self, name)) else self.path_of(name)
            if file is not None and not file.is_file() and not resumes:
                yield f"{name} must be the path of a file that exists; got {str(file)!r}."

    def _classifier_problems(self) -> list[str]:
        if not isinstance(self.classifier_params, Mapping | None):
            return [f"classifier_params must be a dict of names and values, or None; got {self.classifier_params!r}."]
        rules = (
            has_method("predict_proba", CLASSIFIERS)(self.classifier),
            optional(one_of(CLASS_WEIGHTS))(self.class_weight),
        )
        if any(rules):  # which have told it already
            return []
        try:
            new_estimator(self.classifier, self.classifier_params or {}, seed=0, class_weight=self.class_weight)
        except ConfigError as error:
            return list(error.problems)
        if self.propagate is not None and not can_weigh(self.classifier):
            return [
                f"propagate={self.propagate!r} cannot be used with classifier={type(self.classifier).__name__}, whose "
                "fit() takes no sample_weight. Use propagate=None, or one of "
                f"{', '.join(map(repr, CLASSIFIERS))} as the classifier."
            ]
        return []

    @property
    def run_dir(self) -> Path:
        """The run folder, absolute."""
        chosen = DEFAULT_FOLDER if self.output_dir == "default" else self.output_dir
        return Path(chosen).expanduser().absolute()

    @property
    def audit_share(self) -> float:
        """The share of the unlabelled photos, and of each round, that only measures the model."""
        if self.audit_fraction is not None:
            return self.audit_fraction
        return AUDIT_WITHOUT_VALIDATION if self.validation_data is None and self.validation_split is None else 0.0

    @property
    def training(self) -> TrainingStage:
        """How the network is trained at the start, on the training set."""
        return self._stage("train")

    @property
    def finetuning(self) -> TrainingStage:
        """How the network is trained again after `embedding_finetuning_period` answers."""
        return self._stage("finetuning")

    def _stage(self, name: str) -> TrainingStage:
        parts = ("lr", "weight_decay", "num_epochs", "loader_type")
        return TrainingStage(name=name, **{part: getattr(self, f"embedding_{name}_{part}") for part in parts})

    @property
    def strategy(self) -> QueryStrategy:
        """The query strategy itself, whether it was given by name or as an object."""
        chosen = self.active_learning_strategy
        return STRATEGIES[chosen]() if isinstance(chosen, str) else chosen

    @property
    def classifier_settings(self) -> str:
        """Everything that decides the classifier besides its data and the seed, to be compared."""
        settings = self.classifier, self.classifier_params, self.normalize_embedding
        # As earlier versions wrote it where possible: their classifiers need not be fitted again.
        return repr(settings if self.class_weight is None else (*settings, self.class_weight))

    def path_of(self, name: str) -> Path | None:
        """Give the setting `name`, a file or folder, as an absolute path; None if it was not given."""
        value = getattr(self, name)
        return None if value is None else Path(value).expanduser().absolute()

    def kept_settings(self) -> dict[str, Any]:
        """List the settings that a resumed run keeps, as plain values."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self) if each.metadata.get("kept")}

    def told_settings(self) -> dict[str, str]:
        """Say each setting that is neither kept nor of one start only, as people would write it."""
        return {
            each.name: _told(self.path_of(each.name) if each.metadata.get("first_start") else getattr(self, each.name))
            for each in fields(self)
            if not each.metadata.get("kept") and each.name not in OF_ONE_START
        }

    def first_start_settings(self) -> frozenset[str]:
        """Name the settings that only the first start of a run needs."""
        return frozenset(each.name for each in fields(self) if each.metadata.get("first_start"))

    def with_seed(self) -> "RunConfig":
        """Draw a seed if none was given."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(2**31))

    def generator(self, stage: str, count: int) -> np.random.Generator:
        """Derive the random numbers of one stage at one point of the run.

        Parameters
        ----------
        stage
            What they are for; different stages get independent numbers.
        count
            How far the run is: the round, or the number of answers.
        """
        return np.random.default_rng([self.seed or 0, zlib.crc32(stage.encode()), count])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _told(value: Any) -> str:
    if isinstance(value, PathLike):
        return repr(str(value))
    told = repr(_plain(value))
    return type(value).__name__ if " at 0x" in told else told  # where an object lies in memory says nothing


def _is_enough(candidate_pool: Any, active_batch: Any) -> bool:
    """Compare what their own rules accept; the rest is told by these."""
    if whole(1)(candidate_pool) or whole(1)(active_batch):
        return True
    return bool(candidate_pool >= active_batch)
