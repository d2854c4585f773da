"""``python -m siligrad_hdl.soc`` prints ``firmware/soc/memory_map.h``."""

from __future__ import annotations

from siligrad_hdl.soc.memory_map import c_header

__all__: list[str] = []

if __name__ == "__main__":
    print(c_header(), end="")
