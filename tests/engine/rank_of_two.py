"""One of the two processes that `test_distributed.py` starts: `collectives` or `boundaries` alone, or
`training` into a folder."""

import sys
from pathlib import Path

import torch

from atrc_exp.engine.distributed import Ranks
from atrc_exp.engine.scores import Scores
from atrc_exp.errors import UserError
from atrc_exp.tasks import build_tasks


def collectives(ranks: Ranks) -> None:
    own = {"b": torch.tensor(ranks.rank + 1), "a": torch.tensor(10.0)}
    assert ranks.sum(own) == {"a": 20.0, "b": 3.0}
    assert ranks.minimum(torch.tensor([5 - ranks.rank, ranks.rank])).tolist() == [4, 0]
    gathered = ranks.gather(f"rank {ranks.rank}")
    assert gathered == (["rank 0", "rank 1"] if ranks.is_main else [])
    assert ranks.on_main(lambda: ranks.rank) == 0

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


def training(ranks: Ranks, runs_dir: Path) -> None:
    """The runs that the single process makes too, then one with a NaN in the images of rank 1."""
    import tiny_engine as tiny

    for kind in ("search", "atrc"):
        tiny.run_training(tiny.exact_config(runs_dir, kind), ranks, hold_bn=True, dtype=torch.float64)
    spoilt = tiny.config(runs_dir, kind="atrc", iterations=3, seed_of_run=1)
    try:
        tiny.run_training(spoilt, ranks, spoil_at=1, spoil_rank=1)
    except UserError as error:
        assert "at step 2" in str(error), error
    else:
        raise AssertionError("a loss that is not finite on one rank must stop every rank")


if __name__ == "__main__":
    torch.set_num_threads(1)
    started = Ranks.start("cpu")
    if sys.argv[1] == "training":
        training(started, Path(sys.argv[2]))
    else:
        {"collectives": collectives, "boundaries": boundaries}[sys.argv[1]](started)
    started.close()
