"""Ask a strategy of scikit-activeml or modAL about the arrays in a folder; `strategies.py` runs this in their Python.

    python benchmarks/strategies_peers.py scikit-activeml margin FOLDER 100

Imports nothing of this package. Prints one line of JSON: seconds and CPU seconds of each call, and the rows of
the first.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# As often as strategies.py asks this package, unless the calls take long.
N_CALLS, LONG_S = 20, 10


def main() -> None:
    """Run what the command line asks for."""
    peer, name, folder, batch = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    kinds = ("embeddings", "classes", "probabilities", "labelled", "unlabelled")
    arrays = {kind: np.load(folder / f"{kind}.npy") for kind in kinds}
    ask = {"modAL": modal, "scikit-activeml": scikit_activeml}[peer](name, arrays, batch)
    found: dict[str, Any] = {"wall_s": [], "cpu_s": []}
    while len(found["wall_s"]) < N_CALLS and sum(found["wall_s"]) < LONG_S:
        wall, cpu = time.perf_counter(), time.process_time()
        rows = ask()
        found["wall_s"].append(time.perf_counter() - wall)
        found["cpu_s"].append(time.process_time() - cpu)
        found.setdefault("first_rows", np.asarray(rows).tolist())
    print(json.dumps(found))


def modal(name: str, arrays: dict[str, np.ndarray], batch: int) -> Callable[[], np.ndarray]:
    """Prepare a strategy of modAL; it gets the unlabelled embeddings and a classifier that knows the answer."""
    from modAL.uncertainty import entropy_sampling, margin_sampling, uncertainty_sampling

    strategy = {"margin": margin_sampling, "entropy": entropy_sampling, "confidence": uncertainty_sampling}[name]
    unlabelled = arrays["unlabelled"]
    embeddings, given = arrays["embeddings"][unlabelled], arrays["probabilities"][unlabelled]

    class Given:
        def predict_proba(self, samples: np.ndarray) -> np.ndarray:
            return given

    def ask() -> np.ndarray:
        answer: Any = strategy(Given(), embeddings, n_instances=batch)
        # Releases differ in whether the scores come with the positions.
        return unlabelled[answer[0] if isinstance(answer, tuple) else answer]

    return ask


def scikit_activeml(name: str, arrays: dict[str, np.ndarray], batch: int) -> Callable[[], np.ndarray]:
    """Prepare a strategy of scikit-activeml; unlabelled rows are NaN among the targets."""
    from skactiveml import pool
    from skactiveml.base import SkactivemlClassifier

    embeddings, unlabelled, given = arrays["embeddings"], arrays["unlabelled"], arrays["probabilities"]
    targets = np.full(len(embeddings), np.nan)
    targets[arrays["labelled"]] = arrays["classes"][arrays["labelled"]]

    class Given(SkactivemlClassifier):
        def fit(self, samples: np.ndarray, targets: np.ndarray, sample_weight: Any = None) -> "Given":
            return self

        def predict_proba(self, samples: np.ndarray) -> np.ndarray:
            return given if len(samples) == len(given) else given[unlabelled]

    methods = {"margin": "margin_sampling", "entropy": "entropy", "confidence": "least_confident"}
    others = {
        "uniform": pool.RandomSampling,
        "kcenter": pool.CoreSet,
        "badge": pool.Badge,
        "typiclust": pool.TypiClust,
        "max_herding": pool.MaxHerding,
    }
    if name in methods:
        strategy = pool.UncertaintySampling(method=methods[name], random_state=0)
    else:
        strategy = others[name](random_state=0)
    with_classifier = name in methods or name == "badge"
    classifier = Given(classes=np.arange(given.shape[1]))
    extra = {"clf": classifier, "fit_clf": False} if with_classifier else {}
    return lambda: strategy.query(embeddings, targets, batch_size=batch, **extra)


if __name__ == "__main__":
    main()
