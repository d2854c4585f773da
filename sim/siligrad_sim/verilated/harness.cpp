/* A verilated accelerator as a C library: its host port (docs/spec/host.md) and its clock.
 *
 * The caller owns a simulation from siligrad_new to siligrad_free and uses it from one thread at a time; two
 * simulations share nothing. Functions that use the port return 0, or SILIGRAD_NO_ANSWER when the accelerator does
 * not acknowledge a request: then it is broken, and so is everything read from it. */

#include <cstdint>
#include <memory>

#include "Vaccelerator.h"
#include "verilated.h"

/* Verilator writes two underscores in a row, as in host__strobe, as ___05F. */
#define HOST(port) host___05F##port

extern "C" {

struct siligrad_simulation;

enum { SILIGRAD_NO_ANSWER = -1 };

/* Cycles that the port may take to acknowledge a request. */
enum { SILIGRAD_PATIENCE = 64 };

/* Make a simulation, reset; NULL when there is no memory. */
siligrad_simulation *siligrad_new(void);
void siligrad_free(siligrad_simulation *simulation);

/* Read `count` consecutive 32-bit words from word address `address` on. */
int siligrad_read(siligrad_simulation *simulation, uint32_t address, uint32_t count, uint32_t *words);
/* Write `count` consecutive 32-bit words from word address `address` on. */
int siligrad_write(siligrad_simulation *simulation, uint32_t address, uint32_t count, const uint32_t *words);

/* Advance until the accelerator is not busy, by `limit` cycles at most. Return the cycles that it was busy. */
uint64_t siligrad_wait(siligrad_simulation *simulation, uint64_t limit);

/* Return the cycles since the simulation was made. */
uint64_t siligrad_elapsed(const siligrad_simulation *simulation);
}

struct siligrad_simulation {
    siligrad_simulation() : accelerator(&context, "accelerator") {
        accelerator.clk = 0;
        accelerator.rst = 1;
        settle();
        edge();
        accelerator.rst = 0;
        settle();
    }
    ~siligrad_simulation() { accelerator.final(); }

    /* Let inputs that were changed reach the outputs of this cycle. */
    void settle() { accelerator.eval(); }

    /* End this cycle and begin the next. */
    void edge() {
        accelerator.clk = 1;
        accelerator.eval();
        accelerator.clk = 0;
        accelerator.eval();
        elapsed += 1;
    }

    /* Carry one request; the answer to a read is in `word`. */
    int request(bool write, uint32_t address, uint32_t &word) {
        accelerator.HOST(strobe) = 1;
        accelerator.HOST(write) = write;
        accelerator.HOST(address) = address;
        accelerator.HOST(write_data) = write ? word : 0;
        settle();
        for (int waited = 0; waited < SILIGRAD_PATIENCE; waited++) {
            const bool acknowledged = accelerator.HOST(acknowledge);
            const uint32_t answer = accelerator.HOST(read_data);
            edge();
            if (acknowledged) {
                accelerator.HOST(strobe) = 0;
                if (!write) {
                    word = answer;
                }
                return 0;
            }
        }
        accelerator.HOST(strobe) = 0;
        return SILIGRAD_NO_ANSWER;
    }

    VerilatedContext context;
    Vaccelerator accelerator;
    uint64_t elapsed = 0;
};

siligrad_simulation *siligrad_new(void) {
    try {
        return std::make_unique<siligrad_simulation>().release();
    } catch (...) {
        return nullptr;
    }
}

void siligrad_free(siligrad_simulation *simulation) { delete simulation; }

int siligrad_read(siligrad_simulation *simulation, uint32_t address, uint32_t count, uint32_t *words) {
    for (uint32_t index = 0; index < count; index++) {
        const int status = simulation->request(false, address + index, words[index]);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

int siligrad_write(siligrad_simulation *simulation, uint32_t address, uint32_t count, const uint32_t *words) {
    for (uint32_t index = 0; index < count; index++) {
        uint32_t word = words[index];
        const int status = simulation->request(true, address + index, word);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

uint64_t siligrad_wait(siligrad_simulation *simulation, uint64_t limit) {
    uint64_t cycles = 0;
    while (cycles < limit && simulation->accelerator.busy) {
        simulation->edge();
        cycles++;
    }
    return cycles;
}

uint64_t siligrad_elapsed(const siligrad_simulation *simulation) { return simulation->elapsed; }
