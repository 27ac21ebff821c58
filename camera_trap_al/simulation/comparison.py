"""`simulate`: the loop of a run with known labels, for several strategies and seeds."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from camera_trap_al.active_learning_methods.base import QueryStrategy
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.network_problems import find_network_problems
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.logs import only_warnings_of
from camera_trap_al.pools import FloatArray, IndexArray
from camera_trap_al.rules import one_of, share, whole
from camera_trap_al.simulation.known_photos import SimulationPhotos
from camera_trap_al.simulation.result import METRICS, YARDSTICK, SimulationResult
from camera_trap_al.statistics.bootstrap import ClassCounts

__all__ = ["SimulationResult", "rounds", "simulate"]

CHATTY = ("camera_trap_al.deep_learning.active_learning_manager", "camera_trap_al.classifier")
# What a simulation decides itself, or what has no meaning without a run folder and a person.
NOT_SETTINGS = {
    "train_data": "data",
    "unlabelled_data": "data",
    "validation_data": "data",
    "active_learning_strategy": "strategies",
    "seed": "seeds",
    "label_source": "truth",
    "candidate_pool": "candidate_shares",
}
# What a simulation has no use for: the network is trained once, nobody is asked, and it always goes to the end.
WITHOUT_EFFECT = {
    *("validate_model", "use_checkpoints", "rebuild", "refit", "audit_fraction", "stop_when", "target_accuracy"),
    *("embedding_finetuning_period", "embedding_finetuning_lr", "embedding_finetuning_weight_decay"),
    *("embedding_finetuning_num_epochs", "embedding_finetuning_loader_type", "finetuning_gate", "predict_pool"),
    *("request_rows", "initial_labels", "new_classes", "validation_split", "detections_empty"),
}


def simulate(
    data: str | PathLike[str],
    truth: str | PathLike[str] | Mapping[str, str],
    strategies: Sequence[str | QueryStrategy] | Mapping[str, str | QueryStrategy] = (YARDSTICK, "margin"),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    *,
    max_labels: int | None = None,
    initial_per_class: int | None = None,
    candidate_shares: Sequence[float] = (1.0,),
    metric: str = "macro_f1",
    embeddings: FloatArray | None = None,
    output_dir: str | PathLike[str] | None = None,
    **settings: Any,
) -> SimulationResult:
    """Try query strategies on photos whose labels are all known: the loop of a run, without a person.

    The network is trained once on the training photos, as at the start of a run, and all photos are embedded once; all
    strategies and seeds use these embeddings, and the network is not finetuned. Strategies are paired: with the same
    seed they begin with the same labels.

    Parameters
    ----------
    data
        Folder with the folders ``train`` and ``validation``, with a folder of photos for each class, and
        ``unlabelled``. Figures are honest only if the validation photos are of other places or nights than all others.
    truth
        What is on the unlabelled photos: the path of a CSV with the columns File, RelativePath and Species, or a
        mapping of class name by path below ``unlabelled``, separated by ``/``.
    strategies
        Names of query strategies, or objects with ``select_batch``; a mapping gives them names of its own.
        ``"uniform"``, with which all are compared, is added if it is missing.
    seeds
        One simulated run for each, of every strategy. With fewer than five, little can be said of chance.
    max_labels
        Answers after which a run ends; None goes on until every photo is labelled.
    initial_per_class
        How many training photos of each class a run begins with, drawn for each seed; None takes all of them, and then
        strategies that draw nothing at random give nearly the same run for each seed. The network itself learns from
        all of them, unless `embedding_train_num_epochs` is 0.
    candidate_shares
        Which shares of the unlabelled photos a strategy chooses from (``candidate_pool`` in a run), above 0 to 1, such
        as 0.25. Drawing at random is only done with all.
    metric
        Score that strategies are compared by: ``"macro_f1"``, ``"accuracy"`` or ``"balanced_accuracy"``.
    embeddings
        (n_photos, n_features), to use instead of a network: the photos of train, then unlabelled, then validation,
        each sorted by path.
    output_dir
        Folder for ``curves.csv``, ``summary.csv`` and ``learning_curves.png``; None writes nothing.
    **settings
        Any of the other settings of `run_active_learning`, such as `active_batch`, `embedding_arch`, `classifier` and
        `detections`.

    Returns
    -------
    Learning curves, and what they say of each strategy.

    Raises
    ------
    ConfigError
        If any argument cannot be used; all of them are listed.
    DataError
        If the folders cannot be used, such as without validation photos.
    LabelFileError
        If photos are missing in `truth`, or have an unknown class: all of them are listed.
    WeightsUnavailableError
        If pretrained weights cannot be had.
    """
    named = _named(strategies)
    config = _config(named, seeds, max_labels, initial_per_class, candidate_shares, metric, settings)
    if embeddings is not None and config.detections is not None:
        raise ConfigError("detections has no effect on embeddings that are given: leave one of the two out.")
    embeddings = None if embeddings is None else np.asarray(embeddings, np.float32)
    photos = SimulationPhotos.prepare(data, truth, replace(config, seed=int(seeds[0])), embeddings)
    arms = {(YARDSTICK, 1.0): None, **{(name, part): None for name in named for part in candidate_shares}}
    runs = [(name, part, seed) for seed in seeds for name, part in arms if name != YARDSTICK or part == 1]
    lines: list[dict[str, Any]] = []
    with tqdm(total=len(runs), desc="Simulated runs", unit="run") as bar, only_warnings_of(*CHATTY):
        for name, part, seed in runs:
            bar.set_postfix_str(name)
            # The setting wants at least a batch.
            n_candidates = None if part == 1 else max(config.active_batch, round(part * photos.n_unlabelled))
            one = replace(config, active_learning_strategy=named[name], seed=seed, candidate_pool=n_candidates)
            environment = photos.environment(one, initial_per_class)
            told = {"strategy": name, "candidates": float(part), "seed": seed}
            lines += [told | line for line in rounds(environment, photos.truth)]
            bar.update()
    result = SimulationResult.of(pd.DataFrame(lines), metric)
    if output_dir is not None:
        result.save(Path(output_dir))
    return result


def rounds(environment: ActiveLearningEnvironment, truth: IndexArray) -> Iterator[dict[str, float]]:
    """Run the loop to its end, answering from the truth.

    Parameters
    ----------
    environment
        A run at its start.
    truth
        (n_rows,) true class ids.

    Yields
    ------
    The figures of each round, the start included: labels, the scores, and seconds of choosing the labels before.
    """
    seconds = 0.0
    for round_number in range(1, len(truth) + 2):
        for update in environment.stale_models():
            update()
        rows = environment.tested
        predicted = environment.probabilities(rows).argmax(axis=1)
        yield {"labels": environment.n_answers, **_scores(truth[rows], predicted), "seconds": seconds}
        if environment.why_finished():
            return
        start = perf_counter()
        chosen = environment.choose_rows(round_number)
        seconds = perf_counter() - start
        environment.dataset.relabel(chosen, truth[chosen])


def _scores(true_ids: IndexArray, predicted_ids: IndexArray) -> dict[str, float]:
    n_classes = int(max(true_ids.max(), predicted_ids.max())) + 1
    right = true_ids[true_ids == predicted_ids]
    counts = ClassCounts(*(np.bincount(ids, minlength=n_classes) for ids in (true_ids, predicted_ids, right)))
    return {name: getattr(counts, name)() for name in METRICS}


def _named(strategies: Any) -> dict[str, Any]:
    if isinstance(strategies, str):
        strategies = [strategies]
    if not isinstance(strategies, Mapping):
        names = [each if isinstance(each, str) else type(each).__name__ for each in strategies]
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ConfigError(f"strategies must have different names; got {', '.join(repeated)} twice. Use a mapping.")
        strategies = dict(zip(names, strategies, strict=True))
    if strategies.get(YARDSTICK, YARDSTICK) != YARDSTICK:
        raise ConfigError(
            f"strategies must not give another strategy the name {YARDSTICK!r}, the one of the yardstick."
        )
    return {YARDSTICK: YARDSTICK, **strategies}


def _config(
    named: Mapping[str, Any],
    seeds: Sequence[int],
    max_labels: int | None,
    initial_per_class: int | None,
    candidate_shares: Sequence[float],
    metric: str,
    settings: Mapping[str, Any],
) -> RunConfig:
    """Check everything that can be checked before any work."""
    problems = list(_setting_problems(settings))
    known = {name: value for name, value in settings.items() if name in _setting_names()}
    if not len(seeds) or any(whole(0)(seed) for seed in seeds) or len(set(seeds)) < len(seeds):
        problems.append(f"seeds must be different whole numbers, at least one, each at least 0; got {seeds!r}.")
    if initial_per_class is not None and (rule := whole(1)(initial_per_class)):
        problems.append(f"initial_per_class must be {rule}, or None; got {initial_per_class!r}.")
    if not candidate_shares or any(share(1.0)(each) or each <= 0 for each in candidate_shares):
        problems.append(f"candidate_shares must be numbers above 0, at most 1, such as 0.25; got {candidate_shares!r}.")
    if rule := one_of(METRICS)(metric):
        problems.append(f"metric must be {rule}; got {metric!r}.")
    checked = {"max_labels": max_labels, "candidate_pool": None, **known}
    defaults = {each.name: each.default for each in fields(RunConfig)}
    problems += find_network_problems(defaults | known)
    for strategy in named.values():
        try:
            config = RunConfig(active_learning_strategy=strategy, **checked)
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError([problem.replace("active_learning_strategy", "strategies") for problem in problems])
    return config


def _setting_names() -> set[str]:
    return {each.name for each in fields(RunConfig)} - set(NOT_SETTINGS) - {"max_labels"}


def _setting_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in settings:
        if name in NOT_SETTINGS:
            yield f"{name} is no setting of a simulation: use {NOT_SETTINGS[name]}."
        elif name in WITHOUT_EFFECT:
            yield f"{name} is no setting of a simulation, since it would have no effect: leave it out."
        elif name not in _setting_names():
            near = get_close_matches(name, _setting_names(), n=1)
            yield f"{name} is no setting of a run." + (f" Did you mean {near[0]}?" if near else "")
