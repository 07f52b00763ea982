"""How it is trained: search, optimisers, balance of the tasks, engine, and switches for finding faults."""

from dataclasses import dataclass, field

from atrc_exp.config.checks import free, positive, require
from atrc_exp.genotype import CONTEXT_TYPES


@dataclass(kw_only=True)
class SearchConfig:
    """Search of the context types, by default that of the paper (Sec. 3.3, App. A)."""

    candidates: list[str] | None = None
    """Context types that every block mixes, two or more, in any order, such as [none,local,axial]; null are the paper's
    five."""
    strategy: str = "gumbel"
    """How the supergraph is trained and a genotype chosen: a name of atrc_exp/models/search/strategies/build.py."""
    keep: int | float | None = None
    """Contexts of a block that is not frozen: so many of the most probable types (>= 1), or all of at least such a
    probability (in (0, 1)) and always the most probable one; none is left out beside others. null keeps one type."""
    arch_lr: float = 5e-4
    """Adam's rate for the architecture logits; belongs to 40 000 iterations, shorter searches need more."""
    temperature: list[float] = field(default_factory=lambda: [1.0, 0.05])
    """Gumbel-softmax temperature: first + (last - first) * i / iterations at iteration i, from 0 on; > 0."""
    entropy: list[float] = field(default_factory=lambda: [-0.02, 0.06])
    """Weight of the mean block entropy, by the same rule."""
    freeze_gap: float = 0.3
    """A block is fixed once its two largest probabilities differ by this much, in (0, 1]."""
    clip_norm: float = 10.0
    """Bound of the joint gradient norm of network and architecture, > 0. Retraining has `optim.clip_norm`."""
    resource_weight: float = 0.0
    """Weight in the loss of the expected multiply-adds of the network, as a share of the dearest network's, >= 0."""
    budget: float | None = None
    """With `resource_weight`: multiply-adds for one image of `dataset.crop`, in 10^9, up to which nothing is added."""
    bilevel: bool = False
    """gumbel, gumbel_st, darts: the logits learn from held-out training images, in alternation with the weights, which
    learn from the others."""
    held_out: float = 0.1
    """Share of the training images that strategies which choose by a score (spos, random) keep for it, or from which
    the logits learn with `bilevel`, in (0, 1)."""
    population: int = 10
    """Genotypes that evolution (spos) scores in each generation, >= 1; random scores as many as evolution in all."""
    generations: int = 5
    """Generations of evolution after the first, random one, >= 0."""
    mutation: float = 0.1
    """Probability with which a block of a mutated genotype is drawn anew, in (0, 1]."""

    def __post_init__(self) -> None:
        if (names := self.candidates) is not None:
            for name in names:
                require(name in CONTEXT_TYPES, "search.candidates", name, f"one of {', '.join(CONTEXT_TYPES)}")
            require(len(set(names)) == len(names), "search.candidates", names, "distinct")
            require(len(names) > 1, "search.candidates", names, "two or more", "with less there is nothing to search")
        keep = self.keep
        few = keep is None or (keep >= 1 if isinstance(keep, int) else 0 < keep < 1)
        require(few, "search.keep", keep, "a whole number >= 1, a probability in (0, 1), or null")
        positive("search.arch_lr", self.arch_lr)
        positive("search.clip_norm", self.clip_norm)
        pair = self.temperature
        require(len(pair) == 2 and min(pair) > 0, "search.temperature", pair, "[first, last], both > 0")
        require(len(self.entropy) == 2, "search.entropy", self.entropy, "[first, last]")
        require(0 < self.freeze_gap <= 1, "search.freeze_gap", self.freeze_gap, "in (0, 1]")
        require(self.resource_weight >= 0, "search.resource_weight", self.resource_weight, ">= 0")
        budgeted = self.budget is None or self.resource_weight > 0
        require(budgeted, "search.budget", self.budget, "null without search.resource_weight",
                "what exceeds the budget costs nothing without a weight")  # fmt: skip
        require(0 < self.held_out < 1, "search.held_out", self.held_out, "in (0, 1)")
        require(self.population >= 1, "search.population", self.population, ">= 1")
        require(self.generations >= 0, "search.generations", self.generations, ">= 0")
        require(0 < self.mutation <= 1, "search.mutation", self.mutation, "in (0, 1]")


@dataclass(kw_only=True)
class OptimConfig:
    """SGD, or AdamW, with a polynomial schedule per iteration (App. A)."""

    name: str = "sgd"
    """sgd (the paper's) or adamw (for backbones that were designed with it, such as ConvNeXt and Swin)."""
    lr: float = 0.01
    """Initial learning rate, > 0."""
    head_lr_factor: float = 1.0
    """Multiplies the rate of everything but the backbone, > 0."""
    distillation_lr_factor: float = 1.0
    """Multiplies the rate of the distillation module once more, > 0: the papers of cross_stitch and nddr raise it."""
    layer_decay: float = 1.0
    """Multiplies the rate once for every layer of the backbone from its last block down to its first, in (0, 1]: 1 is
    one rate for all, 0.7 to 0.9 usual for pretrained vision transformers."""
    momentum: float = 0.9
    """Momentum of SGD, or beta 1 of AdamW, in [0, 1)."""
    weight_decay: float = 5e-4
    """Weight decay, >= 0. It spares the weights of cross_stitch, and with adamw biases, norms, class tokens and
    embeddings of positions."""
    power: float = 0.9
    """Rate at iteration i is lr * (1 - i / iterations) ** power, >= 0."""
    clip_norm: float | None = None
    """Bound of the gradient norm in retraining, > 0; None, as in the paper, bounds it in the search alone."""

    def __post_init__(self) -> None:
        require(self.name in ("sgd", "adamw"), "optim.name", self.name, "sgd or adamw")
        positive("optim.lr", self.lr)
        positive("optim.head_lr_factor", self.head_lr_factor)
        positive("optim.distillation_lr_factor", self.distillation_lr_factor)
        require(0 < self.layer_decay <= 1, "optim.layer_decay", self.layer_decay, "in (0, 1]")
        require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, ">= 0")
        require(self.power >= 0, "optim.power", self.power, ">= 0")
        if self.clip_norm is not None:
            positive("optim.clip_norm", self.clip_norm)


