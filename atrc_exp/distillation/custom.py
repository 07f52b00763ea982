"""A user's own module, by the name of its class; which modules may be imported says `allow` (`config/root.py`)."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from atrc_exp.errors import UserError


def build(target: str | None, options: Mapping[str, Any], tasks: tuple[str, ...], channels: int) -> nn.Module:
    """Make `target(tasks, channels, **options)`, a module with the interface of `atrc_exp.distillation`.

    Args:
        target: `<module>.<class>`; the configuration has checked that its module is allowed.
        options: the user's own keyword arguments.

    Raises:
        UserError: no such module or class, or one that is no `nn.Module` with `label_tasks`. Errors inside the user's
            code are left as they are.
    """
    name, _, attribute = (target or "").rpartition(".")
    key = f"distillation._target_={target}"
    if not name:
        raise UserError(f"{key}: must be MODULE.CLASS, as in my_module.MyDistillation")
    try:
        kind = getattr(import_module(name), attribute, None)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(f"{error.name}."):
            raise
        raise UserError(f"{key}: no module '{name}'; start in its folder, or name that in PYTHONPATH") from None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"{key}: '{attribute}' is no class in {name} that derives from torch.nn.Module")
    module = kind(tasks, channels, **options)
    if not hasattr(module, "label_tasks"):
        raise UserError(f"{key}: needs an attribute label_tasks, () where it reads no label logits")
    return module
