"""Coroutines that cocotb runs inside a simulator; `siligrad_sim.bench_runner` starts them."""