@dataclass(kw_only=True)
class BalanceConfig:
    """Factors on top of the tasks' loss weights that change in training; all terms of a task get the same. Or, with
    torchjd, such weights of the tasks' gradients at the backbone's maps."""

    name: str = "fixed"
    """fixed (none, the paper), uncertainty (Kendall et al., CVPR 2018), dwa (Liu et al., CVPR 2019) or torchjd
    (gradients by the library TorchJD, the extra `balance`)."""
    lr: float = 1e-3
    """uncertainty: Adam's rate for the logarithms of the variances, > 0."""
    interval: int = 100
    """dwa: iterations whose mean losses are compared, >= 1; the paper's epoch is 100 on NYUD-v2 with batches of 8."""
    temperature: float = 2.0
    """dwa: the higher, the more equal are the factors, > 0."""
    aggregator: str = "upgrad"
    """torchjd: upgrad, pcgrad, cagrad, mgda, nash_mtl, aligned_mtl or imtl_g."""
    cagrad_c: float = 0.4
    """torchjd, cagrad: how far from the mean gradient it may go, as a share of that gradient's norm, in [0, 1)."""

    def __post_init__(self) -> None:
        names = ("fixed", "uncertainty", "dwa", "torchjd")
        require(self.name in names, "balance", self.name, f"one of {', '.join(names)}")
        positive("balance.lr", self.lr)
        require(self.interval >= 1, "balance.interval", self.interval, ">= 1")
        positive("balance.temperature", self.temperature)
        known = ("upgrad", "pcgrad", "cagrad", "mgda", "nash_mtl", "aligned_mtl", "imtl_g")
        require(self.aggregator in known, "balance.aggregator", self.aggregator, f"one of {', '.join(known)}")
        require(0 <= self.cagrad_c < 1, "balance.cagrad_c", self.cagrad_c, "in [0, 1)")


@dataclass(kw_only=True)
class EngineConfig:
    """How training runs. Keys whose default stands in `free` may differ between the starts of one run."""

    iterations: int = 40_000
    """Optimiser steps, >= 1."""
    batch_size: int = 8
    """Images of one optimiser step over all ranks and accumulation steps."""
    accumulate: int = free(1)
    """Micro-batches of one optimiser step, >= 1; may change on resume (not bit-exact)."""
    val_batch_size: int = free(8)
    """Images of one validation batch and rank, >= 1."""
    precision: str = "fp32"
    """fp32, bf16 or fp16 autocast; losses and sums over positions stay in fp32."""
    channels_last: bool = True
    """Memory layout of images and network: channels last, the faster one on CPUs, or contiguous."""
    activation_checkpointing: bool = free(False)
    """Compute activations of the backbone again in the backward pass instead of keeping them: less memory."""
    compile: bool = free(False)
    """torch.compile of the network."""
    sync_bn: bool = True
    """Batch statistics over all ranks, where more than one CUDA rank runs."""
    deterministic: bool = False
    """Deterministic kernels where torch has them."""
    device: str = free("auto")
    """auto, cpu or cuda."""
    workers: int = free(4)
    """Loader processes a rank, >= 0."""
    validate_every: int = 2_000
    """Iterations between validations, >= 1; the last iteration always validates."""
    checkpoint_every: int = free(500)
    """Iterations between checkpoints, >= 1."""
    keep_best: int = free(1)
    """Checkpoints kept beside the last: those of the best validations, marked as selected on val, >= 0."""
    log_every: int = free(20)
    """Iterations between records, >= 1."""
    progress: bool = free(True)
    """Progress bar on a terminal."""
    memory_check: bool = free(True)
    """Refuse a CPU run whose estimated memory exceeds what is free."""
    save_predictions: bool = free(False)
    """Write predictions of the last validation, boundaries as 8-bit PNG."""

    def __post_init__(self) -> None:
        for key in ("iterations", "batch_size", "accumulate", "val_batch_size", "validate_every", "checkpoint_every",
                    "log_every"):  # fmt: skip
            require(getattr(self, key) >= 1, f"engine.{key}", getattr(self, key), ">= 1")
        require(self.workers >= 0, "engine.workers", self.workers, ">= 0")
        require(self.keep_best >= 0, "engine.keep_best", self.keep_best, ">= 0")
        precisions = ("fp32", "bf16", "fp16")
        require(self.precision in precisions, "engine.precision", self.precision, f"one of {', '.join(precisions)}")
        require(self.device in ("auto", "cpu", "cuda"), "engine.device", self.device, "auto, cpu or cuda")
        require(
            self.batch_size % self.accumulate == 0,
            "engine.accumulate",
            self.accumulate,
            f"a divisor of engine.batch_size={self.batch_size}",
        )


@dataclass(kw_only=True)
class DebugConfig:
    """Switches for finding faults; all off by default."""

    overfit: bool = False
    """Train on the first batch only, without augmentation."""
    limit_val: int | None = None
    """Validate on the first n images only."""
    anomaly: bool = False
    """Autograd's anomaly detection: slow, names the operation that made a NaN."""

    def __post_init__(self) -> None:
        require(self.limit_val is None or self.limit_val >= 1, "debug.limit_val", self.limit_val, ">= 1 or null")
