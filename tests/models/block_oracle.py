"""The plain form of the context blocks, each computed by itself, and what a training step of either form gives."""

import copy

from torch import Tensor, nn

from atrc_exp.models.distillation.atrc import ContextBlocks


def with_shared_work(module: nn.Module, shared: bool) -> nn.Module:
    """A copy whose blocks share their work, or do not."""
    copied = copy.deepcopy(module)
    for child in copied.modules():
        if isinstance(child, ContextBlocks):
            child.share_work = shared
    return copied


def training_step(module: nn.Module, features: dict[str, Tensor], logits: dict[str, Tensor], *sample: object):
    """Outputs, all gradients by name (None where there is none), and the state after one forward and backward."""
    features, logits = ({task: x.clone().requires_grad_() for task, x in maps.items()} for maps in (features, logits))
    refined = module(features, logits, *sample)
    sum((x * x.detach().roll(1)).sum() for x in refined.values()).backward()
    leaves = {**dict(module.named_parameters()), **{f"features.{task}": x for task, x in features.items()},
              **{f"logits.{task}": x for task, x in logits.items()}}  # fmt: skip
    return refined, {name: leaf.grad for name, leaf in leaves.items()}, module.state_dict()
