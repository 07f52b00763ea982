"""Whole files or none: everything that is kept is written beside its place and moved there."""

import errno
import io
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from atrc_exp.errors import UserError

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.ENOTDIR,
               errno.EEXIST)  # fmt: skip


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; move it there at the end, remove it on any error.

    A process killed in between leaves the old file whole. The suffix is kept, for writers that go by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would lock out the other members of a group
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder in the folder of `path`, from where results are moved into place; removed in any case.

    What a killed process left there is removed first, so one process at a time may use it.
    """
    folder = path.parent / f".{path.name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_lock(file: IO[Any], *, wait: bool) -> bool:
    """Lock an open file until it is closed, or its process ends; False where another process has it.

    A file system without locks, as some network ones are, gets one warning: then nobody keeps two processes apart.
    """
    import fcntl  # not on every system, where genotypes are read all the same

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s cannot be locked (%s); start no second process that uses it", file.name, error.strerror)
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block; `path` is an empty file that is left behind."""
    with path.open("w") as file:
        take_lock(file, wait=True)
        yield


def unwritable(folder: Path, error: OSError) -> Exception:
    """The user's message for a full disk or missing permission below `folder`; any other error as it is."""
    if error.errno not in _UNWRITABLE:
        return error
    where = error.filename or folder
    reason = os.strerror(error.errno)
    return UserError(f"cannot use {where}: {reason}; free space, correct the permissions, or set another runs_dir")


def print_any_text() -> None:
    """Let standard output show a question mark for a sign that its encoding lacks, instead of failing at a kappa."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def write_text(path: Path, text: str) -> None:
    """Write a whole text file (UTF-8) or leave the one that stands there."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is missing, empty or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({type(error).__name__}: {error})") from None


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values, such as the config.yaml of a run.

    Raises:
        UserError: it is missing, empty or damaged.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as YAML ({type(error).__name__}: {reason})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no keys; it is damaged or empty")
    return values
