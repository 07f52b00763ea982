import torch
from torch import nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from atrc_exp.genotype import uniform
from atrc_exp.models import ATRC, SearchATRC
from atrc_exp.models.search import ArchSample, gumbel_noise

encoder = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).backbone  # (B, 3, H, W) -> 960 channels
heads = nn.ModuleDict({"semseg": nn.Conv2d(960, 64, 3, padding=1), "depth": nn.Conv2d(960, 64, 3, padding=1)})
labels = nn.ModuleDict({"semseg": nn.Conv2d(960, 21, 1), "depth": nn.Conv2d(960, 40, 1)})  # classes, bins of depth
maps = encoder(torch.rand(2, 3, 64, 96))["high"]
features = {task: head(maps) for task, head in heads.items()}
aux_logits = {task: head(maps.detach()) for task, head in labels.items()}
search = SearchATRC(("semseg", "depth"), channels=64)
mixed = search(features, aux_logits, ArchSample(temperature=1.0, noise=gumbel_noise(4, seed=0, step=0)))
atrc = ATRC(uniform(["semseg", "depth"], "tlabel"), channels=64)  # or search.genotype(), once it is trained
fixed = atrc(features, aux_logits)  # {task: (B, 64, h, w)}, for one more convolution a task
