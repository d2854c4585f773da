from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "siligrad": "frontend",
    "siligrad_cli": "frontend",
    "siligrad_hdl": "hdl",
    "siligrad_sim": "sim",
    "siligrad_host": "firmware",
}

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
"""


def run(command: Sequence[object], cwd: Path) -> str:
    """Run a command apart from this environment and return what it prints."""
    dropped = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip_of(environment: Path) -> list[object]:
    """Return the command of a pip that works on the environment with that ``bin``."""
    return [sys.executable, "-m", "pip", "--python", environment / "python"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from it; return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    run(build, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def empty_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)  # this environment's pip works on it
    return folder


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the versions of the lock without its hashes: pip takes those for locked files alone."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    lines = re.findall(r"^([a-z0-9-]+==[^\\\n]+?)\s*\\?$", lock, re.MULTILINE)
    path = tmp_path_factory.mktemp("lock") / "constraints.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def core(empty_venv: Path, wheel: Path, versions: Path) -> Path:
    """Return the ``bin`` of an environment with the wheel and what it cannot do without."""
    install = [*pip_of(empty_venv / "bin"), "install", "--quiet", "--no-compile"]
    run([*install, "--constraint", versions, wheel], empty_venv)
    return empty_venv / "bin"


def test_the_wheel_has_our_packages_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES.values()]
    files = {path for path in run(command, ROOT).splitlines() if (ROOT / path).exists()}
    expected = set()
    for package, folder in PACKAGES.items():
        prefix = f"{folder}/{package}/"
        expected |= {name.removeprefix(f"{folder}/") for name in files if name.startswith(prefix)}
        assert f"{package}/py.typed" in names
    assert names == expected


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert metadata["Name"] == "siligrad"
    assert metadata["License-Expression"] == "BSD-2-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    # The description is the README.
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert str(metadata.get_payload()).strip() == readme.strip()


def test_the_source_distribution_has_what_the_tests_need(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "requirements.lock", "README.md", "LICENSE", "tests/conftest.py"} <= names
    assert not {name for name in names if "__pycache__" in name or name.startswith(".venv")}


def test_with_numpy_alone_the_library_and_the_reference_work(core: Path, tmp_path: Path) -> None:
    run([core / "python", "-c", IMPORT_EVERYTHING, "siligrad"], tmp_path)
    run([core / "python", "-c", "import siligrad_sim.reference"], tmp_path)
    assert "demo" in run([core / "siligrad", "--help"], tmp_path)
    installed = json.loads(run([*pip_of(core), "list", "--format=json"], tmp_path))
    assert {item["name"] for item in installed} == {"siligrad", "numpy"}


@pytest.mark.extended
def test_with_the_extra_demo_everything_works(
    core: Path, wheel: Path, versions: Path, tmp_path: Path
) -> None:
    install = [*pip_of(core), "install", "--quiet", "--no-compile", "--constraint", versions]
    run([*install, f"{wheel}[demo]"], tmp_path)
    run([*pip_of(core), "check"], tmp_path)
    demo = [
        "demo",
        "--json",
        "--array",
        "2",
        "--steps",
        "1",
        "--hidden",
        "4",
        "--images",
        "16",
        "--device",
        "pysim",
    ]
    report = json.loads(run([core / "siligrad", *demo], tmp_path))
    assert report["device"] == "pysim"
    assert report["steps"] == 1
    assert report["words_compared"] > 0
    assert report["words_different"] == 0
    assert report["cycles_predicted"] == report["cycles_measured"]
    run([*install, f"{wheel}[demo,formal,link,verify]"], tmp_path)
    run([*pip_of(core), "check"], tmp_path)
    run([core / "python", "-W", "error", "-c", IMPORT_EVERYTHING, *PACKAGES], tmp_path)
