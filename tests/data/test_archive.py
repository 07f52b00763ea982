"""Archives: unpacked whole, and never outside their folder."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from atrc_exp.data.prepare.archive import unpack
from atrc_exp.errors import UserError
from atrc_exp.files import scratch_beside

FILES = {"set/a.txt": b"a" * 3000, "set/sub/ä b.txt": b"b" * 70_000}


def write_tar(path: Path, mode: str, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for entry in entries:
            tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    return path


def write_zip(path: Path, *entries: zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in FILES.items():
            zipped.writestr(name, content)
        for entry in entries:
            zipped.writestr(entry, b"x")
    return path


def unpacked(archive: Path) -> Path:
    folder = archive.parent / "unpacked"
    folder.mkdir()
    return unpack(archive, folder, progress=False)


def error_of(archive: Path) -> str:
    with pytest.raises(UserError) as raised:
        unpacked(archive)
    message = str(raised.value)
    assert message.startswith(f"{archive}: ") and "\n" not in message
    outside = [path for path in archive.parent.rglob("*") if path != archive and "unpacked" not in path.parts]
    assert outside == [] and not (archive.parent.parent / "evil").exists()
    return message


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 0 if kind != tarfile.REGTYPE else 1
    return info


def zip_entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = name  # the constructor would clean it
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("name", "mode"), [("s.tar", "w"), ("s.tar.gz", "w:gz"), ("S.TGZ", "w:gz"), ("s.tar.xz", "w:xz")]
)
def test_tar_archives(tmp_path, name, mode):
    folder = unpacked(write_tar(tmp_path / name, mode))
    assert folder.name == "set"  # the only folder at the top
    assert {f"set/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.txt")} == FILES


def test_zip_archives_without_resource_forks(tmp_path):
    folder = unpacked(write_zip(tmp_path / "s.zip", zip_entry("__MACOSX/._a"), zip_entry("set/empty/", 0o040755)))
    assert folder.name == "set" and (folder / "empty").is_dir()
    assert {f"set/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.txt")} == FILES


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (tar_entry("../evil"), "leads out of its folder"),
        (tar_entry("set/../../evil"), "leads out of its folder"),
        (tar_entry("set/link", tarfile.SYMTYPE, "/etc/passwd"), "set/link, a link or device"),
        (tar_entry("set/link", tarfile.SYMTYPE, "a.txt"), "set/link, a link or device"),
        (tar_entry("set/link", tarfile.LNKTYPE, "../evil"), "set/link, a link or device"),
        (tar_entry("set/pipe", tarfile.FIFOTYPE), "set/pipe, a link or device"),
    ],
)
def test_tar_entries_that_are_refused(tmp_path, entry, words):
    assert words in error_of(write_tar(tmp_path / "s.tgz", "w:gz", entry))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (zip_entry("../evil"), "leads out of its folder (../evil)"),
        (zip_entry("/evil"), "leads out of its folder"),
        (zip_entry("set\\..\\..\\evil"), "leads out of its folder"),
        (zip_entry("C:/evil"), "leads out of its folder"),
        (zip_entry("set/link", 0o120777), "set/link, a link or device"),
    ],
)
def test_zip_entries_that_are_refused(tmp_path, entry, words):
    assert words in error_of(write_zip(tmp_path / "s.zip", entry))


@pytest.mark.parametrize("name", ["s.tar", "s.tgz", "s.tar.xz", "s.zip"])
@pytest.mark.parametrize("share", [0.6, 0.1, 0.0])
def test_truncated_archives(tmp_path, name, share):
    archive = tmp_path / name
    if name == "s.zip":
        write_zip(archive)
    else:
        write_tar(archive, {"s.tar": "w", "s.tgz": "w:gz", "s.tar.xz": "w:xz"}[name])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    assert "damaged or incomplete" in error_of(archive)


def test_damaged_bytes_in_a_zip(tmp_path):
    archive = write_zip(tmp_path / "s.zip")
    content = bytearray(archive.read_bytes())
    content[45:55] = b"\xff" * 10
    archive.write_bytes(content)
    assert "damaged or incomplete" in error_of(archive)


def test_a_scratch_folder_is_removed_also_after_an_error_and_a_kill(tmp_path):
    target = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt), scratch_beside(target) as scratch:
        (scratch / "half").write_text("")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".data.unfinished" / "of a killed process").mkdir(parents=True)
    with scratch_beside(target) as scratch:
        assert list(scratch.iterdir()) == []
