"""Relational contexts: attention of target pixels to one definition of "context" in a source task (Sec. 3.2).

One file a type; `genotype.contexts.CONTEXT_TYPES` names their classes. `GlobalContext`, `LocalContext` and
`LabelContext` are stable imports.
"""

from importlib import import_module
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.genotype.contexts import context_type
from atrc_exp.models.contexts.base import RelationalContext
from atrc_exp.models.contexts.global_ import GlobalContext
from atrc_exp.models.contexts.label import LabelContext
from atrc_exp.models.contexts.local import LocalContext

__all__ = ["GlobalContext", "LabelContext", "LocalContext", "RelationalContext", "build_context"]


def build_context(
    name: str,
    channels: int,
    attention_channels: int,
    *,
    kernel_size: int = 9,
    border: str = "zero",
    affine_value_norm: bool = True,
) -> RelationalContext:
    """Build the context of a type.

    Raises:
        UserError: an unknown type, or one without a module.
    """
    home = context_type(name).module
    if home is None:
        raise UserError(f"context type '{name}' has no module: a block of this type is left out")
    module, _, attribute = home.rpartition(".")
    context = getattr(import_module(module), attribute)
    settings: dict[str, Any] = {"kernel_size": kernel_size, "border": border}
    own = {key: settings[key] for key in context.settings}
    return context(channels, attention_channels, affine_value_norm=affine_value_norm, **own)
