"""One thread for linear algebra, unless the environment says otherwise; imported before numpy is.

How a BLAS shares a product among threads decides the order of its sums, hence the last bits of
what is trained. And the matrices of small networks are done before other threads have woken up:
an epoch of MNIST took five times as long on two busy processors as on one of them.
"""

from __future__ import annotations

import os

__all__: list[str] = []

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
