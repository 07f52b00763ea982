"""How deep in the backbone each of its parameters lies, for learning rates by layer (`optim.layer_decay`)."""

from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import nn

from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import Backbone
from atrc_exp.models.backbones.weights import feature_key


def layers_above(backbone: nn.Module) -> dict[int, int]:
    """The number of steps from every parameter, by its identity, to the neck and the heads, which are at 0.

    The last block that is used is at 1, the embedding of patches in front of L blocks at L + 1, as in BEiT (Bao et al.,
    ICLR 2022) and ViTDet. timm's `group_matcher` of the model says what a block is.

    Raises:
        UserError: a backbone whose layers timm does not tell.
    """
    if not isinstance(backbone, Backbone):
        raise UserError("optim.layer_decay: a branched backbone has no single order of layers; set optim.layer_decay=1")
    name, parameters = backbone.config.name, dict(backbone.model.named_parameters())
    with torch.device("meta"):
        classifier: Any = timm.create_model(name)
    groups = group_parameters(classifier, classifier.group_matcher(coarse=False), reverse=True)
    layers = {feature_key(key, parameters): layer for key, layer in groups.items()}
    if unknown := [key for key in parameters if key not in layers]:
        raise UserError(f"optim.layer_decay: timm does not say in which layer of {name} {unknown[0]} is; set it to 1")
    heads = 1 + max(layers[key] for key in parameters)
    return {id(parameter): heads - layers[key] for key, parameter in parameters.items()}
