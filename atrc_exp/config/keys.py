"""Which keys belong to which stages: what a stage would not look at is refused, not ignored."""

from collections.abc import Iterable, Sequence

from atrc_exp.config.root import Config
from atrc_exp.config.stages import STAGES, STORED_STAGES, TRAINING_STAGES
from atrc_exp.errors import UserError

_NETWORK = tuple(stage for stage in STAGES if stage not in ("generate", "prepare", "report"))
_COUNTED = ("profile", "benchmark")  # of a training, whose keys may therefore stand beside them
_SCORED = (*TRAINING_STAGES, "branch", "evaluate", "importance")

USED_BY: dict[str, Sequence[str]] = {
    "run": STORED_STAGES,
    "checkpoint": ("evaluate", "predict", "attention"),
    "predictions": ("evaluate",),
    "init": TRAINING_STAGES,
    "input": ("predict",),
    "image": ("attention",),
    "pixel": ("attention",),
    "target": ("attention",),
    "output": (*STORED_STAGES, "prepare"),
    "loss_weights": _NETWORK,
    "task_forms": _NETWORK,
    "task_losses": _NETWORK,
    "genotype": _NETWORK,
    "genotype_blocks": _NETWORK,
    "backbone": _NETWORK,
    "neck": _NETWORK,
    "distillation": _NETWORK,
    "branching.file": _NETWORK,
    "branching": ("branch",),
    "search": ("search", *_COUNTED),
    "optim": _NETWORK,
    "balance": (*TRAINING_STAGES, *_COUNTED),
    "engine.save_predictions": _SCORED,
    "evaluation": (*_SCORED, *_COUNTED),
    "prepare": ("prepare",),
    "benchmark": ("benchmark",),
    "predict": ("predict",),
    "export": ("export",),
    "importance": ("importance",),
}
"""Stages by the key, or group of keys, that they use; the first entry that a key lies in counts. All use the others."""

_BALANCES = {
    "balance.lr": "uncertainty",
    "balance.interval": "dwa",
    "balance.temperature": "dwa",
    "balance.aggregator": "torchjd",
    "balance.cagrad_c": "torchjd",
}
"""The balance that reads a key."""


def override_key(override: str) -> str:
    """Dotted key of an override, `+optim.lr=0.1` or `dataset@x=y`."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def within(key: str, groups: Iterable[str]) -> bool:
    """Whether a dotted key is one of `groups` or lies in one."""
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def is_used(key: str, stage: str) -> bool:
    """Whether a stage looks at a key."""
    return stage in next((stages for group, stages in USED_BY.items() if within(key, (group,))), STAGES)


def require_used(config: Config, overrides: Sequence[str]) -> None:
    """Refuse what was given for another stage, on the command line or, of the keys that have no default, in a file.

    Raises:
        UserError: such a key, with the stages that it belongs to; a key of another balance.
    """
    stage, given = config.stage.name, {override_key(override): override.lstrip("+") for override in overrides}
    for key, stages in USED_BY.items():
        if stages is not _NETWORK and getattr(Config, key, "") is None and getattr(config, key) is not None:
            given.setdefault(key, f"{key}={getattr(config, key)}")
    for key, text in given.items():
        if not is_used(key, stage):
            stages = next(stages for group, stages in USED_BY.items() if within(key, (group,)))
            owner = "stages that build a network" if stages is _NETWORK else f"stage={'|'.join(stages)}"
            remedy = "leave it out"
            if key in ("run", "checkpoint") and stage in TRAINING_STAGES:
                remedy += f", or start from the weights of a run with init={text.partition('=')[2]}"
            raise UserError(f"{text}: belongs to {owner}, and stage={stage} does not use it; {remedy}")
        if config.balance.name != (owner := _BALANCES.get(key, config.balance.name)):
            raise UserError(f"{text}: belongs to balance={owner}, and balance={config.balance.name} does not use it; "
                            f"add balance={owner}, or leave it out")  # fmt: skip
