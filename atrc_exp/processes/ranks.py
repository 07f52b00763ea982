"""The processes of one run: one on a laptop, several under torchrun; the same code for both.

Collectives run over gloo on CPU tensors and over NCCL on CUDA tensors. With a single process they do nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from atrc_exp.errors import RankError, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among all processes of the run."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def start(cls, device: str = "auto") -> "Ranks":
        """Join the process group that torchrun's environment describes, if any, and choose this rank's device.

        Args:
            device: `auto` (CUDA where there is one), `cpu` or `cuda`.

        Raises:
            UserError: CUDA asked for where there is none, or more ranks on a host than it has CUDA devices.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("engine.device=cuda: this machine has no usable CUDA device; set engine.device=cpu or auto")
        use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        chosen = _cuda_device() if use_cuda else torch.device("cpu")
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if use_cuda else "gloo")
        return cls(rank, world, chosen)

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def close(self) -> None:
        """Leave the process group. A single process has none."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add up scalars by name over all ranks, which must give the same names; float64 results in one collective."""
        names = sorted(values)
        stacked = torch.stack([values[name].detach().to(self.device, torch.float64) for name in names])
        if self.world > 1:
            dist.all_reduce(stacked)
        return dict(zip(names, stacked.unbind(), strict=True))

    def total(self, value: Tensor) -> Tensor:
        """Sum elementwise over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def minimum(self, value: Tensor) -> Tensor:
        """Take the elementwise minimum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(value, op=dist.ReduceOp.MIN)
        return value

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors on every rank with those of rank 0."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def gather(self, value: T) -> list[T]:
        """Collect an object of each rank, in the order of the ranks. Rank 0 gets them, the others get an empty list."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world if self.is_main else []
        dist.gather_object(value, gathered if self.is_main else None)
        return gathered

    def on_main(self, action: Callable[[], T]) -> T:
        """Run `action` on rank 0 alone and hand its result to every rank; its error is raised on every rank.

        Without this the other ranks would wait for a rank that has already stopped.
        """
        if self.world == 1:
            return action()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = action()
            except (UserError, OSError) as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say in one message that a collective failed because another rank has died.

        Raises:
            RankError: takes the place of the backend's error, which speaks of sockets.
        """
        try:
            yield
        except RuntimeError as error:
            backend = isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "NCCL"))
            if self.world == 1 or not backend:
                raise
            raise RankError(
                f"rank {self.rank} has lost another rank, whose own message says why; "
                f"the same command goes on from the last checkpoint ({str(error).splitlines()[0]})"
            ) from error

    def alone(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items. If one of them raises a user's mistake, such as a damaged file, this rank alone prints it.

        Raises:
            RankError: takes the place of the UserError where there are several ranks.
        """
        try:
            yield from items
        except UserError as error:
            if self.world == 1:
                raise
            raise RankError(f"rank {self.rank}: {error}") from None

    def wrap(self, module: nn.Module, *, find_unused: bool) -> nn.Module:
        """Wrap the module so that gradients become the mean over ranks. A single process gets the module itself.

        Buffers are left to each rank: with SyncBN they agree, without it those of rank 0 are used (`copy_from_main`).
        """
        if self.world == 1:
            return module
        wrapped = nn.parallel.DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            find_unused_parameters=find_unused,
        )
        wrapped.broadcast_buffers = False  # the argument of this name is deprecated, its successor not in every version
        return wrapped


def _cuda_device() -> torch.device:
    local, available = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= available:
        raise UserError(
            f"rank {local} was started on a host with {available} CUDA devices; use --nproc-per-node={available}, or "
            "under Slurm as many hydra.launcher.gpus_per_node as tasks_per_node"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def take_gpu(worker: int) -> None:
    """Show one GPU of this machine to this process, in turn by the number of its worker in a sweep.

    `CUDA_VISIBLE_DEVICES` bounds the choice where it is set.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = given.split(",") if given is not None else [str(index) for index in range(torch.cuda.device_count())]
    if devices not in ([], [""]):
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[worker % len(devices)]
