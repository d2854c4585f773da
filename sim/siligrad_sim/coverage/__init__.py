"""What programs and simulations have reached of all that there is, and what they have not.

:mod:`~siligrad_sim.coverage.instructions` counts what programs hold, and
:mod:`~siligrad_sim.coverage.netlist` which lines and bits of the hardware's Verilog a simulation
has used. Neither says that what was reached is right: the comparisons do.
"""

__all__: list[str] = []
