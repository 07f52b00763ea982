"""A user's own module, by the name of its class; `allow` says which modules may be imported (`config/root.py`)."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from atrc_exp.errors import UserError


def build(target: str | None, options: Mapping[str, Any], tasks: tuple[str, ...], channels: int) -> nn.Module:
    """Make `target(tasks, channels, **options)`, a module with the interface of `atrc_exp.models.distillation`.

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
    if not getattr(module, "multi_scale", False):  # which reads pyramids
        _check_first_output(module, key)
    return module


def _check_first_output(module: nn.Module, key: str) -> None:
    """Compare what the module returns with what it was given, at its first call only: later ones cost nothing."""

    def check(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        hook.remove()
        features: Mapping[str, Tensor] = inputs[0]
        if fault := _fault(features, output):
            raise UserError(f"{key}: {fault}; it must return {{task: map}} with the tasks and shapes of its features")

    hook = module.register_forward_hook(check)


def _fault(features: Mapping[str, Tensor], output: Any) -> str | None:
    """What is wrong with the refined features, None where nothing is."""
    if not isinstance(output, Mapping):
        return f"returned {type(output).__name__}"
    if output.keys() != features.keys():
        return f"returned the tasks {', '.join(map(str, output)) or 'none'} for features of {', '.join(features)}"
    for task, given in features.items():
        refined = output[task]
        if not isinstance(refined, Tensor):
            return f"returned {type(refined).__name__} for {task}"
        if refined.shape != given.shape:
            return f"returned a map {tuple(refined.shape)} for {task}, whose features are {tuple(given.shape)}"
    return None
