/* simulation.h for a model of the accelerator in C++, in the header that MODEL names.
 *
 * That header defines a class Model:
 *     Model();                               in reset
 *     void reset(bool asserted);             the reset in the cycles that follow
 *     void drive(const Request &request);    the host port's inputs in the cycles that follow
 *     Response cycle();                      a clock cycle; its outputs as they were when it ended
 *     void record(File &file);               write a VCD of the cycles that follow to an open file
 *     void stop();                           write no more of it; harmless when nothing is recorded
 * The last two are needed, and called, where WAVEFORMS is 1. Recorded time is 10 ns a cycle. */

#include <cstdint>
#include <cstdio>
#include <memory>

#include "simulation.h"

namespace {

/* Inputs of the accelerator's host port. */
struct Request {
    bool strobe;
    bool write;
    uint32_t address;
    uint32_t write_data;
};

/* Outputs of the accelerator. */
struct Response {
    bool busy;
    bool acknowledge;
    uint32_t read_data;
};

/* A file that remembers whether everything got into it. */
class File {
  public:
    bool open(const char *path) {
        stream = std::fopen(path, "wb");
        complete = stream != nullptr;
        return complete;
    }

    void write(const char *bytes, size_t count) {
        if (complete && std::fwrite(bytes, 1, count, stream) != count) {
            complete = false;
        }
    }

    /* Close it if it is open. Return whether everything that was written is in it. */
    bool close() {
        if (stream != nullptr && std::fclose(stream) != 0) {
            complete = false;
        }
        stream = nullptr;
        return complete;
    }

  private:
    std::FILE *stream = nullptr;
    bool complete = true;
};

} // namespace

#include MODEL

struct siligrad_simulation {
    siligrad_simulation() {
        cycle();
        model.reset(false);
    }
    ~siligrad_simulation() { stop(); }

    Response cycle() {
        const Response response = model.cycle();
        elapsed += 1;
        if (left != 0 && --left == 0) {
            stop();
        }
        return response;
    }

    /* Carry one request; the answer to a read is in `word`. */
    int request(bool write, uint32_t address, uint32_t &word) {
        model.drive({true, write, address, write ? word : 0});
        for (int waited = 0; waited < SILIGRAD_PATIENCE; waited++) {
            const Response response = cycle();
            if (response.acknowledge) {
                model.drive({});
                if (!write) {
                    word = response.read_data;
                }
                return 0;
            }
        }
        model.drive({});
        return SILIGRAD_NO_ANSWER;
    }

    int record(const char *path, uint64_t cycles) {
#if WAVEFORMS
        stop();
        if (!file.open(path)) {
            return SILIGRAD_NO_FILE;
        }
        model.record(file);
        left = cycles;
        return 0;
#else
        (void)path;
        (void)cycles;
        return SILIGRAD_NO_WAVEFORMS;
#endif
    }

    int stop() {
#if WAVEFORMS
        model.stop();
#endif
        left = 0;
        return file.close() ? 0 : SILIGRAD_NO_FILE;
    }

    Model model;
    File file;
    uint64_t elapsed = 0;
    uint64_t left = 0; /* cycles that are still to be recorded */
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

int siligrad_wait(siligrad_simulation *simulation, uint64_t limit) {
    for (uint64_t waited = 0; waited < limit; waited++) {
        if (!simulation->cycle().busy) {
            return 0;
        }
    }
    return 1;
}

uint64_t siligrad_elapsed(const siligrad_simulation *simulation) { return simulation->elapsed; }

int siligrad_record(siligrad_simulation *simulation, const char *path, uint64_t cycles) {
    return simulation->record(path, cycles);
}

uint64_t siligrad_unrecorded(const siligrad_simulation *simulation) { return simulation->left; }

int siligrad_stop(siligrad_simulation *simulation) { return simulation->stop(); }
