"""Mutants of the hardware and of the Python: what the suite notices, when something is wrong.

``python -m benchmarks.mutants rtl`` and ``python -m benchmarks.mutants python``; see
``docs/benchmarks/mutants.md`` and the section *Mutants* of ``docs/verification.md``.
"""

__all__: list[str] = []
