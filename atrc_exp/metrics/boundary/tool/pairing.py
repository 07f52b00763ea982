"""Which prediction belongs to which ground truth: files of two folders by their relative path without the suffix."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import BoundaryError
from ..files import SUFFIXES

_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """The files of one image; `name` is their relative path without the suffix."""

    name: str
    prediction: Path
    truth: Path


def pair_files(predictions: Path, truths: Path) -> tuple[list[Pair], int]:
    """Pair every ground truth with its prediction, in the order of names; also count predictions without a truth.

    Raises:
        BoundaryError: no such folder, no ground truth in it, two files of one name, or missing predictions, with
            where files of that name were found instead.
    """
    wanted = _by_name(truths, "the folder of ground truths")
    found = _by_name(predictions, "the folder of predictions")
    missing = sorted(set(wanted) - set(found))
    if missing:
        shown = "; ".join(_elsewhere(predictions, name) for name in missing[:_SHOWN])
        more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise BoundaryError(f"{predictions}: {len(missing)} of {len(wanted)} predictions are missing: {shown}{more}")
    pairs = [Pair(name, found[name], wanted[name]) for name in sorted(wanted)]
    return pairs, len(set(found) - set(wanted))


def _by_name(folder: Path, what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise BoundaryError(f"{folder}: {what} does not exist" if not folder.exists() else f"{folder} is no folder")
    named: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file() or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise BoundaryError(f"{folder}: {named[name].name} and {path.name} are both of the image {name}; keep one")
        named[name] = path
    if not named:
        raise BoundaryError(f"{folder}: {what} holds no {', '.join(SUFFIXES)}")
    return named


def _elsewhere(folder: Path, name: str) -> str:
    """Say what is wanted, and which file of that name lies in another folder or is of another kind, if there is one."""
    stem = Path(name).name.lower()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stem.lower() == stem:
            return f"found {path.relative_to(folder)}, wanted {name}.png"
    return f"{name}.png"
