"""Let a rule of your own decide which photos are asked about.

The rule of this example: the photo of which the model is least sure, of each species in turn. Change `choose` to what
you have in mind, and start::

    python own_strategy.py my-photos

``my-photos`` holds the folders ``train`` and ``unlabelled`` (``validation`` too, if there is one) and ``truth.csv``, a
table with the columns File, RelativePath and Species, which answers the questions in place of a person. If there is no
such folder, it is made, with the handwritten digits of the demo.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from camera_trap_al import run_active_learning
from camera_trap_al.active_learning_methods import QueryStrategy
from camera_trap_al.active_learning_methods.base import PoolView, order_by_falling_score
from camera_trap_al.active_learning_methods.contract import check_strategy
from camera_trap_al.demo import make_demo_data
from camera_trap_al.pools import IndexArray
from camera_trap_al.query import Query
from camera_trap_al.report import learning_curve


class EachSpeciesInTurn(QueryStrategy):
    """Ask about the photo of which the model is least sure, of each species that it sees, in turn.

    A rule that looks at doubt alone may spend a whole round on one pair of species that are hard to tell apart.
    """

    def choose(self, view: PoolView, n: int, rng: np.random.Generator) -> IndexArray:
        """Return `n` distinct rows of ``view.unlabelled``."""
        probabilities = view.probabilities()  # a line for each unlabelled photo, a column for each species
        # The least sure photo first; photos of which it is equally sure by lot, since a fixed order would be unfair.
        order = order_by_falling_score(-probabilities.max(axis=1), rng)
        species = probabilities[order].argmax(axis=1)
        turn = np.empty(len(order), np.int64)
        for each in np.unique(species):
            turn[species == each] = np.arange(np.count_nonzero(species == each))
        chosen = order[np.argsort(turn, kind="stable")[:n]]
        rows: IndexArray = view.unlabelled[chosen]  # row numbers, not positions
        return rows


class Expert:
    """Answers each question from a table, and counts the species that it was asked about."""

    def __init__(self, truth_csv: Path) -> None:
        with truth_csv.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        self._species = {f"{row['RelativePath']}/{row['File']}".replace("\\", "/"): row["Species"] for row in rows}

    def __call__(self, query: Query) -> list[str]:
        """Name the species of each photo that is asked about."""
        answers = [self._species[path] for path in query.paths]
        counted = ", ".join(f"{name} ({answers.count(name)})" for name in sorted(set(answers)))
        print(f"Round {query.round} asks about {len(answers)} photos: {counted}")
        return answers


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run active learning with a query strategy of your own.")
    parser.add_argument("folder", type=Path, help="with train, unlabelled and truth.csv; made if it is not there")
    parser.add_argument("--labels", type=int, default=100, help="answers after which it ends (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=20, help="photos per round (default: %(default)s)")
    parser.add_argument("--network", default="squeezenet1_1", help="torchvision's name of it (default: %(default)s)")
    parser.add_argument("--pretrained", action="store_true", help="begin with its ImageNet weights: for real photos")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of its training (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Check the strategy, then use it in a run."""
    chosen = parse_arguments()
    strategy = EachSpeciesInTurn()
    check_strategy(strategy)  # tells, in seconds, which promise of a strategy yours breaks
    print("The strategy keeps what a query strategy promises.")
    if not chosen.folder.exists():
        make_demo_data(chosen.folder)
    validation = chosen.folder / "validation"
    result = run_active_learning(
        chosen.folder / "train",
        chosen.folder / "unlabelled",
        validation if validation.is_dir() else None,
        output_dir=chosen.folder / "own strategy",
        active_learning_strategy=strategy,
        active_batch=chosen.batch,
        max_labels=chosen.labels,
        embedding_arch=chosen.network,
        use_pretrained=chosen.pretrained,
        embedding_train_lr=0.00001 if chosen.pretrained else 0.001,
        embedding_train_num_epochs=chosen.epochs,
        feat_dim=64,
        classifier="logistic",
        label_source=Expert(chosen.folder / "truth.csv"),
    )
    print(f"\n{result.labels_given} answers; {result.ended_because}. The model: {result.export_dir}")
    if result.validation_history:
        print(learning_curve(result.validation_history))
    print("One run says little of a strategy: camera_trap_al.simulate compares several, with several seeds.")


if __name__ == "__main__":
    main()
