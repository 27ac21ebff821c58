"""Time and memory of every query strategy on made data, and side by side with other packages.

    python benchmarks/strategies.py                               # the whole table
    python benchmarks/strategies.py --only kcenter badge          # some strategies
    python benchmarks/strategies.py --peers --peer-python PATH    # against scikit-activeml and modAL, installed there
    python benchmarks/strategies.py --quick                       # small pools, to see that it runs

Each strategy runs in a process of its own, which loads the arrays and is asked for 100 images three times; between the
calls the chosen ones get their labels. Side by side, everybody is asked about the same arrays up to 20 times. Wall time
is what must hold; the CPU seconds beside it show how much of it was waiting for a busy machine. Memory is the highest
resident size of the process less what it was with the pool loaded.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scipy
import sklearn
from memory import peak_memory

from camera_trap_al.active_learning_methods import STRATEGIES, PoolView, QueryStrategy
from camera_trap_al.pools import UNLABELLED, FloatArray

N_FEATURES, N_CLASSES, BATCH, N_CALLS = 256, 20, 100, 3
N_CALLS_SIDE_BY_SIDE, LONG_S = 20, 10  # as strategies_peers.py
QUICK_DIVISOR, QUICK_DIVISOR_OF_PEERS = 100, 10
ROWS_PER_STEP = 16_384
PEERS = Path(__file__).with_name("strategies_peers.py")
# The names by which the peers know what both have; the first three are defined the same everywhere.
SHARED = {
    "margin": ("modAL", "scikit-activeml"),
    "entropy": ("modAL", "scikit-activeml"),
    "confidence": ("modAL", "scikit-activeml"),
    "uniform": ("scikit-activeml",),
    "kcenter": ("scikit-activeml",),
    "badge": ("scikit-activeml",),
    "typiclust": ("scikit-activeml",),
    "max_herding": ("scikit-activeml",),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A pool, who is asked about it, and what it may cost."""

    n_rows: int
    n_labelled: int
    strategies: tuple[str, ...]
    first_s: float
    later_s: float
    memory_gb: float


