"""siligrad: from Python functions to hardware that trains and runs them.

>>> import siligrad as sg
>>> float(sg.grad(lambda x: x * x)(3.0))
6.0
"""

from __future__ import annotations

import siligrad.numpy  # noqa: F401  # gives traced values their operators
from siligrad.autodiff import (
    check_grads,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    register,
    simplify,
    static,
    stop_gradient,
    to_svg,
    trace,
    value_and_grad,
    vjp,
)
from siligrad.compiler import (
    CapacityError,
    LoweringError,
    Target,
    compile,  # noqa: A004  the public name, sg.compile
)
from siligrad.device import Device, DeviceError, available_devices, open_device
from siligrad.errors import SiligradError
from siligrad.fixed import QFormat
from siligrad.isa import Geometry
from siligrad.program import Program

__all__ = [
    "CapacityError",
    "Device",
    "DeviceError",
    "Geometry",
    "LoweringError",
    "Program",
    "QFormat",
    "SiligradError",
    "Target",
    "available_devices",
    "check_grads",
    "compile",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "open_device",
    "register",
    "simplify",
    "static",
    "stop_gradient",
    "to_svg",
    "trace",
    "value_and_grad",
    "vjp",
]
