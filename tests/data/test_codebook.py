"""The normals codebook: spherical k-means and its cache."""

import logging

import numpy as np
import pytest
import small_rooms
import torch
from nyud_files import write_nyud
from sklearn.cluster import KMeans

from atrc_exp.config import Config, EngineConfig
from atrc_exp.data.codebook import _means, codebook_for, fit_codebook
from atrc_exp.data.loader import build_datasets
from atrc_exp.data.readers.reader import Split
from atrc_exp.errors import UserError


def directions(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def config(root, **dataset) -> Config:
    dataset = {"root": str(root), "cache_dir": str(root / "cache"), **dataset}
    return Config(name="test", dataset=small_rooms.dataset(**dataset), engine=EngineConfig(workers=0))


@pytest.fixture
def root(tmp_path):
    write_nyud(tmp_path, train=2, val=1)
    return tmp_path


def test_finds_planted_clusters():
    # twelve well separated directions: the icosahedron's corners
    golden = (1 + 5**0.5) / 2
    corners = np.array([np.roll((0, a, b * golden), k) for k in range(3) for a in (-1, 1) for b in (-1, 1)])
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    noise = np.random.default_rng(1).normal(scale=0.03, size=(12, 300, 3))
    found = fit_codebook(corners[:, None] + noise, codewords=12)
    nearest = (corners @ found.T).argmax(axis=1)
    assert sorted(nearest) == list(range(12))
    assert (corners * found[nearest]).sum(axis=1).min() > np.cos(np.radians(0.5))


def test_is_a_fixed_point_and_no_worse_than_euclidean_kmeans():
    points = directions(6000)
    points[:, 2] = np.abs(points[:, 2])
    found = fit_codebook([points])
    assert found.shape == (40, 3) and found.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-12)
    nearest = (points @ found.T).argmax(axis=1)
    for word in range(40):
        mean = points[nearest == word].sum(axis=0)
        np.testing.assert_allclose(found[word], mean / np.linalg.norm(mean), atol=1e-9)
    other = KMeans(40, n_init=1, random_state=0).fit(points).cluster_centers_
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    assert (points @ found.T).max(axis=1).mean() > (points @ other.T).max(axis=1).mean() - 1e-3


def test_only_directions_of_valid_normals_count():
    points = directions(500)
    lengths = np.random.default_rng(2).choice([0.5, 1.0, 4.0], size=(500, 1))  # exact factors
    dirty = np.concatenate([points * lengths, np.zeros((50, 3)), np.full((5, 3), np.nan)]).reshape(-1, 5, 3)
    np.testing.assert_allclose(fit_codebook([dirty]), fit_codebook([points]), atol=1e-12)
    np.testing.assert_array_equal(fit_codebook([points]), fit_codebook([points[:100], points[100:]]))


def test_too_few_directions():
    with pytest.raises(UserError, match="39 distinct directions"):
        fit_codebook([np.repeat(directions(39), 7, axis=0)])
    with pytest.raises(UserError, match="0 distinct directions"):
        fit_codebook([])


def test_empty_clusters_restart_at_the_worst_point():
    points = directions(6)
    cosine = np.array([0.9, 0.2, 0.8, 0.1, 0.99, 0.7])
    means = _means(points, np.array([0, 0, 2, 2, 2, 0]), cosine, 4)
    np.testing.assert_allclose(means[1], points[3])
    np.testing.assert_allclose(means[3], points[1])
    expected = points[[0, 1, 5]].sum(axis=0)
    np.testing.assert_allclose(means[0], expected / np.linalg.norm(expected))


def test_is_fitted_once_for_the_same_files(root, monkeypatch):
    wanted = config(root)
    first = codebook_for(wanted, build_datasets(wanted))
    assert first.shape == (40, 3) and first.dtype == torch.float32
    assert torch.allclose(first.norm(dim=1), torch.ones(40), atol=1e-6)
    load = Split.load
    monkeypatch.setattr(Split, "load", lambda *_: pytest.fail("reads images though the codebook is cached"))
    wanted.seed = 3
    assert torch.equal(codebook_for(wanted, build_datasets(wanted)), first)
    monkeypatch.setattr(Split, "load", load)
    (file,) = (root / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:200])
    assert torch.equal(codebook_for(wanted, build_datasets(wanted)), first)
    assert np.load(file).shape == (40, 3)
    write_nyud(root, train=3, val=1, seed=1)
    assert not torch.equal(codebook_for(wanted, build_datasets(wanted)), first)
    assert len(list((root / "cache").iterdir())) == 2


def test_the_users_cache_folder_is_the_default(root, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "xdg"))
    wanted = config(root, cache_dir=None)
    codebook_for(wanted, build_datasets(wanted))
    assert len(list((root / "xdg" / "atrc_exp").glob("*.npy"))) == 1


def test_a_cache_that_cannot_be_written_is_one_warning(root, caplog):
    (root / "file").touch()
    wanted = config(root, cache_dir=str(root / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        assert codebook_for(wanted, build_datasets(wanted)).shape == (40, 3)
    assert len(caplog.records) == 1 and "is not kept in" in caplog.text


def test_a_given_file_is_used(root):
    np.save(root / "centroids.npy", directions(40))
    wanted = config(root, codebook=str(root / "centroids.npy"))
    np.testing.assert_allclose(codebook_for(wanted, build_datasets(wanted)), directions(40), atol=1e-7)
    assert not (root / "cache").exists()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (directions(39), r"holds float64 \(39, 3\)"),
        (directions(40) * 1.01, "not of length 1"),
        (np.full((40, 3), np.nan), "not of length 1"),
        (np.eye(40, 3, dtype=np.int64), "holds int64"),
        (None, "cannot be read"),
    ],
)
def test_a_given_file_that_is_no_codebook(root, array, words):
    path = root / "centroids.npy"
    if array is not None:
        np.save(path, array)
    wanted = config(root, codebook=str(path))
    with pytest.raises(UserError, match=words) as raised:
        codebook_for(wanted, build_datasets(wanted))
    assert str(path) in str(raised.value)
