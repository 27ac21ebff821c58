import numpy as np

from camera_trap_al.active_learning_methods.kept_by_content import KeptByContent, digest_of_rows


def test_what_is_kept_is_made_again_when_embeddings_or_settings_change_and_from_a_seed_of_the_embeddings() -> None:
    points, rows, kept, seeds = np.eye(4, dtype=np.float32), np.arange(3), KeptByContent[int](), list[int]()

    def make(seed: int) -> int:
        seeds.append(seed)
        return len(seeds)

    asked = [(points, 5), (points.copy(), 5), (points, 6), (points + 1, 6), (points, 6)]
    assert [kept.get(embeddings, rows, make, setting) for embeddings, setting in asked] == [1, 1, 2, 3, 4]
    assert seeds[0] == seeds[1] == seeds[3] != seeds[2]


def test_the_digest_depends_on_every_value_of_the_rows_and_on_nothing_else() -> None:
    points = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    rows = np.array([3, 4, 9])
    changed, elsewhere = points.copy(), points.copy()
    changed[9, 3] = np.nextafter(changed[9, 3], np.float32(9))
    elsewhere[10] = np.nan
    assert digest_of_rows(points, rows) == digest_of_rows(elsewhere, rows) == digest_of_rows(points[rows], np.arange(3))
    assert digest_of_rows(points, rows) != digest_of_rows(changed, rows)
    assert digest_of_rows(points, rows) != digest_of_rows(points, rows[::-1])
