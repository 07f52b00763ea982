"""The command line before Hydra reads it, and overrides in the form that Hydra reads."""

import os
import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.main import get_args_parser

from atrc_exp.config import Config
from atrc_exp.config.checks import path_keys
from atrc_exp.config.keys import override_key
from atrc_exp.errors import UserError

PROGRAM = "python -m atrc_exp"

_PAIR = re.compile(r"^(pixel=)(-?\d+,-?\d+)$")  # a pair of numbers, which Hydra would take for a sweep over two values


def prepared(arguments: Sequence[str]) -> list[str]:
    """Options first, since Hydra wants them together, then the overrides as it reads them.

    Raises:
        UserError: an override without a key.
        SystemExit: options that Hydra does not have.
    """
    parser = get_args_parser()
    parser.prog = PROGRAM
    overrides = parser.parse_intermixed_args(list(arguments)).overrides
    if nameless := [override for override in overrides if not override_key(override)]:
        raise UserError(f"'{nameless[0]}' names no key; give KEY=VALUE")
    options = [argument for argument in arguments if argument not in overrides]
    return [*options, *map(readable, overrides)]


def readable(override: str) -> str:
    """An override as Hydra reads it: with `~` expanded in all paths that it gives, and a pixel as a list."""
    if override_key(override) not in path_keys(Config):
        return _PAIR.sub(r"\1[\2]", override)
    key, equals, value = override.partition("=")
    return key + equals + ",".join(map(os.path.expanduser, value.split(",")))


def quoted(override: str) -> str:
    """An override as a shell takes it, with its value as literal text for Hydra."""
    key, _, value = override.partition("=")
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
