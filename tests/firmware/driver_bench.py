"""The C driver in cocotb: its bus callbacks suspend it while the simulator carries a word.

``cocotb.bridge`` runs the driver, which knows nothing of coroutines, in a thread; ``cocotb.resume``
lets its callbacks wait for the host port. The parameters are ``library`` (the driver's path), the
``image`` in hexadecimal, ``codes`` to be written, by name, before each of the ``runs``, and what
the reference has then: ``expected`` tensors, ``lfsr`` and ``saturations``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge, resume

from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.host import HostBus
from tests.firmware.c_driver import Driver, load_library, python_bus


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def the_driver_trains(dut: Any) -> None:
    parameters = bench_parameters()
    bus = HostBus(dut)
    await bus.begin()

    @resume
    async def read(address: int) -> int:
        return await bus.request(address, None)

    @resume
    async def write(address: int, value: int) -> None:
        await bus.request(address, value)

    @bridge
    def session() -> Driver:
        driver = Driver(load_library(Path(parameters["library"])), python_bus(read, write))
        driver.load([bytes.fromhex(parameters["image"])])
        driver.call("siligrad_seed", 0)
        for _ in range(parameters["runs"]):
            for name, codes in parameters["codes"].items():
                driver.write(name, np.array(codes, np.int16))
            driver.run()
        for name, expected in parameters["expected"].items():
            got = driver.read(name)
            np.testing.assert_array_equal(got, expected, err_msg=name)
        assert list(driver.read_lfsr()) == parameters["lfsr"]
        assert list(driver.saturations()) == parameters["saturations"]
        return driver

    driver = await session()
    assert driver.device.cycles > 0
