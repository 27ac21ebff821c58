"""What every query strategy promises, as checks that can be run on a strategy of your own."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from camera_trap_al.active_learning_methods.base import PoolView, QueryStrategy
from camera_trap_al.exceptions import ConfigError, EmptyPoolError
from camera_trap_al.pools import UNLABELLED, FloatArray, IndexArray

__all__ = ["CONTRACT", "check_strategy"]

N_FEATURES = 5
N_CLASSES = 4
# Each of 40 equal images is missed by 60 draws of 5 with probability 0.0003.
TIED_IMAGES, TIED_BATCH, TIED_DRAWS = 40, 5, 60


def check_strategy(strategy: QueryStrategy) -> None:
    """Try a strategy on small pools, and say which promises of a query strategy it breaks.

    It takes seconds, and no photos or network::

        from camera_trap_al.active_learning_methods.contract import check_strategy

        check_strategy(MyStrategy())

    The promises, by number: (1) min(n, n_unlabelled) distinct unlabelled rows, int64; (2) n at or above the size of
    the pool gives the whole pool; (3) an empty pool is an EmptyPoolError, n below 1 a ConfigError; (4) the same state
    of the generator gives the same rows, also after the instance has seen another pool, and global generators stay
    untouched; (5) the arrays of the view stay unchanged; (6) hard pools work: one image, copies, nothing labelled
    yet, classes without a label, one labelled class, the last batches; (7) row numbers in any order and with gaps
    work; (8) images that tie to 1e-6 all have their turn.

    Parameters
    ----------
    strategy
        The instance that would be passed as `active_learning_strategy`.

    Raises
    ------
    ConfigError
        If a promise is broken; the message lists each.
    """
    if not isinstance(strategy, QueryStrategy):
        raise ConfigError(f"strategy must be an instance of a subclass of QueryStrategy; got {strategy!r}.")
    broken: list[str] = []
    causes: list[Exception] = []
    for promise, check in CONTRACT.items():
        try:
            broken += [f"{promise}: {problem}" for problem in check(strategy)]
        except Exception as error:  # whatever a strategy of somebody else raises is what they want to read
            broken.append(f"{promise}: it raised {type(error).__name__}: {error}")
            causes.append(error)
    if broken:
        listed = "".join(f"\n  - {line}" for line in broken)
        raise ConfigError(f"{type(strategy).__name__} breaks what a query strategy promises:{listed}") from (
            causes[0] if causes else None
        )


def _check_rows(strategy: QueryStrategy) -> Iterator[str]:
    for n in (1, 2, 17, 39):
        yield from _choice_problems(strategy, _make_view(), n)


def _check_whole_pool(strategy: QueryStrategy) -> Iterator[str]:
    for n in (40, 41, 10_000):
        yield from _choice_problems(strategy, _make_view(n_unlabelled=40), n)


def _check_errors(strategy: QueryStrategy) -> Iterator[str]:
    if not _raises(EmptyPoolError, strategy, _make_view(n_unlabelled=0), 5):
        yield "a pool with nothing unlabelled raises no EmptyPoolError."
    for n in (0, -3):
        if not _raises(ConfigError, strategy, _make_view(), n):
            yield f"n = {n} raises no ConfigError."


def _check_repeatable(strategy: QueryStrategy) -> Iterator[str]:
    before = random.getstate(), str(np.random.get_state())  # noqa: NPY002  the state of the global generator is the point
    first, again = (strategy.select_batch(_make_view(), 9, _rng(3)).tolist() for _ in range(2))
    if first != again:
        yield f"the same view and generator state gave rows {first} and then {again}."
    strategy.select_batch(_make_view(n_unlabelled=25, seed=8), 9, _rng(4))
    afterwards = strategy.select_batch(_make_view(), 9, _rng(3)).tolist()
    if first != afterwards:
        yield f"it gave rows {first}, and rows {afterwards} after it had seen another pool."
    if before != (random.getstate(), str(np.random.get_state())):  # noqa: NPY002  as above
        yield "it used a global random generator; draw from rng instead."


def _check_unchanged(strategy: QueryStrategy) -> Iterator[str]:
    view = _make_view()
    names = ("embeddings", "targets", "labelled", "unlabelled")
    before = {name: getattr(view, name).copy() for name in names} | {"probabilities": view.probabilities().copy()}
    for n in (9, 40):
        strategy.select_batch(view, n, _rng())[:] = -5  # what is returned must not be a part of the view either
    for name in names:
        if not np.array_equal(getattr(view, name), before[name], equal_nan=name == "embeddings"):
            yield f"view.{name} has changed."
    if not np.array_equal(view.probabilities(), before["probabilities"]):
        yield "view.probabilities() has changed."


def _check_hard_pools(strategy: QueryStrategy) -> Iterator[str]:
    copies = np.resize(np.arange(10, dtype=np.float32), (40, N_FEATURES))  # two different images, 20 times each
    certain = np.full((40, N_FEATURES), [60, 0, 0, 0, 0], dtype=np.float32)
    views = {
        "one unlabelled image": _make_view(n_unlabelled=1),
        "two unlabelled images": _make_view(n_unlabelled=2),
        "one labelled image": _make_view(n_labelled=1),
        "nothing labelled yet": _make_view(n_labelled=0),
        "copies of two images": _make_view(embeddings=copies),
        "equal images of one certain class": _make_view(embeddings=certain),
        "classes without a label": _make_view(present=(1, 3)),
        "one labelled class of several": _make_view(present=(2,)),
        "one class": _make_view(present=(0,), n_classes=1),
    }
    for what, view in views.items():
        for n in {1, min(11, len(view.unlabelled))}:
            yield from (f"{what}: {problem}" for problem in _choice_problems(strategy, view, n))
    yield from _check_rounds(strategy)


def _check_rounds(strategy: QueryStrategy) -> Iterator[str]:
    """Label batch after batch down to the last image."""
    view = _make_view()
    while len(view.unlabelled):
        chosen = strategy.select_batch(view, 7, _rng())
        problems = list(_rows_problems(view, 7, chosen))
        if problems:
            yield from (f"{len(view.unlabelled)} images left: {problem}" for problem in problems)
            return
        targets = view.targets.copy()
        targets[chosen] = np.resize(np.arange(N_CLASSES), len(chosen))
        labelled, unlabelled = np.concatenate([view.labelled, chosen]), np.setdiff1d(view.unlabelled, chosen)
        view = replace(view, targets=targets, labelled=labelled, unlabelled=unlabelled)


def _check_row_numbers(strategy: QueryStrategy) -> Iterator[str]:
    view = _make_view()
    for unlabelled in (np.sort(view.unlabelled), np.sort(view.unlabelled)[::-1]):
        yield from _choice_problems(strategy, replace(view, unlabelled=unlabelled), 9)


def _check_ties(strategy: QueryStrategy) -> Iterator[str]:
    jitter = _rng().uniform(-1e-7, 1e-7, (TIED_IMAGES, N_FEATURES)).astype(np.float32)
    alike = np.array([0.3, 0.1, 0, -0.2, 0], dtype=np.float32) + jitter
    # Nothing is labelled: images near a label may rightly be worth less than their twins.
    view = _make_view(n_unlabelled=TIED_IMAGES, n_labelled=0, embeddings=alike)
    seen: set[int] = set()
    for seed in range(TIED_DRAWS):
        seen.update(strategy.select_batch(view, TIED_BATCH, _rng(seed)).tolist())
    if len(seen) < TIED_IMAGES:
        yield (
            f"of {TIED_IMAGES} images that are equal to 1e-6, only {len(seen)} were ever chosen by {TIED_DRAWS} "
            f"generators for a batch of {TIED_BATCH}; let rng decide between equals."
        )


CONTRACT: dict[str, Callable[[QueryStrategy], Iterator[str]]] = {
    "(1) n distinct unlabelled rows": _check_rows,
    "(2) n at or above the pool gives the pool": _check_whole_pool,
    "(3) an empty pool and n below 1 are errors": _check_errors,
    "(4) same generator state, same rows": _check_repeatable,
    "(5) the view stays unchanged": _check_unchanged,
    "(6) hard pools work": _check_hard_pools,
    "(7) row numbers in any order work": _check_row_numbers,
    "(8) ties are broken by rng": _check_ties,
}


class _FeaturesAsLogits:
    """A classifier without training: the features are the logits of the classes that have labels."""

    def __init__(self, n_classes: int, present: tuple[int, ...]) -> None:
        self.n_classes = n_classes
        self.present = list(present)

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        powers = np.exp(embeddings[:, : len(self.present)])
        found = np.zeros((len(embeddings), self.n_classes), dtype=np.float32)
        found[:, self.present] = powers / powers.sum(axis=1, keepdims=True)
        return found


def _make_view(
    *,
    n_unlabelled: int = 40,
    n_labelled: int = 6,
    n_classes: int = N_CLASSES,
    present: tuple[int, ...] = (0, 1, 2, 3),
    embeddings: FloatArray | None = None,
    seed: int = 7,
) -> PoolView:
    """Make a pool with its rows in no order, every third row of the matrix in neither part, and NaN."""
    rng = _rng(seed)
    n_rows = 3 * (n_unlabelled + n_labelled) // 2 + 1
    rows = rng.permutation(n_rows)[: n_unlabelled + n_labelled].astype(np.int64)
    labelled, unlabelled = rows[:n_labelled], rows[n_labelled:]
    matrix = np.full((n_rows, N_FEATURES), np.nan, dtype=np.float32)
    matrix[rows] = rng.normal(size=(len(rows), N_FEATURES))
    if embeddings is not None:
        matrix[unlabelled] = embeddings
    targets = np.full(n_rows, UNLABELLED, dtype=np.int64)
    targets[labelled] = np.resize(present, n_labelled)
    return PoolView(
        embeddings=matrix,
        targets=targets,
        labelled=labelled,
        unlabelled=unlabelled,
        classes=tuple(f"class {i}" for i in range(n_classes)),
        classifier=_FeaturesAsLogits(n_classes, present),
    )


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _choice_problems(strategy: QueryStrategy, view: PoolView, n: int) -> Iterator[str]:
    yield from _rows_problems(view, n, strategy.select_batch(view, n, _rng()))


def _rows_problems(view: PoolView, n: int, chosen: IndexArray) -> Iterator[str]:
    expected = min(n, len(view.unlabelled))
    if not isinstance(chosen, np.ndarray) or chosen.dtype != np.int64 or chosen.shape != (expected,):
        yield f"n = {n} must give {expected} row numbers, a one-dimensional array of int64; got {chosen!r}."
    elif len(set(chosen.tolist()) & set(view.unlabelled.tolist())) < expected:
        yield f"n = {n} must give {expected} distinct rows of view.unlabelled; got {chosen.tolist()}."


def _raises(error: type[Exception], strategy: QueryStrategy, view: PoolView, n: int) -> bool:
    try:
        strategy.select_batch(view, n, _rng())
    except error:
        return True
    return False
