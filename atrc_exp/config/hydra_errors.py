"""Hydra's and OmegaConf's errors in one short form: what was given, what is allowed, what to do."""

import dataclasses
import difflib
import re
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from atrc_exp.config import Config
from atrc_exp.config.arguments import quoted
from atrc_exp.config.folders import LabelFilesConfig
from atrc_exp.config.task_table import TaskConfig
from atrc_exp.errors import UserError, missing_extra
from atrc_exp.tasks import TASKS

USER_MISTAKES = (UserError, HydraException, OmegaConfBaseException, YAMLError)

SLURM_PLUGIN = "hydra-submitit-launcher"

_LISTED = 30  # names; a longer list is cut to those most like the one given
_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def explain(error: BaseException) -> str:
    """Say in a few lines what a user did wrong.

    Args:
        error: one of `USER_MISTAKES`.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, YAMLError):
        return "not valid YAML: " + " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    cause = _root_cause(error)
    if (key := getattr(cause, "full_key", None)) and key.startswith("hydra.") and "Could not override" in str(error):
        return _unknown_hydra_key(key, getattr(cause, "parent_node", None))
    text = f"{error}\n{cause}"
    where = _match(r"^In '([^']+)'", text)
    prefix = f"in {where}.yaml: " if where and where not in ("config", "hydra/config") else ""
    return prefix + _explain_text(text)


def _explain_text(text: str) -> str:
    key = _match(r"full_key: (\S+)", text)
    if override := _match(r"Ambiguous value for argument '(.*)'", text):
        return _several_values(override)
    if found := re.search(r"Override \+?genotype_blocks\.(\w+@\d+)\.(\w+)=(\S+) looks like", text):
        target, source, block = found.groups()
        return f"blocks of a scale are given in braces: '+genotype_blocks={{{target}: {{{source}: {block}}}}}'"
    if name := _match(r"Could not override '([^']+)'", text):
        return _unknown_key(name)
    if name := _match(r"Could not find '([^']+)'", text):
        return _unknown_option(name, re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE))
    if key == "experiment":
        return "the first line of a preset must be '# @package _global_'"
    if key and re.search(r"Key '.*' (is )?not in '", text):
        return _unknown_key(key)
    if key and (found := re.search(r"Value '(.*?)' of type '\w+' could not be converted to (\w+)", text)):
        return f"{key}={found.group(1)}: must be {_KINDS.get(found.group(2), found.group(2))}"
    if "mandatory value" in text:
        name = key or _match(r"mandatory value: (\S+)", text)
        return f"{name}: a value must be given, {name}=VALUE"
    if f"is not a subclass of {LabelFilesConfig.__name__}" in text:
        return (
            f"{key}: label maps of another task are described in the dataset's YAML file (docs/own_dataset.md), with "
            f"the keys {', '.join(field.name for field in dataclasses.fields(LabelFilesConfig))}; on the command line "
            "only keys of tasks that it describes can be changed"
        )
    if f"is not a subclass of {TaskConfig.__name__}" in text:
        return f"{key}: tasks are described in the dataset's YAML file, such as {{kind: binary}} (docs/add_a_task.md)"
    if "Cannot merge DictConfig with ListConfig" in text:  # OmegaConf does not say where
        return "a list stands where keys and values belong, such as {semseg: 40}"
    if key and "is not a ListConfig" in text:
        return f"{key}: must be a list, {key}=[A,B]"
    noise = ("raised while composing", "Error merging override")
    reason = next(line for line in text.splitlines() if line and not any(part in line for part in noise))
    return f"{key}: {reason}" if key else f"not a valid override or configuration: {reason}"


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return f"'{override}' is not an override; give KEY=VALUE"
    advice = f"if it is text, quote it for the shell and for Hydra: {quoted(override)}"
    if value.startswith(("[", "{")):
        advice = f"a list is {key}=[A,B], without blanks or in quotes for the shell; {advice}"
    return f"{override}: Hydra cannot read the value; {advice}"


def _several_values(override: str) -> str:
    key, _, value = override.partition("=")
    return (
        f"{override}: is several values; for a run with each of them add -m (--multirun), "
        f"for a list give '{key}=[{value}]', for text with a comma quote it twice: {quoted(override)}"
    )


def _match(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, flags=re.MULTILINE)
    return found.group(1) if found else None


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _unknown_key(key: str) -> str:
    if "@" in key or "/" in key or key == "experiment":
        return f"'{key}' is not a config group that can be overridden; presets are appended: +experiment=NAME"
    parts, entries = key.split("."), 0
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        known = _keys(parent)
        if not known:  # a dictionary, whose entries the schema does not name
            entries = depth
        elif part not in known:
            section = "" if depth + 1 == len(parts) else f": there is no section '{'.'.join(parts[: depth + 1])}'"
            where = f"keys of {parent}" if parent else "top-level keys"
            return f"unknown key '{key}'{section}. " + _near(part, known, where)
    entry, where = parts[entries], ".".join(parts[:entries])
    if not where:  # the dictionary itself
        return f"entries of {key} are added with a plus: '+{key}=VALUE'"
    close = difflib.get_close_matches(entry, set(TASKS) - {entry}, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    meant = ".".join((where, *(close or [entry]), *parts[entries + 1 :]))
    remedy = "New entries belong into the dataset's YAML file" if parts[0] == "dataset" else f"Add it: +{meant}=VALUE"
    return f"unknown key '{key}': {where} has no '{entry}'.{hint} {remedy}"


def _unknown_hydra_key(key: str, section: Any) -> str:
    """Hydra's own keys are not in our schema; `section` is the node of the configuration that has no such key."""
    where, _, last = key.rpartition(".")
    known = [str(name) for name in section or () if name != "_target_"]
    if isinstance(section, DictConfig) and section._metadata.object_type is dict:
        return f"{where} has no '{last}' yet; add it: +{key}=VALUE"
    if not known:
        return f"unknown key '{key}': this launcher has no settings; choose one, hydra/launcher=NAME"
    return f"unknown key '{key}'. " + _near(last, known, f"keys of {where}")


def _unknown_option(name: str, options: list[str]) -> str:
    group, _, option = name.rpartition("/")
    if group == "hydra/launcher" and option.startswith("submitit"):
        return str(missing_extra(f"hydra/launcher={option}", [SLURM_PLUGIN], "slurm"))
    if not group:
        return f"there is no config group or file '{name}'"
    return f"no {group} is called '{option}'. " + _near(option, options, "there are")


def _near(given: str, known: Iterable[str], label: str = "known") -> str:
    known = sorted(set(known))
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    label = label[0].upper() + label[1:]
    if len(known) <= _LISTED:
        return f"{hint}{label}: {', '.join(known)}"
    nearest = difflib.get_close_matches(given, known, n=_LISTED, cutoff=0.0)
    return f"{hint}{label} {len(known)}, among them: {', '.join(sorted(nearest))}"


def _keys(path: str) -> list[str]:
    """Keys of the section at a dotted path of the schema; empty where there is no such section.

    Every entry of a dictionary of sections is one, whatever its name.
    """
    node: Any = Config
    parts = iter(filter(None, path.split(".")))
    for part in parts:
        field = {f.name: f for f in dataclasses.fields(node)}.get(part)
        node = _section(field.type) if field else None
        if field is not None and get_origin(field.type) is dict and next(parts, None) is None:
            return []
        if node is None:
            return []
    return [field.name for field in dataclasses.fields(node)]


def _section(annotation: Any) -> Any:
    choices = (annotation, *get_args(annotation))
    return next((choice for choice in choices if dataclasses.is_dataclass(choice)), None)
