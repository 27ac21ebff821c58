import numpy as np
import pytest
from sklearn.decomposition import PCA

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.report import map_embeddings


def of(embeddings, labelled=None, at_most=5000, seed=0):
    n = len(embeddings)
    labelled = np.zeros(n, bool) if labelled is None else labelled
    ids = np.arange(n) % 3
    return map_embeddings(embeddings, ids, labelled, ("a", "b", "c"), np.random.default_rng(seed), at_most)


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(200, 6)) * [5, 3, 1, 1, 1, 1] + 10).astype(np.float32)


def test_points_and_shares_are_those_of_scikit_learn(embeddings):
    pca = PCA(2).fit(embeddings)
    found, expected = of(embeddings), pca.transform(embeddings)
    np.testing.assert_allclose(np.abs(found.points), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(found.shares, pca.explained_variance_ratio_, rtol=1e-3)
    assert found.n_photos == 200


def test_a_map_does_not_flip_when_photos_come_in_another_order(embeddings):
    order = np.random.default_rng(1).permutation(200)
    np.testing.assert_allclose(of(embeddings[order]).points, of(embeddings).points[order], atol=1e-3)


def test_a_sample_keeps_labelled_photos_and_what_belongs_to_each(embeddings):
    labelled = np.arange(200) % 20 == 3
    everything, found = of(embeddings, labelled), of(embeddings, labelled, at_most=50)
    assert len(found.points) == 50 and found.is_labelled.sum() == 10 and found.n_photos == 200
    at = [int(np.flatnonzero((everything.points == point).all(axis=1))[0]) for point in found.points]
    assert at == sorted(at)
    np.testing.assert_array_equal(found.class_ids, everything.class_ids[at])
    np.testing.assert_array_equal(found.is_labelled, labelled[at])
    assert of(embeddings, labelled, at_most=6).is_labelled.all()
    other = of(embeddings, labelled, at_most=50, seed=1)
    assert not np.array_equal(other.points, found.points), "another sample by another lot"


@pytest.mark.parametrize("embeddings", [np.ones((3, 4)), np.array([[1.0], [2.0], [4.0]]), np.ones((1, 5))])
def test_photos_that_are_all_alike_or_have_one_feature_can_be_mapped(embeddings):
    found = of(embeddings.astype(np.float32))
    assert found.points.shape == (len(embeddings), 2) and np.isfinite(found.points).all()
    assert (found.points[:, 1] == 0).all()
    assert all(0 <= share <= 1 for share in found.shares)


def test_what_does_not_fit_is_refused(embeddings):
    rng = np.random.default_rng(0)
    for some, ids in ((embeddings[:0], 0), (embeddings, 5), (embeddings[:, 0], 200)):
        with pytest.raises(ConfigError, match=r"embeddings must have the shape \(n, n_features\)"):
            map_embeddings(some, np.zeros(ids, np.int64), np.zeros(ids, bool), ("a",), rng)
