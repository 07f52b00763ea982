"""The one form of all configuration errors."""

from typing import Any

from atrc_exp.errors import UserError


def require(condition: bool, key: str, value: Any, allowed: str, remedy: str = "") -> None:
    """Raise a UserError with the value given, what is allowed and a remedy, unless the condition holds."""
    if not condition:
        raise UserError(f"{key}={value}: must be {allowed}" + (f"; {remedy}" if remedy else ""))


def positive(key: str, value: float) -> None:
    """Require a value above zero."""
    require(value > 0, key, value, "> 0")
