"""Necks by name: what makes the maps that each task's head reads from the backbone's."""

from collections.abc import Callable, Sequence

from atrc_exp.config import NeckConfig
from atrc_exp.models.necks.aspp import SkipNeck
from atrc_exp.models.necks.fpm import FPM
from atrc_exp.models.necks.pyramid import Neck
from atrc_exp.models.necks.simple_fpn import SimpleFPN
from atrc_exp.models.necks.task_maps import TaskMapsNeck
from atrc_exp.tasks import Task

Builder = Callable[[NeckConfig, list[int], list[int], tuple[Task, ...]], Neck | None]


def build_neck(config: NeckConfig, channels: list[int], strides: list[int], tasks: tuple[Task, ...]) -> Neck | None:
    """Build the neck `config.name`; None leaves the maps of the backbone as they are.

    Args:
        channels: of the backbone's maps.
        strides: of the backbone's maps in pixels.

    Raises:
        UserError: the neck needs other maps.
    """
    return NECKS[config.name](config, channels, strides, tasks)


def with_own_maps(neck: Neck | None, channels: list[int], tasks: Sequence[str]) -> Neck:
    """The neck, or one behind it, that gives every task a pyramid of its own.

    Args:
        channels: of the backbone's maps.
    """
    if neck is not None and neck.own_maps:
        return neck
    return TaskMapsNeck(neck, channels, tasks)


def _shared(*_: object) -> None:
    """All heads read the backbone's own maps."""


def _fpm(config: NeckConfig, channels: list[int], _: list[int], tasks: tuple[Task, ...]) -> Neck:
    return FPM(channels, {task.name: task.channels for task in tasks}, softmax=config.softmax)


def _skip(config: NeckConfig, channels: list[int], _: list[int], tasks: tuple[Task, ...]) -> Neck:
    return SkipNeck(channels, [task.name for task in tasks], aspp=config.name == "aspp")


def _simple_fpn(_: NeckConfig, channels: list[int], strides: list[int], __: tuple[Task, ...]) -> Neck:
    return SimpleFPN(channels, strides)


NECKS: dict[str, Builder] = {
    "shared": _shared,
    "fpm": _fpm,
    "skip": _skip,
    "aspp": _skip,
    "simple_fpn": _simple_fpn,
}
