"""Importance of blocks on a network built so that one block carries everything and another one nothing."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_engine as tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from atrc_exp.config import Config, ImportanceConfig
from atrc_exp.data.readers.sample import Data, Sample
from atrc_exp.errors import UserError
from atrc_exp.evaluation.importance import Importance, measure_importance, transplanted
from atrc_exp.models.contexts.maps import Block
from atrc_exp.models.inspection import BlockView
from atrc_exp.models.predictor import Predictor
from atrc_exp.normalisation import IMAGENET
from atrc_exp.processes.ranks import Ranks

IMAGES = 5
SOLE, IGNORED = Block("depth", "depth", "local"), Block("depth", "semseg", "slabel")


class Pictures:
    """A validation split of random images that differ in brightness, labelled with what a network predicts for them."""

    windows: ClassVar[dict[int, tuple[slice, slice]]] = {}
    """What is image and not padding, where that is not all."""

    def __init__(self, predict: Predictor) -> None:
        self.ids = [f"image{index}" for index in range(IMAGES)]
        self.info = SimpleNamespace()
        draw = np.random.default_rng(0)
        level = 50 * np.arange(IMAGES)[:, None, None, None]
        self.images = (level + draw.integers(0, 56, (IMAGES, *tiny.SIZE, 3))).astype(np.uint8)
        self.inputs = normalised(self.images)
        for index, window in self.windows.items():
            padded = torch.zeros_like(self.inputs[index])
            padded[:, *window] = self.inputs[index][:, *window]
            self.inputs[index] = padded
        with torch.no_grad():
            self.final = predict(self.inputs).final

    def __len__(self) -> int:
        return IMAGES

    def load(self, index: int, tasks: Any) -> Sample:
        window = self.windows.get(index, (slice(None), slice(None)))
        depth = self.final["depth"][index, 0].numpy()
        classes = self.final["semseg"][index].argmax(0).numpy().astype(np.uint8)
        return Sample(self.ids[index], self.images[index][window], {"depth": depth[window], "semseg": classes[window]})


def normalised(images: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1).double() for values in (IMAGENET.mean, IMAGENET.std))
    return ((pixels - mean) / std).float()


@pytest.fixture
def config(tmp_path) -> Config:
    own = tiny.config(tmp_path, kind="atrc", val_batch_size=2)
    return replace(own, importance=ImportanceConfig(permutations=3, seed=4))


@pytest.fixture
def predict(config: Config) -> Predictor:
    """Depth depends on nothing but the local block depth <- depth; it is metres above 5."""
    network = tiny.network(config).eval()
    fusion: Any = network.distillation.fusions["depth"]  # type: ignore[union-attr]
    with torch.no_grad():
        sources = network.distillation.genotype.tasks  # type: ignore[union-attr]
        fusion.context[0].weight[:, 2 * sources.index("semseg") : 2 * sources.index("semseg") + 2] = 0
        fusion.refine[0].weight[:, :4] = 0  # the target's own features
        network.predictors["depth"].weight.fill_(60.0)
        network.predictors["depth"].bias.fill_(5.0)
    return Predictor(network, config).eval()


class TwoSizes(Pictures):
    """Image 1 has 24 x 30 pixels in the middle of its canvas, which is all of 32 x 40 for the others."""

    windows: ClassVar = {1: (slice(4, 28), slice(5, 35))}


def measure(predict: Predictor, config: Config, pictures: type[Pictures] = Pictures) -> Importance:
    split = pictures(predict)
    return measure_importance(predict, Data(split, split, split.info), config, tiny.tasks(), Ranks())  # type: ignore[arg-type]


def exchanged(predict: Predictor, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Depth (B, 1, H, W) of whole forward passes in which the output of the sole block is changed."""
    blocks: Any = predict.network.distillation.blocks  # type: ignore[union-attr]

    def swap(_module: Any, _inputs: Any, outputs: dict[Block, Tensor]) -> dict[Block, Tensor]:
        return outputs | {SOLE: change(outputs[SOLE])}

    handle = blocks.register_forward_hook(swap)
    with torch.no_grad():
        final = predict(images).final["depth"]
    handle.remove()
    return final


def donors_at(shift: int) -> list[int]:
    """Donor of every image: the one `shift` places before it in the ring of seed 4."""
    ring = np.random.default_rng(4).permutation(IMAGES)
    place = {int(image): at for at, image in enumerate(ring)}
    return [int(ring[place[image] - shift]) for image in range(IMAGES)]


def test_scores_are_those_of_whole_passes_with_exchanged_outputs(predict, config):
    found = measure(predict, config)
    split = Pictures(predict)
    truth = split.final["depth"].double()
    for shift in (1, 2, 3):
        donors = donors_at(shift)
        assert all(donor != image for image, donor in enumerate(donors)) and len(set(donors)) == IMAGES
        depth = exchanged(predict, split.inputs, lambda output, to=donors: output[to]).double()
        rmse = float((depth - truth).square().mean().sqrt())
        assert found.permuted[SOLE][shift - 1] == pytest.approx(rmse, rel=1e-4)


