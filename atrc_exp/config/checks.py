"""The one form of all configuration errors, and what the fields of the schema say of their keys beside a value."""

import os
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, replace
from typing import Any, TypeVar

from atrc_exp.errors import UserError

T = TypeVar("T")


def require(condition: bool, key: str, value: Any, allowed: str, remedy: str = "") -> None:
    """Raise a UserError with the value given, what is allowed and a remedy, unless the condition holds."""
    if not condition:
        raise UserError(f"{key}={value}: must be {allowed}" + (f"; {remedy}" if remedy else ""))


def positive(key: str, value: float) -> None:
    """Require a value above zero."""
    require(value > 0, key, value, "> 0")


FREE = {"free": True}
"""Metadata of a key, or of a group of keys, that may differ between the starts of a run: it changes no result."""
_PATH = {"path": True}


def free(default: Any) -> Any:
    """A key that may differ between the starts of a run."""
    return field(default=default, metadata=FREE)


def path(default: str | None = None) -> Any:
    """A key that holds a path, in which `~` stands for the user's home."""
    return field(default=default, metadata=_PATH)


def free_path(default: str | None = None) -> Any:
    """A key that holds a path and may differ between the starts of a run."""
    return field(default=default, metadata=_PATH | FREE)


def path_keys(node: Any) -> set[str]:
    """Dotted names of all keys that hold paths, below a dataclass or its type."""
    return _marked(node, _PATH)


def free_keys(node: Any) -> set[str]:
    """Dotted names of all keys, and groups of keys, that may differ between the starts of a run."""
    return _marked(node, FREE)


def _marked(node: Any, mark: Mapping[str, bool], prefix: str = "") -> set[str]:
    keys = set()
    for each in fields(node):
        if each.metadata.items() >= mark.items():
            keys.add(f"{prefix}{each.name}")
        elif isinstance(each.type, type) and is_dataclass(each.type):
            keys |= _marked(each.type, mark, f"{prefix}{each.name}.")
    return keys


def with_home(node: T) -> T:
    """A copy of nested dataclasses in whose paths a leading `~` is expanded."""
    changed: dict[str, Any] = {}
    for each in fields(node):  # type: ignore[arg-type]
        value = getattr(node, each.name)
        if each.metadata.get("path") and value is not None:
            changed[each.name] = os.path.expanduser(value)
        elif is_dataclass(value):
            changed[each.name] = with_home(value)
    return replace(node, **changed)  # type: ignore[type-var]
