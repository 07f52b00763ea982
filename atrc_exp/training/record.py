"""Running loss record on the device: means for the log, and the first step at which a term was not finite.

Nothing here waits for the device until `read` or `check`, which run at logging, validation and checkpoint steps.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from atrc_exp.errors import UserError
from atrc_exp.processes.ranks import Ranks

_NEVER = torch.iinfo(torch.int64).max


class LossRecord:
    """Sums of loss terms since the last record, and per term the first step (1-based) with a NaN or infinity."""

    def __init__(self, terms: Iterable[str], device: torch.device) -> None:
        self.terms = tuple(terms)
        self.sums = torch.zeros(len(self.terms), dtype=torch.float64, device=device)
        self.first_bad = torch.full((len(self.terms),), _NEVER, dtype=torch.int64, device=device)
        self.steps = 0

    def add(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Add this rank's share of every term at `step`, summed over its micro-batches (scalars)."""
        values = torch.stack([terms[name].detach().double() for name in self.terms])
        self.sums += values
        self.first_bad = torch.where(values.isfinite(), self.first_bad, self.first_bad.clamp(max=step))
        self.steps += 1

    def read(self, ranks: Ranks) -> dict[str, float]:
        """Mean of every term over the steps since the last call, summed over ranks; starts a new window."""
        total = ranks.sum(dict(zip(self.terms, self.sums, strict=True)))
        means = {name: float(total[name]) / max(self.steps, 1) for name in self.terms}
        self.sums.zero_()
        self.steps = 0
        return means

    def check(self, ranks: Ranks) -> None:
        """Stop the run on every rank if any rank has met a loss that is not finite.

        Raises:
            UserError: names the first terms and the step.
        """
        first_bad = ranks.minimum(self.first_bad.clone()).tolist()
        step = min(first_bad)
        if step == _NEVER:
            return
        names = ", ".join(name for name, bad in zip(self.terms, first_bad, strict=True) if bad == step)
        raise UserError(
            f"the loss of {names} is not finite at step {step}; the last checkpoint is from before it. Lower optim.lr, "
            "use engine.precision=fp32 or bf16, or start with debug.anomaly=true to see the operation"
        )

    def state_dict(self, ranks: Ranks) -> dict[str, Any]:
        """The open window, summed over ranks, so that a resumed run logs the same means; collective."""
        total = ranks.sum(dict(zip(self.terms, self.sums, strict=True)))
        return {"sums": {name: float(total[name]) for name in self.terms}, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any], ranks: Ranks) -> None:
        """Continue the window of a checkpoint: rank 0 stands for all ranks that there were."""
        shares = [state["sums"][name] if ranks.is_main else 0.0 for name in self.terms]
        self.sums = torch.tensor(shares, dtype=torch.float64).to(self.sums.device)
        self.steps = state["steps"]
