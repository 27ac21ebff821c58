"""`run_active_learning`: the algorithm, from the first training to the last answer."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from os import PathLike
from typing import Any

from camera_trap_al.active_learning_methods.base import QueryStrategy
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.network_graph import PhotoNetwork, network_graph
from camera_trap_al.deep_learning.network_problems import find_network_problems
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.export.problems import find_export_problems
from camera_trap_al.labelling.dialogue import say, told_at_interrupt
from camera_trap_al.labelling.sources import Reading, label_source_for
from camera_trap_al.logs import run_logging, timed
from camera_trap_al.pools import Role
from camera_trap_al.predictions import PREDICTIONS_FILE
from camera_trap_al.publishing import publish, publish_pool
from camera_trap_al.query import Answer, LabelSource, LabelSourceLike, Query
from camera_trap_al.round_figures import audit_of, why_stop
from camera_trap_al.run_result import RunResult
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.rebuild import open_run
from camera_trap_al.run_store.run_folder import faults_told
from camera_trap_al.start_screen import start_screen

__all__ = ["RunResult", "run_active_learning"]

logger = logging.getLogger(__name__)


def run_active_learning(
    train_data: str | PathLike[str] | None,
    unlabelled_data: str | PathLike[str],
    validation_data: str | PathLike[str] | None = None,
    validate_model: bool = True,
    use_checkpoints: bool = True,
    num_workers: int = 0,
    output_dir: str | PathLike[str] = "default",
    active_batch: int = 100,
    active_learning_strategy: str | QueryStrategy = "margin",
    use_pretrained: bool = True,
    embedding_arch: str = "resnet18",
    embedding_loss_type: str = "triplet",
    embedding_loss_margin: float = 1.0,
    embedding_loss_data_strategy: str = "random",
    feat_dim: int = 256,
    normalize_embedding: bool = True,
    extract_embedding_batch_size: int = 256,
    embedding_finetuning_period: int = 2000,
    embedding_finetuning_lr: float = 0.0001,
    embedding_finetuning_weight_decay: float = 0,
    embedding_finetuning_num_epochs: int = 20,
    embedding_finetuning_loader_type: str = "balanced",
    embedding_train_lr: float = 0.00001,
    embedding_train_weight_decay: float = 0.0005,
    embedding_train_num_epochs: int = 5,
    embedding_train_loader_type: str = "single",
    balanced_loader_num_classes: int = 20,
    balanced_loader_num_samples: int = 10,
    *,
    seed: int | None = None,
    device: str | None = None,
    pretrained_weights: str | PathLike[str] | None = None,
    label_source: LabelSourceLike | None = None,
    max_labels: int | None = None,
    classifier: str | Any = "mlp",
    classifier_params: Mapping[str, Any] | None = None,
    precision: str = "auto",
    candidate_pool: int | None = 20_000,
    predict_pool: str = "end",
    image_cache: str = "auto",
    image_cache_gb: float = 20.0,
    freeze_batchnorm: str | bool = "auto",
    finetuning_gate: bool = True,
    initial_labels: str | PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
    class_aliases: Mapping[str, str] | None = None,
    label_column: str = "Species",
    new_classes: str = "refuse",
    request_rows: str = "all",
    refit: str | None = None,
    rebuild: bool = False,
    accept_error: float = 0.05,
    audit_fraction: float | None = None,
    stop_when: Any = None,
    target_accuracy: float | None = None,
    class_weight: str | None = None,
    detections: str | PathLike[str] | None = None,
    detection_threshold: float = 0.2,
    detections_empty: str | None = None,
    group_by: str = "auto",
    sequence_gap: float = 60.0,
    sequence_pattern: str | None = None,
    site_level: int | None = None,
    sites: str | PathLike[str] | None = None,
    photo_times: str = "exif",
    propagate: str | None = None,
    validation_split: str | None = None,
) -> RunResult:
    """Train an image classifier, asking a person to label the photos that are worth it.

    Blocks until nothing is unlabelled, `max_labels` is met, or the person answers ``q``. A run that was stopped or
    killed goes on with the same question when it is called again with the same `output_dir`.

    Parameters
    ----------
    train_data
        Folder of labelled photos, in one subfolder per class. An empty subfolder declares a class. May be None with
        `initial_labels`.
    unlabelled_data
        Folder of the photos to choose from, in subfolders whose names mean nothing.
    validation_data
        Folder of labelled photos that only measure the model; its classes must be among those of `train_data`.
    validate_model
        Whether to test the model on the validation photos before each question and at the end.
    use_checkpoints
        Whether to go on with the run in `output_dir`; if False, a run that is there is moved aside.
    num_workers
        Threads that decode photos; 0 means one per core, at most 8. Processes are never started.
    output_dir
        The run folder; ``"default"`` is "Active Learning Files" in the working directory.
    active_batch
        Photos to ask about in each round.
    active_learning_strategy
        Name of a query strategy, or an object with ``select_batch``.
    use_pretrained
        Whether the network starts from the weights that torchvision has for it.
    embedding_arch
        Name of a torchvision classification model, as its builder is called.
    embedding_loss_type
        ``"softmax"``, ``"triplet"`` or ``"siamese"``.
    embedding_loss_margin
        Distance that a triplet or siamese loss wants between classes.
    embedding_loss_data_strategy
        Which triplets or pairs of a batch count: ``"hardest"``, ``"random"``, ``"semi_hard"``, or, with a siamese loss,
        ``"hard_pair"``. A siamese loss with any other is the triplet loss. Softmax ignores it.
    feat_dim
        Features that the network makes of each photo.
    normalize_embedding
        Whether each feature is scaled to 0..1 before classifier and strategy see it.
    extract_embedding_batch_size
        Photos per batch when embedding.
    embedding_finetuning_period
        Answers after which the network is trained again.
    embedding_finetuning_lr
        Learning rate of Adam when the network is trained again.
    embedding_train_lr
        Learning rate of Adam in the first training of the network.
    embedding_finetuning_weight_decay, embedding_train_weight_decay
        Weight decay of Adam.
    embedding_finetuning_num_epochs, embedding_train_num_epochs
        Epochs; 0 leaves the network as it is.
    embedding_finetuning_loader_type, embedding_train_loader_type
        ``"single"`` (each photo once, batches of 128) or ``"balanced"`` (equally many photos of each class).
    balanced_loader_num_classes
        Classes per balanced batch, at most those with a label.
    balanced_loader_num_samples
        Photos per class in a balanced batch.
    seed
        Makes a run repeatable on one machine; drawn, stored and logged if None.
    device
        ``"cpu"``, ``"cuda"``, ...; None takes a CUDA GPU if there is one that works.
    pretrained_weights
        File with a state dict of `embedding_arch` to start from, instead of torchvision's.
    label_source
        Who answers. None: a person who presses Enter when the labels are in the labels bin. ``"timelapse"``: a person
        whose labels are read from Timelapse's ``.ddb`` file beside the photos. ``"watch"``: the labels are taken as
        soon as they are in the bin. ``"exit"``: the program leaves with exit status 3 (`LabelsNeeded`) while labels are
        needed. The path of a CSV with known labels, or of a ``.ddb`` file. A function that is given a `Query` and
        returns a class name for each photo. Any object with ``request_labels``.
    max_labels
        Answers after which the run ends, over its life; the last batch is trimmed to it.
    classifier
        What tells classes apart by their features: ``"mlp"`` (a small neural network, which takes minutes to learn from
        some thousand labels), ``"mlp_fast"`` (the same in seconds), ``"logistic"`` (a logistic regression), or an
        object with ``predict_proba``, which may be any scikit-learn estimator that skl2onnx can convert.
    classifier_params
        Parameters of the classifier by name, in scikit-learn's terms.
    precision
        In what the network is trained and candidates are embedded: ``"fp32"``, ``"bf16"``, or ``"auto"``, which is bf16
        on a GPU if the embeddings stay nearly the same. Validation, predictions and export are always in fp32.
    candidate_pool
        Most photos that are decoded and embedded before each question for the strategy to choose from, drawn at random
        where there are more; None takes all.
    predict_pool
        Which photos are predicted, into ``predictions.csv`` and ``recognitions.json``: before each question the
        candidates, and at the ``"end"`` every unlabelled photo; all of them before each question too (``"rounds"``);
        or ``"never"`` any.
    accept_error
        The share of wrong species among the photos whose predicted species may be accepted without a look.
    audit_fraction
        The share of the unlabelled photos that are drawn at random, kept out of the training, and asked about little by
        little, the same share of each round but at least one photo, to tell how good the model is; None means 0.05
        without `validation_data` and 0 with it. It stays as it was when the run began.
    stop_when
        A function that is given the run's `Progress` before each question, and returns True to end the run, or the
        reason as text.
    target_accuracy
        The run ends when the lower end of the 95 % interval of the accuracy has reached this, on the validation photos,
        or else on at least 50 audit photos.
    class_weight
        ``"balanced"``: each class counts as much as any other when the classifier learns, however few labels it has;
        more photos of rare species are found then, and more are taken for one that are none. None: each label counts
        the same.
    detections
        File of MegaDetector or another program in its format: of each photo, the network sees a square around the box
        of the surest animal. Photos without such a box are seen whole.
    detection_threshold
        Confidence from which on a box counts, 0 to 1.
    detections_empty
        The class of unlabelled photos in which `detections` has no such box; nobody is asked about them, and nothing is
        learnt from them. None: they are photos like any other.
    group_by
        ``"sequence"``: at most one photo of a burst is asked about in a round, and none of a burst with a label while
        one without is left; ``"image"``: photos are asked about whatever burst they are of; ``"auto"``: the first if
        at least half of the photos have a time, or `sequence_pattern` is given.
    sequence_gap
        Seconds; photos of one site are a burst while each is taken less than that after the one before.
    sequence_pattern
        A regular expression that is looked for in file names: photos of one site are a burst if what the part in
        parentheses matches, or else the whole, is the same, as with ``(SEQ[0-9]+)_IMG`` in SEQ7510_IMG_0001.jpg. Photos
        in whose names it is not found are grouped by time.
    site_level
        Which folder of a photo's path names its site: 1 is the uppermost below `unlabelled_data`, or below the folder
        of a class. None: all its folders together.
    sites
        CSV that names sites, with the columns RelativePath (a folder, as Timelapse writes it), site and, where a folder
        holds photos of several, File.
    photo_times
        When a photo was taken: as the camera wrote it into the photo (``"exif"``), or, where it did not, as the file
        system says when the file was changed (``"file"``), which copying may falsify.
    propagate
        ``"sequence"``: a label counts, with less weight, for the photos of the same burst that look alike and are not
        surely something else. None: it counts for its photo alone.
    validation_split
        ``"site"`` or ``"sequence"``: without `validation_data`, about a fifth of the sites or bursts that have labels
        when the run begins are kept out of the training, to measure the model. None: `audit_fraction` does that.
    image_cache
        Where decoded photos are kept: in a file of the run folder (``"auto"``), in ``"memory"``, nowhere (``"off"``).
    image_cache_gb
        Most that is kept, in units of 1e9 bytes, about 5,000 photos each; beyond it photos are decoded again.
    freeze_batchnorm
        Whether the running statistics of batch normalisation stay as they are: ``"auto"`` (in batches of fewer than 32
        photos), True or False.
    finetuning_gate
        Whether a finetuned network is undone if it is worse on a fifth of the labelled photos, held out for that.
    initial_labels
        Labels of photos of `unlabelled_data` that exist already: a label CSV, the ``labels.csv`` of an earlier run, or
        a ``.ddb`` file. It is read when a run begins; these photos count as training photos.
    classes
        Names of classes besides the subfolders of `train_data`. If neither is given, the names in `initial_labels` are
        the classes.
    class_aliases
        Class name by the word that stands for it in label files, such as ``{"Roe deer": "Roe_Deer"}``.
    label_column
        Column of label files, or control of Timelapse, that holds the classes.
    new_classes
        What a name in a label file is that is no class: a fault (``"refuse"``), or a new class if the person says so
        (``"add"``).
    request_rows
        Photos that ``timelapse_selector.csv`` lists: ``"all"``, or the ``"changed"`` ones, whose selection is new or
        over; Timelapse leaves all others as they are.
    refit
        ``"pixel_stats"``: if photos have been added since the mean and standard deviation of the pixels were measured,
        they are measured anew, the network is finetuned with them, and all photos are embedded again.
    rebuild
        Whether the database of the run, which is damaged or gone, is first made anew from ``data/labels.csv`` and
        ``data/label_archive``. What is left of the old one is kept beside it.

    Returns
    -------
    How the run ended, and where the trained model is.

    Raises
    ------
    ConfigError
        If any argument cannot be used; all of them are listed.
    DataError
        If the folders cannot be used.
    LabelFileError
        If `initial_labels` or known labels cannot be used; every fault is listed.
    LabelsNeeded
        With ``label_source="exit"``, while labels are needed.
    CheckpointError
        If the run in `output_dir` cannot be continued, or another program works on it.
    RunFileError
        If a file of the run cannot be written or read: a full disk (`DiskFullError`), a drive that is gone.
    WeightsUnavailableError
        If pretrained weights cannot be had.
    KeyboardInterrupt
        If Ctrl-C is pressed; the run can be continued.

    Notes
    -----
    The method is that of Norouzzadeh et al. (2021), "A deep active learning system for species identification and
    counting in camera trap images", Methods in Ecology and Evolution 12(1).
    """
    arguments = dict(locals())
    config = RunConfig.from_arguments(
        arguments, also=[*find_network_problems(arguments), *find_export_problems(arguments)]
    )
    with (
        run_logging(),
        told_at_interrupt("Interrupted. No label is lost: start the same again, and it goes on where it stopped."),
        faults_told(config.run_dir),
        open_run(config) as store,
        timed() as seconds,
    ):
        while True:  # once, and again whenever the expert has added photos
            env = ActiveLearningEnvironment.start(store)
            with closing(env.dataset.cache):
                say(start_screen(env, store.folder))
                ended_because = _learn_and_ask(env, store, seconds)
                if ended_because:
                    return _finish(env, store, ended_because)


def _learn_and_ask(env: ActiveLearningEnvironment, store: RunStore, seconds: dict[str, float]) -> str | None:
    """Learn and ask, round by round; say why that ended, None if the photos have to be looked for again."""
    labels = _label_source(env, store)
    if isinstance(env.embedder, EmbeddingTrainer):
        network_graph(PhotoNetwork(env.embedder), store)  # tells before any training what cannot be exported
    while True:
        env.read_photos(store)  # those in use that are not decoded yet
        for update in env.stale_models():  # network, embeddings, classifier: what the labels outdated
            update()
            env.save(store)
        progress = publish(env, store, seconds)
        seconds.clear()
        ended_because = env.why_finished() or why_stop(progress, env.config)
        if ended_because:
            return ended_because
        query = replace(env.ask(store), advice=progress.advice)  # after a restart, about the same photos
        env.questions.tell_several_animals(query.rows)
        env.dataset.cache.close()  # until it is used again: nothing of the run is open while somebody labels
        answer = _answer(query, labels, store)
        if answer.stop:
            return "the expert stopped"
        if answer.look_again:
            return None
        env.apply(answer)
        if _has_nothing_but_skips(env, query, answer, store):
            return "only skipped photos are left"


def _label_source(env: ActiveLearningEnvironment, store: RunStore) -> LabelSource:
    config = store.config
    reading = Reading(
        label_column=config.label_column,
        class_aliases=config.class_aliases or {},
        new_classes=config.new_classes,
    )
    photo_folder = env.scans[Role.UNLABELLED].root
    return label_source_for(
        config.label_source, env.unlabelled_paths, photo_folder, store.folder, reading, config.request_rows
    )


def _answer(query: Query, labels: LabelSource, store: RunStore) -> Answer:
    """Have a query answered, and see to it that the answer was stored."""
    stored: list[Answer] = []

    def commit(answer: Answer) -> None:
        store.commit(query, answer)
        stored.append(answer)

    answer = labels.request_labels(query, commit)
    if not (answer.stop or answer.look_again or stored):
        raise ConfigError("label_source answered without calling commit(answer), so that nothing was stored.")
    return answer


def _has_nothing_but_skips(env: ActiveLearningEnvironment, query: Query, answer: Answer, store: RunStore) -> bool:
    """Whether every photo was skipped now and before, and so was every other one that has no label."""
    if answer.is_partial or len(answer.skipped) < len(query):
        return False
    before = frozenset(store.skipped_rows(1, query.round).tolist())
    return before.issuperset(answer.skipped) and before.issuperset(env.pools.to_ask.tolist())


def _finish(env: ActiveLearningEnvironment, store: RunStore, ended_because: str) -> RunResult:
    say(f"The run ends: {ended_because}. The trained model is in {store.folder / 'export'}")
    if env.config.predict_pool != "never" and len(env.pools.unlabelled) + len(env.pools.decided_empty):
        say("The photos that nobody labelled are predicted now. Ctrl-C stops that; the next start goes on with it.")
        publish_pool(env, store)
        say(f"The predictions are in {store.folder / PREDICTIONS_FILE}")
    return RunResult(
        labels_given=env.n_answers,
        rounds=store.n_rounds(),
        validation_history=tuple(store.validation_history()),
        export_dir=store.folder / "export",
        ended_because=ended_because,
        audit=audit_of(env),
    )
