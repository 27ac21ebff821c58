"""Which photos of a burst show the same as the labelled one."""

import numpy as np

from camera_trap_al.pools import REFUSED, UNLABELLED, FloatArray, IndexArray
from camera_trap_al.statistics.propagation import mates_of, propagate_labels, sequence_lengths

# Three bursts: 0 to 3 of a deer at the left, whose last photo is empty; 4 to 6 of a fox; 7 alone. Then others far away.
SEQUENCES = np.array([0, 0, 0, 0, 1, 1, 1, -1, *range(2, 22)])
PLACES = np.array([0.0, 0.1, 0.2, 30.0, 10.0, 10.1, 10.3, 5.0, *np.linspace(20, 100, 20)])
EMBEDDINGS = np.stack([PLACES, np.zeros_like(PLACES)], axis=1).astype(np.float32)
DEER, FOX, EMPTY = range(3)


def propagated(labels: dict[int, int], sure: dict[int, int] | None = None) -> dict[int, int]:
    """Propagate some labels; give the class of each photo that was decided about."""
    targets = np.full(len(SEQUENCES), UNLABELLED)
    targets[list(labels)] = list(labels.values())
    labelled = np.array(sorted(labels))
    mates = mates_of(labelled, np.flatnonzero(targets == UNLABELLED), SEQUENCES)
    probabilities: FloatArray = np.full((len(mates), 3), 1 / 3, np.float32)
    for row, class_id in (sure or {}).items():
        probabilities[mates == row] = np.where(np.arange(3) == class_id, 0.9, 0.05)
    found: IndexArray = propagate_labels(
        mates,
        labelled,
        np.arange(len(SEQUENCES)),
        embeddings=EMBEDDINGS,
        targets=targets,
        sequences=SEQUENCES,
        probabilities=probabilities,
    )
    return dict(zip(mates.tolist(), found.tolist(), strict=True))


def test_a_label_counts_for_the_photos_of_its_burst_that_are_near() -> None:
    assert propagated({0: DEER}) == {1: DEER, 2: DEER, 3: REFUSED}, "3 is among the photos of other bursts"
    assert propagated({4: FOX}) == {5: FOX, 6: FOX}
    assert propagated({7: FOX}) == {}, "a photo of no known burst"


def test_the_nearest_label_of_the_burst_counts() -> None:
    assert propagated({0: DEER, 3: EMPTY}) == {1: DEER, 2: DEER}
    assert propagated({0: DEER, 2: FOX}) == {1: DEER, 3: REFUSED}, "of labels that are equally near, the first"


def test_a_label_does_not_count_where_the_classifier_is_sure_of_another_class() -> None:
    assert propagated({0: DEER}, sure={1: FOX, 2: DEER}) == {1: REFUSED, 2: DEER, 3: REFUSED}


def test_near_is_nearer_than_95_of_100_photos_of_other_bursts() -> None:
    # The distances of photo 0 to 100 others are 1, 2, ... 100, whose 5 % quantile is 5.95 by linear interpolation.
    places = np.array([0.0, 0.0, *np.arange(1.0, 101)])
    for distance, expected in ((5.9, DEER), (6.0, REFUSED)):
        places[1] = -distance
        # The labelled photo is 0; its mate, at minus the distance, is as far from the others as 1 + distance and more.
        found = propagate_labels(
            np.array([0]),
            np.array([1]),
            np.arange(102),
            embeddings=places[:, None].astype(np.float32),
            targets=np.array([UNLABELLED, DEER, *[UNLABELLED] * 100]),
            sequences=np.array([0, 0, *range(1, 101)]),
            probabilities=np.zeros((1, 3), np.float32),
        )
        assert found.tolist() == [expected]


def test_lengths_count_the_photos_of_each_sequence() -> None:
    assert sequence_lengths(SEQUENCES)[:9].tolist() == [4, 4, 4, 4, 3, 3, 3, 1, 1]
    assert sequence_lengths(np.array([], np.int64)).tolist() == []
    assert sequence_lengths(np.array([-1, -1])).tolist() == [1, 1]