def test_outputs_of_an_image_of_another_size_are_resized_to_what_is_image(predict, config):
    """The 24 x 30 pixels at (4, 5) are cells 1 to 6 and 1 to 8 of the maps of 8 x 10."""
    found, split = measure(predict, config, TwoSizes), TwoSizes(predict)
    truth = split.final["depth"].double()
    cells = {image: (slice(1, 7), slice(1, 9)) if image == 1 else (slice(8), slice(10)) for image in range(IMAGES)}

    def change(output: Tensor) -> Tensor:
        changed = output.clone()
        for image, donor in enumerate(donors_at(1)):
            rows, columns = cells[image]
            part = output[donor : donor + 1, :, *cells[donor]]
            size = rows.stop - (rows.start or 0), columns.stop - (columns.start or 0)
            changed[image, :, rows, columns] = F.interpolate(part, size, mode="bilinear", align_corners=False)[0]
        return changed

    errors = (exchanged(predict, split.inputs, change).double() - truth).square()
    errors[1, :, : split.windows[1][0].start] = errors[1, :, split.windows[1][0].stop :] = 0
    errors[1, :, :, : split.windows[1][1].start] = errors[1, :, :, split.windows[1][1].stop :] = 0
    pixels = (IMAGES - 1) * 32 * 40 + 24 * 30
    assert found.permuted[SOLE][0] == pytest.approx(float((errors.sum() / pixels).sqrt()), rel=1e-4)
    assert found.permuted[IGNORED] == [found.headline["depth"]] * 3


def test_the_block_that_carries_everything_matters_and_the_ignored_one_does_not(predict, config):
    found = measure(predict, config)
    classes = Pictures(predict).final["semseg"].argmax(1).unique()  # those of the five that occur have IoU 1
    assert found.headline == {"semseg": len(classes) / tiny.CLASSES, "depth": pytest.approx(0, abs=1e-4)}
    assert found.permuted[IGNORED] == [found.headline["depth"]] * 3
    assert min(found.permuted[SOLE]) > 0.05
    assert list(found.permuted) == BlockView(predict.network).blocks


def test_permutations_depend_on_the_seed_alone(predict, config):
    first = measure(predict, config)
    assert measure(predict, config) == first
    assert measure(predict, replace(config, engine=replace(config.engine, val_batch_size=1))) == first
    other = measure(predict, replace(config, importance=replace(config.importance, seed=5)))
    assert other.headline == first.headline and other.permuted[SOLE] != first.permuted[SOLE]
    fewer = measure(predict, replace(config, importance=replace(config.importance, permutations=2)))
    assert fewer.permuted[SOLE] == first.permuted[SOLE][:2]


def test_a_limit_of_images_holds(predict, config):
    limited = replace(config, debug=replace(config.debug, limit_val=4))
    assert len(measure(predict, limited).permuted[SOLE]) == 3
    with pytest.raises(UserError, match=r"importance\.permutations=3: .* 3 "):
        measure(predict, replace(config, debug=replace(config.debug, limit_val=3)))


def test_parts_of_two_ranks_make_the_whole_ring(predict, config):
    from atrc_exp.evaluation.importance import _along, _ring

    split = Pictures(predict)
    data, order = Data(split, split, split.info), _ring(IMAGES, 3, 0)  # type: ignore[arg-type]
    seen = []
    for rank in (0, 1):
        ids = [batch.ids[0] for batch in _along(order, 3, data, config, Ranks(rank, 2))]
        whole = [f"image{order[at % IMAGES]}" for at in range(-3, IMAGES)]
        start = IMAGES * rank // 2
        assert ids == whole[start : start + len(ids)]
        seen += ids[3:]
    assert sorted(seen) == split.ids


def test_search_networks_are_measured_with_their_chosen_types(tmp_path):
    config = tiny.config(tmp_path)
    config = replace(config, importance=ImportanceConfig(permutations=2))
    network = tiny.network(config).eval()
    with torch.no_grad():  # semseg <- depth none, the others local
        network.search.arch[:, 2] = 1  # type: ignore[union-attr]
        network.search.arch[1, 0] = 2  # type: ignore[union-attr]
    predict = Predictor(network, config).eval()
    found = measure(predict, config)
    assert list(found.permuted) == [Block("semseg", "semseg", "local"), Block("depth", "semseg", "local"),
                                    Block("depth", "depth", "local")]  # fmt: skip
    split = Pictures(predict)
    with torch.no_grad(), BlockView(network).watching() as seen:
        final = predict(split.inputs).final
        (maps,), outputs = seen()
    for task in tiny.NAMES:
        own = BlockView(network).predict(task, [maps.features[task]], outputs, tiny.SIZE)
        assert torch.allclose(own, final[task], atol=1e-6)


def test_networks_without_blocks_are_refused():
    with pytest.raises(UserError, match="distillation=atrc"):
        BlockView(SimpleNamespace(distillation=None))  # type: ignore[arg-type]


def test_outputs_of_another_size_fill_what_is_not_padding():
    own, other = torch.zeros(1, 1, 4, 6), torch.full((1, 1, 4, 6), 9.0)
    other[..., 1:3, :] = torch.tensor([[1.0, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3]])
    filled = transplanted(own, (slice(0, 4), slice(2, 5)), other, (slice(1, 3), slice(0, 6)))
    assert torch.equal(filled[0, 0, :, 2:5], torch.tensor([1.0, 2, 3]).expand(4, 3))
    assert filled[..., :2].abs().max() == filled[..., 5:].abs().max() == 0 and own.abs().max() == 0
    same = (slice(1, 3), slice(0, 6))
    assert torch.equal(transplanted(own, same, other, same)[..., 1:3, :], other[..., 1:3, :])
