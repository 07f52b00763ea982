"""Cross-entropy in the plain form: logits resized as a whole, everything differentiated automatically."""

import torch.nn.functional as F
from torch import Tensor

from atrc_exp.tasks import IGNORE


def cross_entropy(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """As `atrc_exp.losses.resized.cross_entropy`."""
    logits = F.interpolate(logits, size=label.shape[-2:], mode="bilinear", align_corners=False)
    logits = logits.masked_fill((label == IGNORE).unsqueeze(1), 0)
    loss = F.cross_entropy(logits, label.long(), ignore_index=IGNORE, reduction="none")
    return (loss if weights is None else loss * weights).sum()
