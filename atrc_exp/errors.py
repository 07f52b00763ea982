"""The exception that stands for a user's mistake, and its form under torchrun."""

from collections.abc import Iterable


class UserError(Exception):
    """What was given, what is allowed, what to do: printed as one short message without a traceback."""


def missing_extra(what: str, packages: Iterable[str], extra: str) -> UserError:
    """What needs packages that are not installed, and the command that installs them."""
    return UserError(f"{what} needs {', '.join(packages)}: pip install 'atrc_exp[{extra}]' brings what is missing")


class RankError(UserError):
    """What one of several processes has met alone, and therefore prints itself; other errors are met by all."""
