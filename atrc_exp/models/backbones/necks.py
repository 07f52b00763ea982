"""Necks by name: what makes the maps that each task's head reads from the backbone's."""

from collections.abc import Callable

from atrc_exp.config import NeckConfig
from atrc_exp.models.backbones.aspp import SkipNeck
from atrc_exp.models.backbones.fpm import FPM
from atrc_exp.models.backbones.pyramid import Neck
from atrc_exp.tasks import Task

Builder = Callable[[NeckConfig, list[int], tuple[Task, ...]], Neck | None]


def build_neck(config: NeckConfig, channels: list[int], tasks: tuple[Task, ...]) -> Neck | None:
    """Build the neck `config.name` on the backbone's maps of `channels[i]` channels; None leaves them as they are."""
    return NECKS[config.name](config, channels, tasks)


def _shared(*_: object) -> None:
    """All heads read the backbone's own maps."""


def _fpm(config: NeckConfig, channels: list[int], tasks: tuple[Task, ...]) -> Neck:
    return FPM(channels, {task.name: task.channels for task in tasks}, softmax=config.softmax)


def _skip(config: NeckConfig, channels: list[int], tasks: tuple[Task, ...]) -> Neck:
    return SkipNeck(channels, [task.name for task in tasks], aspp=config.name == "aspp")


NECKS: dict[str, Builder] = {"shared": _shared, "fpm": _fpm, "skip": _skip, "aspp": _skip}
