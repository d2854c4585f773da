/* The addresses of the system on chip, for its processor.
 *
 * Written by `python -m siligrad_hdl.soc`; do not edit. */

#ifndef SILIGRAD_SOC_MEMORY_MAP_H
#define SILIGRAD_SOC_MEMORY_MAP_H

#define SOC_RAM 0x00000000u
#define SOC_CONSOLE_SEND 0x40000000u
#define SOC_TIMER_CYCLES 0x50000000u
#define SOC_TIMER_CYCLES_HIGH 0x50000004u
#define SOC_ACCELERATOR 0x80000000u
#define SOC_ACCELERATOR_BYTES 0x02000000u

#endif
