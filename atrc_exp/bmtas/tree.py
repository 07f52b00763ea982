"""Which tasks share which layers of the encoder, and its file (BMTAS: Bruggemann et al., BMVC 2020).

A branching is a tree: all tasks enter together, groups may split at every layer, and what has split stays apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrc_exp.errors import UserError
from atrc_exp.files import read_json, write_json

FILE_NAME = "branching.json"

Groups = tuple[tuple[str, ...], ...]
"""The tasks, divided into those that share a layer; ordered as the tasks are."""


@dataclass(frozen=True)
class Branching:
    """For every layer, from the first to the last, the groups of tasks that share it.

    Raises:
        UserError: a layer whose groups are no division of the tasks, or that joins tasks which had split.
    """

    tasks: tuple[str, ...]
    layers: Mapping[str, Groups]
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What stands beside the layers in the file: probabilities, resources, seed."""

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise UserError(f"branching tasks must be distinct and not empty, not [{', '.join(self.tasks)}]")
        if not self.layers:
            raise UserError("a branching needs at least one layer")
        before: Groups = (self.tasks,)
        for layer, groups in self.layers.items():
            if sorted(task for group in groups for task in group) != sorted(self.tasks):
                raise UserError(f"{layer}: '{_text(groups)}' must name each of {', '.join(self.tasks)} once")
            for group in groups:
                if not any(set(group) <= set(parent) for parent in before):
                    raise UserError(f"{layer}: {', '.join(group)} had split before and cannot share this layer again")
            before = groups

    def parents(self, layer: str) -> list[int]:
        """For every group of `layer`, the index of the group of the layer before it that it comes from."""
        names = list(self.layers)
        index = names.index(layer)
        before = self.layers[names[index - 1]] if index else (self.tasks,)
        owner = {task: number for number, group in enumerate(before) for task in group}
        return [owner[group[0]] for group in self.layers[layer]]


def refine(tasks: Iterable[str], choices: Mapping[str, Sequence[int]]) -> dict[str, Groups]:
    """Decode a search: tasks share a layer if they shared the one before it and chose the same copy in this one.

    Args:
        choices: by layer the copy that each task chose, in the order of the tasks.
    """
    tasks = tuple(tasks)
    layers: dict[str, Groups] = {}
    path: dict[str, tuple[int, ...]] = dict.fromkeys(tasks, ())
    for layer, chosen in choices.items():
        path = {task: (*path[task], copy) for task, copy in zip(tasks, chosen, strict=True)}
        layers[layer] = _groups(path)
    return layers


def _groups(path: Mapping[str, tuple[int, ...]]) -> Groups:
    """Put tasks of equal paths together, in the order in which they first occur."""
    return tuple(tuple(t for t in path if path[t] == way) for way in dict.fromkeys(path.values()))


def load(source: str | Path) -> Branching:
    """Read a branching from a file or from the folder of a branch search.

    Raises:
        UserError: there is nothing, or it is not JSON, or not a branching.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / FILE_NAME
    if not path.is_file():
        raise UserError(f"branching file {path} does not exist; give a {FILE_NAME} or the folder of a finished "
                        "branch search, runs/<name>/seed<k>")  # fmt: skip
    content = read_json(path)
    try:
        return _parse(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as a branching ({type(error).__name__}: {error})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _parse(content: Any) -> Branching:
    if not isinstance(content, dict):
        raise UserError("not a branching: the file must hold a JSON object")
    if content.get("version") != 1:
        raise UserError(f"branching version {content.get('version')!r} is unknown; this build reads version 1")
    layers = {
        layer: tuple(tuple(group.split()) for group in text.split("|")) for layer, text in content["layers"].items()
    }
    details = {key: value for key, value in content.items() if key not in ("version", "tasks", "layers")}
    return Branching(tuple(content["tasks"]), layers, details)


def save(branching: Branching, path: str | Path) -> None:
    """Write `{"version": 1, "tasks": [...], "layers": {layer: "a b | c"}, ...details}`: a bar parts the branches."""
    layers = {layer: _text(groups) for layer, groups in branching.layers.items()}
    write_json(Path(path), {"version": 1, "tasks": list(branching.tasks), "layers": layers, **branching.details})


def _text(groups: Groups) -> str:
    return " | ".join(" ".join(group) for group in groups)
