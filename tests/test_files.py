"""Files are replaced whole or left alone."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

from atrc_exp.errors import UserError
from atrc_exp.files import read_json, read_settings, replacing, take_lock, unwritable, write_json, write_text


@contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_replaces_the_old_and_nothing_else_remains(tmp_path):
    path = tmp_path / "deep" / "table.md"
    write_text(path, "old")
    write_text(path, "new: Δm")
    assert path.read_text(encoding="utf-8") == "new: Δm"
    assert names(path.parent) == ["table.md"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_whole(tmp_path, error):
    path = tmp_path / "last.pt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half of the n")
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["last.pt"]


def test_the_temporary_file_is_beside_and_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "figure.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"png")
    assert names(tmp_path) == ["figure.png"]


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, mask, expected):
    with umask(mask):
        write_text(tmp_path / "shared.txt", "")
    assert stat.S_IMODE((tmp_path / "shared.txt").stat().st_mode) == expected


def test_json_comes_back_and_has_no_nan(tmp_path):
    path = tmp_path / "summary.json"
    value = {"version": 1, "rmse": 0.61, "tasks": ["depth"], "kappa": None}
    write_json(path, value)
    assert read_json(path) == value
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"rmse": number})
    assert read_json(path) == value
    assert names(tmp_path) == ["summary.json"]


@pytest.mark.parametrize("read", [read_json, read_settings])
@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\x00"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, read, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1, 2]", "null", "3"])
def test_settings_are_keys_and_values(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        read_settings(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("engine:\n  batch_size: 8\n")
    assert read_settings(tmp_path / "config.yaml") == {"engine": {"batch_size": 8}}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_one_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / ".lock").open("w") as file:
        assert take_lock(file, wait=False)
    assert len(caplog.records) == 1 and os.strerror(number) in caplog.text


def test_lock_keeps_a_second_one_out_until_the_first_is_closed(tmp_path):
    with (tmp_path / ".lock").open("w") as first, (tmp_path / ".lock").open("w") as second:
        assert take_lock(first, wait=False)
        assert not take_lock(second, wait=False)
        first.close()
        assert take_lock(second, wait=True)


def test_full_disk_is_a_users_matter_and_a_bad_descriptor_is_not(tmp_path):
    assert isinstance(unwritable(tmp_path, OSError(errno.ENOSPC, "x")), UserError)
    defect = OSError(errno.EBADF, "x")
    assert unwritable(tmp_path, defect) is defect


def test_standard_output_in_ascii_gets_what_it_can_show():
    program = "from atrc_exp.files import print_any_text; print_any_text(); print('\u03ba = 1')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert done.stdout == "? = 1\n"
