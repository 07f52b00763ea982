"""One of the two processes that tests start: `collectives` or `boundaries` alone, or `training`, `weighing`, `dying` or
`interrupted` into a folder."""

import os
import signal
import sys
from pathlib import Path

import torch

from atrc_exp.errors import UserError
from atrc_exp.evaluation.scores import Scores
from atrc_exp.models.search import gumbel_noise
from atrc_exp.processes.interrupt import Interrupted
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import checkpoint
from atrc_exp.tasks import IGNORE, build_tasks
from atrc_exp.training.state import TrainState


def collectives(ranks: Ranks) -> None:
    own = {"b": torch.tensor(ranks.rank + 1), "a": torch.tensor(10.0)}
    assert ranks.sum(own) == {"a": 20.0, "b": 3.0}
    assert ranks.minimum(torch.tensor([5 - ranks.rank, ranks.rank])).tolist() == [4, 0]
    gathered = ranks.gather(f"rank {ranks.rank}")
    assert gathered == (["rank 0", "rank 1"] if ranks.is_main else [])
    assert ranks.on_main(lambda: ranks.rank) == 0
    torch.manual_seed(ranks.rank)
    noise = ranks.gather(gumbel_noise(3, seed=0, step=7))
    assert not ranks.is_main or torch.equal(noise[0], noise[1])

    def fail() -> None:
        raise UserError("only rank 0 looked")

    try:
        ranks.on_main(fail)
    except UserError as error:
        assert str(error) == "only rank 0 looked"
    else:
        raise AssertionError("the error of rank 0 must reach every rank")


def boundaries(ranks: Ranks) -> None:
    """Each rank adds one of two images; both get the scores of both."""
    task = build_tasks(["edge"], num_classes={}, edge_positive_weight=0.8, edge_max_distance=0.03)
    images = [torch.randn(1, 24, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    label = torch.zeros(24, 32, dtype=torch.long)
    label[12] = 1
    apart, together = Scores(task, ranks), Scores(task, Ranks())
    apart.add(str(ranks.rank), {"edge": images[ranks.rank]}, {"edge": label})
    for rank, image in enumerate(images):
        together.add(str(rank), {"edge": image}, {"edge": label})
    assert apart.compute() == together.compute()
    assert apart.boundaries == together.boundaries and apart.boundaries["edge"].images == 2
    nothing = Scores(task, ranks)
    nothing.add(str(ranks.rank), {"edge": images[0]}, {"edge": torch.full_like(label, IGNORE)})
    nothing.compute()
    assert not nothing.boundaries


def training(ranks: Ranks, runs_dir: Path) -> None:
    """The runs that the single process makes too, then one with a NaN in the images of rank 1."""
    import tiny_engine as tiny

    for dtype in (torch.float64, torch.float32):
        for kind, strategy in tiny.EXACT_RUNS:
            config = tiny.exact_config(runs_dir / str(dtype) / strategy, kind, strategy)
            tiny.run_training(config, ranks, hold_bn=True, dtype=dtype)
    spoilt = tiny.config(runs_dir, kind="atrc", iterations=3, seed_of_run=1)
    try:
        tiny.run_training(spoilt, ranks, spoil_at=1, spoil_rank=1)
    except UserError as error:
        assert "at step 2" in str(error), error
    else:
        raise AssertionError("a loss that is not finite on one rank must stop every rank")


def weighing(ranks: Ranks, runs_dir: Path) -> None:
    """The search with `balance=torchjd` that the single process makes too."""
    import tiny_engine as tiny

    tiny.run_training(tiny.weighing_config(runs_dir), ranks, hold_bn=True, dtype=torch.float64)


def dying(ranks: Ranks, runs_dir: Path) -> None:
    """Rank 1 is killed in its fourth step."""
    import tiny_engine as tiny

    loading = {"stop_at": 3} if ranks.rank == 1 else {}
    tiny.Killed.__init__ = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[misc]
    tiny.run_training(tiny.config(runs_dir, kind="atrc"), ranks, **loading)


def interrupted(ranks: Ranks, runs_dir: Path) -> None:
    """Rank 1 alone gets a signal in its fourth step; both leave after the same one, and go on together.

    Beside it, in `whole`, the same run without the signal.
    """
    import tiny_engine as tiny

    from atrc_exp.training import step

    tiny.run_training(tiny.config(runs_dir / "whole", kind="atrc", checkpoint_every=100), ranks)
    config, update = tiny.config(runs_dir, kind="atrc", checkpoint_every=100), step._update

    def signalled(config: tiny.Config, state: TrainState, optimizers: list) -> None:
        if ranks.rank == 1 and state.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        update(config, state, optimizers)

    step._update = signalled
    try:
        tiny.run_training(config, ranks)
    except Interrupted as stop:
        assert stop.code == 143
        assert checkpoint.load(tiny.folder(config) / "checkpoints" / checkpoint.LAST)["iteration"] == 5
    else:
        raise AssertionError("a signal to one rank must stop every rank")
    step._update = update
    tiny.run_training(config, ranks)


if __name__ == "__main__":
    torch.set_num_threads(1)
    started = Ranks.start("cpu")
    work = {"collectives": collectives, "boundaries": boundaries, "training": training, "weighing": weighing,
            "dying": dying, "interrupted": interrupted}[sys.argv[1]]  # fmt: skip
    work(started, *map(Path, sys.argv[2:]))  # type: ignore[operator]
    started.close()
