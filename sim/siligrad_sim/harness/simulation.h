/* A simulated accelerator as a C library: its host port (docs/spec/host.md), its clock, its waveforms.
 *
 * The caller owns a simulation from siligrad_new to siligrad_free and uses it from one thread at a time; two
 * simulations share nothing. Functions that return an int return 0 or more, or one of the errors below. */

#ifndef SILIGRAD_SIMULATION_H
#define SILIGRAD_SIMULATION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    /* The accelerator did not acknowledge a request: it is broken, and so is everything read from it. */
    SILIGRAD_NO_ANSWER = -1,
    /* The library was built without waveforms. */
    SILIGRAD_NO_WAVEFORMS = -2,
    /* The file of a waveform cannot be written; errno says why. */
    SILIGRAD_NO_FILE = -3,
};

/* Cycles that the port may take to acknowledge a request. */
enum { SILIGRAD_PATIENCE = 64 };

struct siligrad_simulation;

/* Make a simulation and reset it; NULL when there is no memory, or the model cannot be simulated. */
struct siligrad_simulation *siligrad_new(void);
/* Free it, and end its waveform. */
void siligrad_free(struct siligrad_simulation *simulation);

/* Read `count` consecutive 32-bit words from word address `address` on. */
int siligrad_read(struct siligrad_simulation *simulation, uint32_t address, uint32_t count, uint32_t *words);
/* Write `count` consecutive 32-bit words from word address `address` on. */
int siligrad_write(struct siligrad_simulation *simulation, uint32_t address, uint32_t count, const uint32_t *words);

/* Advance until a cycle in which the accelerator is not busy has passed, by `limit` cycles at most. Return 1 if it
 * was busy in each of them, else 0. */
int siligrad_wait(struct siligrad_simulation *simulation, uint64_t limit);

/* Return the cycles since the simulation was made. */
uint64_t siligrad_elapsed(const struct siligrad_simulation *simulation);

/* Record every signal, but for memories, in the VCD file `path` in the next `cycles` cycles, at least one. A waveform
 * that is being recorded is ended. */
int siligrad_record(struct siligrad_simulation *simulation, const char *path, uint64_t cycles);
/* Return the cycles that are still to be recorded; the file is closed when none is. */
uint64_t siligrad_unrecorded(const struct siligrad_simulation *simulation);
/* End the waveform, if its cycles have not passed yet. Return SILIGRAD_NO_FILE if not all of it got into the file. */
int siligrad_stop(struct siligrad_simulation *simulation);

#ifdef __cplusplus
}
#endif

#endif
