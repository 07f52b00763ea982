"""All metrics together: the factory, and states that add up over ranks."""

import math
import socket

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from atrc_exp.metrics import build_metrics
from atrc_exp.tasks import TASKS, build_tasks


def tasks():
    return build_tasks(TASKS, num_classes={"semseg": 5}, edge_positive_weight=0.8, edge_max_distance=0.011)


def batches(count):
    """Random predictions and labels of all tasks, image by image, a part of them unlabelled."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        batch = {}
        for task in tasks():
            prediction = torch.randn(1, task.channels, 6, 7, generator=generator)
            if task.kind.class_map:
                label = torch.randint(task.regions, (1, 6, 7), generator=generator)
                label[:, 0] = 255
            else:
                label = torch.randn(1, task.channels, 6, 7, generator=generator)
                label = F.normalize(label, dim=1) if task.label == "normals" else label.abs()
                label[:, :, 0] = 0
            batch[task.name] = prediction, label
        yield batch


def updated(data):
    metrics = build_metrics(tasks())
    for batch in data:
        for name, metric in metrics.items():
            metric.update(*batch[name])
    return metrics


def test_every_metric_gives_its_headline_as_a_plain_float():
    metrics = updated(batches(2))
    assert set(metrics) == {"semseg", "human_parts", "sal", "depth", "normals"}
    for name, metric in metrics.items():
        values = metric.compute()
        assert all(type(value) is float and math.isfinite(value) for value in values.values())
        assert TASKS[name].metric in values


def test_options_reach_the_metrics():
    metrics = build_metrics(tasks(), absent="skip", reference_invalid=True)
    assert metrics["semseg"].absent == metrics["human_parts"].absent == "skip"
    assert metrics["depth"].reference_invalid


def test_states_of_shares_of_the_data_add_up():
    data = list(batches(5))
    whole, first, second = updated(data), updated(data[:2]), updated(data[2:])
    for name, metric in whole.items():
        first[name].merge_state(second[name])
        assert first[name].compute() == pytest.approx(metric.compute(), abs=1e-12), name


def test_reset_starts_again():
    data = list(batches(3))
    metrics = updated(data)
    for name, metric in metrics.items():
        metric.reset()
        metric.update(*data[0][name])
        assert metric.compute() == build_and_score(name, data[0]), name


def build_and_score(name, batch):
    metric = build_metrics(tasks())[name]
    metric.update(*batch[name])
    return metric.compute()


def synchronised(rank, port, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metrics = updated(list(batches(5))[rank::2])  # three images here, two there
    values = {name: metric.compute() for name, metric in metrics.items()}
    results[rank] = (values, metrics["semseg"].per_class())
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_report_what_one_does():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    results = torch.multiprocessing.Manager().dict()
    torch.multiprocessing.spawn(synchronised, (port, results), nprocs=2)
    whole = updated(batches(5))
    for rank in range(2):
        values, per_class = results[rank]
        assert per_class == whole["semseg"].per_class()
        for name, metric in whole.items():
            assert values[name] == pytest.approx(metric.compute(), abs=1e-12), name
