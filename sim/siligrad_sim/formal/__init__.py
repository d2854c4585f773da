"""Proofs about the hardware that is built, each with faults that it must notice.

They need the extra ``formal``: Amaranth, Yosys, and Z3. What each proves is its ``scope``, one line
that ``docs/verification.md`` repeats; ``docs/design/0008-proofs.md`` says how.
"""

from __future__ import annotations

__all__: list[str] = []
