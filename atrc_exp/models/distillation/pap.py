"""Pattern-affinitive propagation (Zhang et al., CVPR 2019, Sec. 3): diffusion by self-affinities of all tasks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.models.distillation.tail import tail
from atrc_exp.models.layers import at_least_float32, conv_bn_act, full_precision, positions
from atrc_exp.resizing import resize

STEPS = 9
BETA = 0.05  # initial share of the diffused features; nine steps smooth too much for a large one
EPSILON = 1e-6


class AffinityDiffusion(nn.Module):
    """X_t <- M_t X_t, `STEPS` times, M_t = sum_s w[t, s] D_s^-1 E_s E_s^T with unit embeddings E_s and row sums D_s.

    The n x n affinities are never built. With the embeddings of all N tasks side by side, K = [E_1 ... E_N] (n, N c)
    and Q = [D_1^-1 E_1 ...], a step is X <- Q W_t K^T X with a diagonal W_t; between the steps K^T X, which is small,
    says it all, and K^T Q takes it to the next one. `mixing` holds the logits whose softmax over s is w[t, s].

    Args:
        number: N tasks.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.zeros(number, number))

    def forward(self, embeddings: Tensor, features: Tensor, restart: Tensor | None = None) -> Tensor:
        """Diffuse features (B, N, C, n) by the affinities of non-negative embeddings (B, N, c, n), both fp32 or more.

        Args:
            restart: beta (N,) of X <- beta M X + (1 - beta) X_0 for all steps but the last; None: X <- M X.
        """
        batch, number, channels, _ = features.shape
        keys = F.normalize(embeddings, dim=2, eps=EPSILON)
        row_sums = (keys * keys.sum(3, keepdim=True)).sum(2, keepdim=True) + EPSILON  # (B, N, 1, n)
        queries = (keys / row_sums).flatten(1, 2)  # (B, N c, n)
        keys = keys.flatten(1, 2)
        weights = self.mixing.softmax(1).t().repeat_interleave(embeddings.shape[2], 0).unsqueeze(2)  # (N c, N, 1)

        def mixed(state: Tensor) -> Tensor:
            return (weights * state).flatten(2)  # (B, N c, N C)

        step = keys @ queries.transpose(1, 2)  # K^T Q: (B, N c, N c)
        start = (keys @ features.flatten(1, 2).transpose(1, 2)).view(batch, -1, number, channels)  # K^T X_0
        state = start
        for _ in range(STEPS - 1):
            state = (step @ mixed(state)).view_as(start)
            if restart is not None:
                share = restart.unsqueeze(1)  # (N, 1)
                state = share * state + (1 - share) * start
        return (mixed(state).transpose(1, 2) @ queries).view_as(features)

    @staticmethod
    def published_multiply_adds(embeddings: Tensor, features: Tensor, *_: object) -> int:
        """Multiply-adds of the same with n x n affinities, which Table 1 gives."""
        pixels = features.shape[-1]
        return features.shape[0] * features.shape[1] * pixels**2 * (embeddings.shape[2] + STEPS * features.shape[2])


class PAP(nn.Module):
    """O_t = tail_t(beta_t X_9 + (1 - beta_t) F_t), X_9 being F_t after nine diffusion steps at half the resolution.

    Embeddings are 1x1 Conv-BN-ReLU to C // 2 channels. Inferred from the resources of Table 1: nine steps, the half
    resolution (rounded down), the widths. Inferred without evidence: affinities of unit vectors with unit row sums, and
    one learnable beta a task that blends after the last step. With `restart` every step blends with its input, as a
    public re-implementation does; the last one with the F_t of full resolution.

    Args:
        tasks: sources and targets.
        channels: C of the features.
        restart: blend at every step.
        dropout: rate of the channel dropout at the end.
    """

    label_tasks: tuple[str, ...] = ()

    def __init__(self, tasks: tuple[str, ...], channels: int, *, restart: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.tasks, self.restart = tasks, restart
        self.embeddings = nn.ModuleDict({task: nn.Sequential(*conv_bn_act(channels, channels // 2)) for task in tasks})
        self.diffusion = AffinityDiffusion(len(tasks))
        self.beta = nn.Parameter(torch.full((len(tasks),), BETA))
        self.tails = nn.ModuleDict({task: tail(channels, dropout) for task in tasks})

    def forward(
        self, features: dict[str, Tensor], aux_logits: dict[str, Tensor], valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Refine features (B, C, h, w) by task; `aux_logits` and `valid` are not read."""
        embedded = {task: embed(features[task]) for task, embed in self.embeddings.items()}
        with full_precision(embedded[self.tasks[0]].device):
            diffused = self._diffuse(embedded, features)
        return {task: last(diffused[task].to(features[task])) for task, last in self.tails.items()}

    def _diffuse(self, embedded: dict[str, Tensor], features: dict[str, Tensor]) -> dict[str, Tensor]:
        """beta_t X_9 + (1 - beta_t) F_t by task, in full precision."""
        size = features[self.tasks[0]].shape[-2:]
        half = max(size[0] // 2, 1), max(size[1] // 2, 1)

        def stacked(maps: dict[str, Tensor]) -> Tensor:
            return torch.stack([positions(resize(at_least_float32(maps[task]), half)) for task in self.tasks], 1)

        restart = self.beta if self.restart else None
        small = self.diffusion(stacked(embedded), stacked(features), restart).unflatten(3, half)
        return {
            task: beta * resize(x, size) + (1 - beta) * features[task]
            for task, x, beta in zip(self.tasks, small.unbind(1), self.beta, strict=True)
        }
