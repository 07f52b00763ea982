"""What to set where a model of timm does not take images of some size: many are made for one size."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import timm

from atrc_exp.config import BackboneConfig


def is_fixed(config: BackboneConfig, options: dict[str, Any]) -> bool:
    """Whether timm made the model for one size, and no option frees it."""
    known = timm.get_pretrained_cfg(config.name)
    free = options.get("dynamic_img_size") or not options.get("strict_img_size", True)
    return bool(known and known.fixed_input_size and not free)


def refusal(
    sees_all: Callable[[BackboneConfig], bool], config: BackboneConfig, size: tuple[int, int], strides: Sequence[int]
) -> str | None:
    """Say why a model refuses images of `size` (H, W), and which keys let it take them.

    Args:
        sees_all: builds the model with other keys, runs it on an image of this size, raises what the model raises, and
            says whether its maps leave no pixels out.
        strides: of its maps.

    Returns:
        None where the model takes this size, so that an error had another cause.
    """
    try:
        sees_all(config)
    except Exception as error:
        reason = one_line(error)
    else:
        return None
    for keys, other in _alternatives(config, size, strides):
        with suppress(Exception):
            if sees_all(other):
                cure = f"set {keys}"
                break
    else:
        known = timm.get_pretrained_cfg(config.name)
        own = f" ([{', '.join(map(str, known.input_size[1:]))}])" if known else ""
        cure = f"set dataset.crop to a size that it takes{own}, or choose another backbone"
    return f"backbone.name={config.name} does not take images of {size[0]}x{size[1]} ({reason}); {cure}"


def _alternatives(
    config: BackboneConfig, size: tuple[int, int], strides: Sequence[int]
) -> Iterator[tuple[str, BackboneConfig]]:
    """What often helps, as it is typed and as a configuration; the least change first."""
    for multiple in (config.multiple, *sorted(set(strides))):
        step = multiple or 1
        padded = [-(-side // step) * step for side in size]
        padding = "" if multiple == config.multiple else f" backbone.multiple={multiple}"
        for options in ({}, {"dynamic_img_size": True}, {"img_size": padded}):
            text = "".join(f" +backbone.options.{key}={_typed(value)}" for key, value in options.items())
            changed = replace(config, multiple=multiple, options={**config.options, **options})
            if text or padding:
                yield (text + padding).strip(), changed


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def one_line(error: Exception) -> str:
    """Kind and first line of a foreign error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
