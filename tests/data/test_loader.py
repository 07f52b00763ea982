"""Batches: the same images whatever the start, workers, micro-batches and ranks; mistakes in one short message."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import small_rooms
import torch
from nyud_files import write_image, write_nyud

from atrc_exp.config import Config, DebugConfig, EngineConfig
from atrc_exp.data import loader
from atrc_exp.data.augment import TrainTransform
from atrc_exp.data.batch import Batch
from atrc_exp.data.loader import Data, build_datasets, train_loader, val_loader, val_samples
from atrc_exp.errors import UserError
from atrc_exp.normalisation import IMAGENET, Normalisation
from atrc_exp.tasks import TASKS

CPU = torch.device("cpu")
IMAGES, VAL = 11, 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyud")
    write_nyud(folder, train=IMAGES, val=VAL)
    return folder


def config(root, *, seed=0, overfit=False, limit_val=None, tasks=None, **engine) -> Config:
    return Config(
        name="test",
        seed=seed,
        tasks=tasks,
        dataset=small_rooms.dataset(root=str(root), crop=[32, 32]),
        engine=EngineConfig(**{"batch_size": 4, "workers": 0, "val_batch_size": 2, **engine}),
        debug=DebugConfig(overfit=overfit, limit_val=limit_val),
    )


def train(config: Config, start=0, stop=4, rank=0, world=1, data: Data | None = None) -> list[dict]:
    data = data or build_datasets(config)
    return list(train_loader(data, config, start_iteration=start, iterations=stop, rank=rank, world=world, device=CPU))


def validate(config: Config, rank=0, world=1) -> list[dict]:
    return list(val_loader(build_datasets(config), config, rank=rank, world=world, device=CPU))


@contextmanager
def workers_by(method: str) -> Iterator[None]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


def ids(batches: list[Batch]) -> list[str]:
    return [id for batch in batches for id in batch.ids]


def same(one: Batch, two: Batch) -> bool:
    labels = all(torch.equal(label, two.labels[name]) for name, label in one.labels.items())
    return one.ids == two.ids and torch.equal(one.image, two.image) and labels


def test_every_loader_normalises_as_the_data_say(root):
    """All pixels in [0, 1] again are those of ImageNet's normalisation, and padding is 0 in both."""
    own = config(root)
    plain = build_datasets(own)
    other = Normalisation((0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    changed = replace(plain, normalisation=other)
    loaders = (
        lambda data: train(own, stop=1, data=data),
        lambda data: list(val_loader(data, own, rank=0, world=1, device=CPU)),
        lambda data: list(val_samples(data, own, rank=0, world=1)),
    )
    for batches in loaders:
        for before, after in zip(batches(plain), batches(changed), strict=True):
            padding = (before.image == 0).all(-3)
            assert torch.equal(padding, (after.image == 0).all(-3))
            pixels = [norm.undone(batch.image).masked_fill(padding.unsqueeze(-3), 0)
                      for norm, batch in ((IMAGENET, before), (other, after))]  # fmt: skip
            torch.testing.assert_close(*pixels)


def test_batches_have_the_agreed_form(root):
    (batch,) = train(config(root), stop=1)
    assert batch.image.shape == (4, 3, 32, 32) and batch.image.dtype == torch.float32
    assert batch.image.is_contiguous()
    shapes = {"semseg": (4, 32, 32), "depth": (4, 1, 32, 32), "normals": (4, 3, 32, 32), "edge": (4, 32, 32)}
    types = {"semseg": torch.int64, "depth": torch.float32, "normals": torch.float32, "edge": torch.int64}
    for name, label in batch.labels.items():
        assert label.shape == shapes[name] and label.dtype == types[name] and label.is_contiguous()
    assert batch.sizes.shape == (4, 2) and batch.sizes.max() <= 32 and len(set(batch.ids)) == 4


def test_an_epoch_shows_every_image_at_most_once(root):
    batches = train(config(root), stop=20)  # two batches of four an epoch of eleven images
    epochs = [ids(batches[start : start + 2]) for start in range(0, 20, 2)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10
    assert {id for epoch in epochs for id in epoch} == {f"{number:04d}" for number in range(1, IMAGES + 1)}


def test_augmentation_changes_with_epoch_and_seed(root):
    def images_of_one(seed):
        batches = train(config(root, seed=seed), stop=12)
        return [batch.image[batch.ids.index("0003")] for batch in batches if "0003" in batch.ids]

    images = images_of_one(0) + images_of_one(1)
    assert len(images) >= 6
    assert all(not torch.equal(one, two) for i, one in enumerate(images) for two in images[:i])
    assert ids(train(config(root, seed=0))) != ids(train(config(root, seed=1)))


def test_a_resumed_run_sees_the_same_batches(root):
    whole = train(config(root), stop=7)
    for start in (1, 4, 6):
        rest = train(config(root), start=start, stop=7)
        assert len(rest) == 7 - start
        assert all(same(one, two) for one, two in zip(whole[start:], rest, strict=True))
    assert train(config(root), start=7, stop=7) == []


def test_workers_change_nothing(root):
    alone, helped = train(config(root)), train(config(root, workers=2))
    assert all(same(one, two) for one, two in zip(alone, helped, strict=True))


def test_micro_batches_and_ranks_split_the_same_iteration(root):
    whole = train(config(root))
    micro = train(config(root, accumulate=2))
    assert [len(batch.ids) for batch in micro] == [2] * 8
    for iteration, batch in enumerate(whole):
        parts = micro[2 * iteration : 2 * iteration + 2]
        assert ids(parts) == batch.ids
        assert torch.equal(torch.cat([part.image for part in parts]), batch.image)
    ranks = [train(config(root, accumulate=2), rank=rank, world=2) for rank in range(2)]
    for iteration, batch in enumerate(whole):
        own = [ids(batches[2 * iteration : 2 * iteration + 2]) for batches in ranks]
        assert own[0] + own[1] == batch.ids


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_random_streams_alone(root, workers):
    """A resumed run makes one loader more than an uninterrupted one, and must draw the same dropout."""
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(config(root, workers=workers), stop=1)
    validate(config(root, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize(
    ("engine", "world", "words"),
    [
        ({"batch_size": 12}, 1, "at most the 11 training images"),
        ({"batch_size": 4}, 3, "divisible by ranks x engine.accumulate = 3 x 1 = 3"),
        ({"batch_size": 4, "accumulate": 4}, 2, "divisible by ranks x engine.accumulate = 2 x 4 = 8"),
    ],
)
def test_impossible_batches(root, engine, world, words):
    with pytest.raises(UserError, match=words):
        train(config(root, **engine), world=world)


def test_overfitting_repeats_the_first_batch_unaugmented(root):
    batches = train(config(root, overfit=True), stop=5)
    assert all(same(batches[0], batch) for batch in batches[1:])
    assert batches[0].ids == train(config(root), stop=1)[0].ids
    data = build_datasets(config(root))
    for position, id in enumerate(batches[0].ids):
        semseg = data.train.load(data.train.ids.index(id), ["semseg"]).labels["semseg"]
        np.testing.assert_array_equal(batches[0].labels["semseg"][position], semseg[4:36, 10:42])


def test_only_the_tasks_of_the_run_are_loaded(root, monkeypatch):
    data, asked = build_datasets(config(root)), set()
    load = data.train.load
    monkeypatch.setattr(data.train, "load", lambda index, tasks: asked.add(tuple(tasks)) or load(index, tasks))
    (batch,) = train(config(root, tasks=["depth"]), stop=1, data=data)
    assert list(batch.labels) == ["depth"]
    assert asked == {("depth", "semseg")}  # semseg guides the crop


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_shows_each_image_once(root, world):
    shown = [ids(validate(config(root), rank, world)) for rank in range(world)]
    assert sorted(id for own in shown for id in own) == [
        f"{number:04d}" for number in range(IMAGES + 1, IMAGES + VAL + 1)
    ]
    assert max(map(len, shown)) - min(map(len, shown)) <= 1


def test_validation_keeps_images_whole(root):
    batches = validate(config(root))
    assert [len(batch.ids) for batch in batches] == [2, 2, 1]
    assert batches[0].image.shape == (2, 3, 40, 52) and batches[0].sizes.tolist() == [[40, 52]] * 2
    assert ids(validate(config(root, limit_val=3))) == ["0012", "0013", "0014"]


def test_validation_batches_hold_one_canvas_size(tmp_path):
    write_nyud(tmp_path, train=1, val=4)
    write_image(tmp_path, "A", "0004", (30, 60), np.random.default_rng(0))
    write_image(tmp_path, "A", "0005", (20, 30), np.random.default_rng(0))
    batches = validate(config(tmp_path, val_batch_size=4))
    assert [batch.ids for batch in batches] == [["0002", "0003"], ["0004"], ["0005"]]
    assert [tuple(batch.image.shape[2:]) for batch in batches] == [(40, 52), (32, 60), (32, 32)]
    assert [batch.sizes[0].tolist() for batch in batches] == [[40, 52], [30, 60], [20, 30]]


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_files_are_one_short_message(tmp_path, workers):
    write_nyud(tmp_path, train=4, val=1)
    path = tmp_path / "depth" / "0002.npy"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError) as raised:
        train(config(tmp_path, workers=workers), stop=1)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_validation_workers_serve_again(root):
    loader = val_loader(build_datasets(config(root)), config(root, workers=1), rank=0, world=1, device=CPU)
    assert ids(list(loader)) == ids(list(loader)) == ids(validate(config(root)))


def test_sources_and_transforms_reach_other_processes(root):
    data = build_datasets(config(root))
    transform = TrainTransform((32, 32), [TASKS["depth"]], "semseg")
    sent, sent_transform = pickle.loads(pickle.dumps((data, transform)))
    one = transform(data.train.load(2, transform.names), 7)
    assert same(one, sent_transform(sent.train.load(2, sent_transform.names), 7))


@pytest.mark.slow
def test_spawned_workers_load_the_same(root):
    alone = train(config(root))
    with workers_by("spawn"):
        spawned = train(config(root, workers=1))
    assert all(same(one, two) for one, two in zip(alone, spawned, strict=True))


def test_unknown_reader(root):
    broken = config(root)
    broken.dataset.reader = "kitti"
    with pytest.raises(UserError, match=r"dataset\.reader=kitti: .*nyud"):
        build_datasets(broken)


def test_a_worker_outlives_a_signal_that_comes_before_it_has_begun(root, monkeypatch):
    """Slurm's SIGTERM reaches the workers too, whose batch the run still needs for the step it is in."""
    begin = loader._init_worker

    def signalled(worker: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        begin(worker)

    monkeypatch.setattr(loader, "_init_worker", signalled)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with workers_by("fork"):
        assert ids(train(config(root, workers=1), stop=2)) == ids(train(config(root), stop=2))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before, "the run answers signals again"
