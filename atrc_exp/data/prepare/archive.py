"""Archives of datasets, unpacked whole and only inside their folder."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from rich.progress import Progress

from atrc_exp.data.arrays import unreadable
from atrc_exp.errors import UserError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError,
            NotImplementedError, RuntimeError)  # fmt: skip
"""What the readers raise for bad bytes; the last two for compressions that Python lacks and for encrypted files."""


def is_archive(name: str) -> bool:
    """Whether a file of this name can be unpacked here."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, *, progress: bool = True) -> Path:
    """Unpack an archive into an empty folder; return that folder, or the only folder in it.

    Datasets need nothing but files and folders, so links and devices are refused, as are names that lead out of the
    folder.

    Raises:
        UserError: a damaged archive, an entry that is refused, or a full disk.
    """
    with Progress(disable=not progress) as bar:
        row = bar.add_task(archive.name, total=archive.stat().st_size)
        try:
            if archive.name.lower().endswith(".zip"):
                _unpack_zip(archive, folder, lambda done: bar.update(row, completed=done))
            else:
                _unpack_tar(archive, folder, lambda done: bar.update(row, completed=done))
        except _DAMAGED as error:
            raise unreadable(archive, error) from error
        except OSError as error:
            if error.errno is None:  # bad compressed data; a full disk has a number
                raise unreadable(archive, error) from error
            raise UserError(f"{archive}: cannot be unpacked to {folder.parent}: {error.strerror}") from error
    shutil.rmtree(folder / "__MACOSX", ignore_errors=True)  # resource forks
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith("._")]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _unpack_tar(archive: Path, folder: Path, advance: Callable[[int], None]) -> None:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()):
                raise UserError(f"{archive}: holds {member.name}, a link or device; only files and folders are allowed")
            try:
                tar.extract(member, folder, filter="data")
            except tarfile.FilterError as error:
                raise UserError(f"{archive}: refused, an entry leads out of its folder ({error})") from error
            advance(raw.tell())


def _unpack_zip(archive: Path, folder: Path, advance: Callable[[int], None]) -> None:
    with zipfile.ZipFile(archive) as zipped:
        entries = zipped.infolist()
        for entry in entries:
            _check_entry(archive, entry)
        needed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(f"{archive}: needs {needed} bytes unpacked, {folder.parent} has {free} free")
        for entry in entries:
            target = folder / entry.filename
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(entry) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            advance(entry.header_offset + entry.compress_size)


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
        raise UserError(f"{archive}: refused, an entry leads out of its folder ({entry.filename})")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"{archive}: holds {entry.filename}, a link or device; only files and folders are allowed")
