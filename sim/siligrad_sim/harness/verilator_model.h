/* The model that Verilator writes, for harness.cpp. */

#include "Vaccelerator.h"
#include "verilated.h"

#if WAVEFORMS
#include "verilated_vcd_c.h"
#endif

/* Verilator writes two underscores in a row, as in host__strobe, as ___05F. */
#define HOST(port) host___05F##port

namespace {

#if WAVEFORMS
/* Verilator ends the process when its own file is not written to: a disk that is full is nothing to die of. */
class VcdFile : public VerilatedVcdFile {
  public:
    File *file = nullptr;
    bool open(const std::string &) override { return true; }
    void close() override {}
    ssize_t write(const char *bytes, ssize_t count) override {
        file->write(bytes, static_cast<size_t>(count));
        return count;
    }
};
#endif

class Model {
  public:
    Model() : top(&context, "siligrad") {
#if WAVEFORMS
        context.traceEverOn(true);
        top.trace(&writer, LEVELS);
        writer.set_time_resolution("1ns");
#endif
        top.clk = 0;
        top.rst = 1;
        top.eval();
    }

    ~Model() { top.final(); }

    void reset(bool asserted) {
        top.rst = asserted;
        top.eval();
    }

    void drive(const Request &request) {
        top.HOST(strobe) = request.strobe;
        top.HOST(write) = request.write;
        top.HOST(address) = request.address;
        top.HOST(write_data) = request.write_data;
        top.eval();
    }

    Response cycle() {
        const Response response{top.busy != 0, top.HOST(acknowledge) != 0, top.HOST(read_data)};
        sample(5); /* the inputs change while the clock is low */
        top.clk = 1;
        top.eval();
        advance();
        top.clk = 0;
        top.eval();
        return response;
    }

#if WAVEFORMS
    void record(File &target) {
        file.file = &target;
        writer.open("");
    }

    void stop() { writer.close(); }

  private:
    enum { LEVELS = 99 }; /* of the hierarchy: all */

    void advance() {
        time += 10;
        sample(0);
    }

    void sample(uint64_t later) {
        if (writer.isOpen()) {
            writer.dump(time + later);
        }
    }

    VcdFile file;
    VerilatedVcdC writer{&file};
    uint64_t time = 0;
#else
  private:
    void advance() {}
    void sample(uint64_t) {}
#endif

    VerilatedContext context;
    Vaccelerator top;
};

} // namespace