ON_PROBABILITIES = ("uniform", "margin", "entropy", "confidence", "tail_first")
THREE_COPIES = 3 * 950_000 * N_CLASSES * 4 / 1e9
TASKS = (
    Task(
        n_rows=1_000_000,
        n_labelled=50_000,
        strategies=ON_PROBABILITIES,
        first_s=2,
        later_s=2,
        memory_gb=THREE_COPIES,
    ),
    Task(n_rows=1_000_000, n_labelled=5_000, strategies=("kcenter",), first_s=60, later_s=60, memory_gb=3),
    Task(
        n_rows=50_000,
        n_labelled=5_000,
        strategies=tuple(name for name in STRATEGIES if name not in (*ON_PROBABILITIES, "kcenter")),
        first_s=120,
        later_s=10,
        memory_gb=4,
    ),
)
SIDE_BY_SIDE = (20_000, 2_000)


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenPool(PoolView):
    """A pool whose probabilities exist already."""

    given: FloatArray

    def probabilities(self) -> FloatArray:
        """Return what was given."""
        return self.given


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=list(STRATEGIES), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="pools 100 times smaller (side by side: 10 times)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", action="store_true", help="side by side instead of the table")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has scikit-activeml and modAL")
    parser.add_argument("--peer-timeout", type=float, default=600, help="seconds that a peer may take")
    parser.add_argument("--child", nargs=3, metavar=("NAME", "FOLDER", "SEED"), help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        name, folder, seed = chosen.child
        print(json.dumps((measure_again if chosen.again else measure)(name, Path(folder), int(seed))))
        return
    print_machine(chosen)
    if chosen.peers:
        compare_with_peers(chosen)
    else:
        print_table(chosen)


def print_machine(chosen: argparse.Namespace) -> None:
    """Print what the figures depend on."""
    print(f"{platform.platform()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    print(f"{chosen.threads} threads, {load}Python {platform.python_version()}, numpy {np.__version__}, ", end="")
    print(f"scipy {scipy.__version__}, scikit-learn {sklearn.__version__}")
    print(f"{N_FEATURES} features, {N_CLASSES} classes, float32, batch {BATCH}, seed {chosen.seed}", flush=True)


def print_table(chosen: argparse.Namespace) -> None:
    """Measure every strategy on its pool and print figures and shares of what they may be."""
    divisor = QUICK_DIVISOR if chosen.quick else 1
    print("\n| strategy | pool | labelled | first call s (CPU s) | later calls s (CPU s) | extra GB | ", end="")
    print("share of the limits: first, later, memory | holds |\n|---|---|---|---|---|---|---|---|", flush=True)
    for task in TASKS:
        names = [name for name in task.strategies if name in chosen.only]
        if not names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make_pool(Path(folder), task.n_rows // divisor, task.n_labelled // divisor, chosen.seed)
            for name in names:
                print(table_row(name, task, divisor, run_child(name, Path(folder), chosen)), flush=True)


def table_row(name: str, task: Task, divisor: int, found: dict[str, Any]) -> str:
    """Write one line of the table."""
    wall, cpu = found["wall_s"], found["cpu_s"]
    measured = (wall[0], max(wall[1:]), found["extra_gb"])
    shares = [value / most for value, most in zip(measured, (task.first_s, task.later_s, task.memory_gb), strict=True)]
    cells = (
        name,
        f"{task.n_rows // divisor:,}",
        f"{task.n_labelled // divisor:,}",
        f"{measured[0]:.3f} ({cpu[0]:.3f})",
        f"{measured[1]:.3f} ({max(cpu[1:]):.3f})",
        f"{measured[2]:.3f}",
        ", ".join(f"{share:.0%}" for share in shares),
        "yes" if max(shares) < 1 else "NO",
    )
    return f"| {' | '.join(cells)} |"


def compare_with_peers(chosen: argparse.Namespace) -> None:
    """Give the same arrays to this package and to the peers; print times, ratios and equal rows."""
    n_rows, n_labelled = (size // (QUICK_DIVISOR_OF_PEERS if chosen.quick else 1) for size in SIDE_BY_SIDE)
    print(f"\nSide by side: {n_rows:,} images, {n_labelled:,} labelled, median of up to {N_CALLS_SIDE_BY_SIDE} calls\n")
    print(
        "| strategy | here s (CPU s) | peer | peer s (CPU s) | times faster | equal rows |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        make_pool(folder, n_rows, n_labelled, chosen.seed)
        for name in (name for name in SHARED if name in chosen.only):
            here = run_child(name, folder, chosen, "--again")
            for peer in SHARED[name]:
                print(peer_row(name, here, peer, run_peer(name, peer, folder, chosen)), flush=True)


def peer_row(name: str, here: dict[str, Any], peer: str, there: dict[str, Any] | str) -> str:
    """Write one line of the comparison; `there` is text when the peer gave no answer."""
    ours = f"{median(here['wall_s']):.4f} ({median(here['cpu_s']):.4f})"
    if isinstance(there, str):
        return f"| {name} | {ours} | {peer} | {there} | | |"
    theirs = f"{median(there['wall_s']):.4f} ({median(there['cpu_s']):.4f})"
    ratio = median(there["wall_s"]) / median(here["wall_s"])
    equal = len(set(here["first_rows"]) & set(there["first_rows"])) / len(here["first_rows"])
    return f"| {name} | {ours} | {peer} | {theirs} | {ratio:.1f} | {equal:.0%} |"


def make_pool(folder: Path, n_rows: int, n_labelled: int, seed: int) -> None:
    """Write a mixture of Gaussians, scaled to 0..1, a few classes common and many rare, with probabilities to match."""
    rng = np.random.default_rng(seed)
    frequencies = 1 / np.arange(1, N_CLASSES + 1)
    classes = rng.choice(N_CLASSES, n_rows, p=frequencies / frequencies.sum())
    centres = rng.random((N_CLASSES, N_FEATURES), dtype=np.float32)
    embeddings = np.empty((n_rows, N_FEATURES), dtype=np.float32)
    probabilities = np.empty((n_rows, N_CLASSES), dtype=np.float32)
    for part in parts(n_rows):
        noise = rng.standard_normal((len(classes[part]), N_FEATURES), dtype=np.float32)
        embeddings[part] = centres[classes[part]] + noise / 4
        # Far flatter than the true ones, which would be 0 and 1, and blurred, so that some images are hard.
        logits = embeddings[part] @ centres.T - (centres**2).sum(axis=1) / 2
        logits = logits / 5 + rng.standard_normal(logits.shape, dtype=np.float32)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[part] = powers / powers.sum(axis=1, keepdims=True)
    lowest, highest = embeddings.min(axis=0), embeddings.max(axis=0)
    for part in parts(n_rows):
        embeddings[part] = (embeddings[part] - lowest) / (highest - lowest)
    order = rng.permutation(n_rows)
    arrays = {"embeddings": embeddings, "classes": classes, "probabilities": probabilities}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "labelled.npy", np.sort(order[:n_labelled]))
    np.save(folder / "unlabelled.npy", np.sort(order[n_labelled:]))


def parts(n: int) -> Iterator[slice]:
    """Cut `n` rows into pieces that fit the memory of a small machine."""
    return (slice(start, start + ROWS_PER_STEP) for start in range(0, n, ROWS_PER_STEP))


def measure(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Ask one strategy in this process, which must be new: the highest resident size never falls."""
    arrays = load_pool(folder)
    strategy = STRATEGIES[name]()
    found: dict[str, Any] = {"wall_s": [], "cpu_s": []}
    loaded = None
    for call in range(N_CALLS):
        view = view_of(arrays)
        loaded = loaded or peak_memory()
        rows = timed_choice(strategy, view, seed, call, found)
        found["extra_gb"] = (peak_memory() - loaded) / 1e9
        arrays["labelled"] = np.append(arrays["labelled"], rows)
        arrays["unlabelled"] = np.setdiff1d(arrays["unlabelled"], rows)
        del view
    return found


def measure_again(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Ask a new instance of one strategy about the same pool again and again."""
    view = view_of(load_pool(folder))
    found: dict[str, Any] = {"wall_s": [], "cpu_s": []}
    while len(found["wall_s"]) < N_CALLS_SIDE_BY_SIDE and sum(found["wall_s"]) < LONG_S:
        timed_choice(STRATEGIES[name](), view, seed, 0, found)
    return found


def load_pool(folder: Path) -> dict[str, np.ndarray]:
    """Read what `make_pool` wrote."""
    kinds = ("embeddings", "classes", "probabilities", "labelled", "unlabelled")
    return {kind: np.load(folder / f"{kind}.npy") for kind in kinds}


def view_of(arrays: dict[str, np.ndarray]) -> GivenPool:
    """Make what the strategies see."""
    targets = np.full(len(arrays["classes"]), UNLABELLED)
    targets[arrays["labelled"]] = arrays["classes"][arrays["labelled"]]
    return GivenPool(
        embeddings=arrays["embeddings"],
        targets=targets,
        labelled=arrays["labelled"],
        unlabelled=arrays["unlabelled"],
        classes=tuple(f"class {i}" for i in range(N_CLASSES)),
        classifier=None,  # type: ignore[arg-type]  # the probabilities are given
        given=arrays["probabilities"][arrays["unlabelled"]],
    )


def timed_choice(strategy: QueryStrategy, view: PoolView, seed: int, call: int, found: dict[str, Any]) -> np.ndarray:
    """Ask once and note the times, and the rows of the first call."""
    wall, cpu = time.perf_counter(), time.process_time()
    rows = strategy.select_batch(view, BATCH, np.random.default_rng([seed, call]))
    found["wall_s"].append(time.perf_counter() - wall)
    found["cpu_s"].append(time.process_time() - cpu)
    found.setdefault("first_rows", rows.tolist())
    return rows


def run_child(name: str, folder: Path, chosen: argparse.Namespace, *options: str) -> dict[str, Any]:
    """Run `measure`, or with the option ``--again`` `measure_again`, in a new process."""
    command = [sys.executable, __file__, "--child", name, str(folder), str(chosen.seed), *options]
    answer = subprocess.run(command, env=environment(chosen), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def run_peer(name: str, peer: str, folder: Path, chosen: argparse.Namespace) -> dict[str, Any] | str:
    """Run one strategy of a peer in its own Python; a text says why there is no answer."""
    command = [chosen.peer_python, str(PEERS), peer, name, str(folder), str(BATCH)]
    try:
        answer = subprocess.run(
            command, env=environment(chosen), capture_output=True, text=True, timeout=chosen.peer_timeout
        )
    except subprocess.TimeoutExpired:
        return f"over {chosen.peer_timeout:.0f}"
    if answer.returncode:
        return (answer.stderr.strip().splitlines() or [f"ended with {answer.returncode}"])[-1]
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def environment(chosen: argparse.Namespace) -> dict[str, str]:
    """Give the children as many threads as asked for, whichever library makes them."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **{name: str(chosen.threads) for name in names}}


if __name__ == "__main__":
    main()
