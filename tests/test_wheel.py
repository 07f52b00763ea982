"""The wheel carries configuration and kernels and works away from the repository."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves files behind
    for name in ("atrc_exp", "conf", "kernels"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(installed)!r}); sys.argv = ['atrc_exp', *{list(arguments)!r}]; "
        "import atrc_exp; print(atrc_exp.__file__); runpy.run_module('atrc_exp', run_name='__main__', alter_sys=True)"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_every_subpackage_and_every_data_file_is_in_the_wheel(installed):
    for folder, target in (("conf", "conf"), ("kernels", "kernels"), ("atrc_exp", "")):
        for path in (REPOSITORY / folder).rglob("*"):
            if (
                path.suffix in {".py", ".yaml", ".cu", ".cuh", ".h", ".cpp", ".html", ".css", ".js", ".typed"}
                and "__pycache__" not in path.parts
            ):
                relative = Path(target) / path.relative_to(REPOSITORY / folder)
                assert (installed / "atrc_exp" / relative).is_file(), relative


def test_command_of_the_wheel_composes_its_own_configuration_from_any_folder(installed, tmp_path):
    done = run(installed, tmp_path, "+experiment=nyud_hrnet18_search", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    location, _, configuration = done.stdout.partition("\n")
    assert Path(location).is_relative_to(installed)
    assert "name: nyud_hrnet18_search" in configuration
    assert list(tmp_path.iterdir()) == []
