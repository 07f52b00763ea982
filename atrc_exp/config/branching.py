"""Encoders in which groups of tasks have layers of their own, and the search for the groups."""

from dataclasses import dataclass, field

from atrc_exp.config.checks import path, positive, require


@dataclass(kw_only=True)
class BranchingConfig:
    """Branched encoder (BMTAS, Bruggemann et al., BMVC 2020); all keys but `file` belong to stage=branch."""

    file: str | None = path()
    """A branching.json or the folder of a branch search; null shares the whole encoder."""
    layers: str = "block"
    """What may branch: every residual block, or whole stages, which takes as much memory but fewer logits."""
    resource_weight: float = 0.05
    """Weight of the expected GFLOPs of the encoder in the loss of the architecture, >= 0."""
    resource_form: str = "published"
    """Expected GFLOPs by the published recursion, which overestimates them, or exact."""
    arch_share: float = 0.2
    """Share of the training images that trains the architecture, the rest trains the weights, in (0, 1)."""
    warmup: float = 0.05
    """Share of the epochs at the start in which every task keeps to its own copies, in [0, 1)."""
    temperature: list[float] = field(default_factory=lambda: [5.0, 0.1])
    """Gumbel-softmax temperature in the first epoch after the warm-up and in the last, linear in between, > 0."""
    lr: float = 1e-3
    """Adam's rate for the weights."""
    weight_decay: float = 1e-4
    """Weight decay of the weights, >= 0."""
    arch_lr: float = 0.01
    """Adam's rate for the architecture."""
    arch_weight_decay: float = 5e-5
    """Weight decay of the architecture, >= 0."""

    def __post_init__(self) -> None:
        require(self.layers in ("block", "stage"), "branching.layers", self.layers, "block or stage")
        forms = ("published", "exact")
        require(self.resource_form in forms, "branching.resource_form", self.resource_form, " or ".join(forms))
        require(0 < self.arch_share < 1, "branching.arch_share", self.arch_share, "in (0, 1)")
        require(0 <= self.warmup < 1, "branching.warmup", self.warmup, "in [0, 1)")
        pair = self.temperature
        require(len(pair) == 2 and min(pair) > 0, "branching.temperature", pair, "[first, last], both > 0")
        for key in ("lr", "arch_lr"):
            positive(f"branching.{key}", getattr(self, key))
        for key in ("resource_weight", "weight_decay", "arch_weight_decay"):
            require(getattr(self, key) >= 0, f"branching.{key}", getattr(self, key), ">= 0")
