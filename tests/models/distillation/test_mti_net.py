"""Multi-scale distillation by plain loops."""

import numpy as np
import torch

from atrc_exp.models.distillation.mti_net import MTINet

TASKS = ("depth", "edge", "normals")


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3x3 convolution of (C, h, w) with zeros outside."""
    _, height, width = x.shape
    out = np.zeros((len(weight), height, width))
    for o, y, c, i, j in np.ndindex(len(weight), height, len(x), 3, 3):
        for p in range(width):
            if 0 <= y + i - 1 < height and 0 <= p + j - 1 < width:
                out[o, y, p] += weight[o, c, i, j] * x[c, y + i - 1, p + j - 1]
    return out


def test_every_scale_equals_its_definition():
    torch.manual_seed(0)
    channels, sizes = [2, 3], [(4, 3), (2, 2)]
    module = MTINet(TASKS, channels).double()
    pyramids = {
        t: [torch.randn(1, c, *s, dtype=torch.float64) for c, s in zip(channels, sizes, strict=True)] for t in TASKS
    }
    with torch.no_grad():
        found = module(pyramids)
    for scale, c in enumerate(channels):
        maps = {task: pyramids[task][scale][0].numpy() for task in TASKS}
        expected = {task: maps[task].copy() for task in TASKS}
        for source in TASKS:
            weights = module.scales[scale].convs[source].weight.detach().numpy()
            targets = [task for task in TASKS if task != source]
            blocks = np.split(weights, 2 * len(targets))  # gates of all targets, then messages
            for target, gate, message in zip(targets, blocks[:2], blocks[2:], strict=True):
                assert gate.shape == (c, c, 3, 3)
                opening = 1 / (1 + np.exp(-convolve(maps[source], gate)))
                expected[target] += opening * convolve(maps[source], message)
        for task in TASKS:
            np.testing.assert_allclose(found[task][scale][0].numpy(), expected[task], atol=1e-12)
