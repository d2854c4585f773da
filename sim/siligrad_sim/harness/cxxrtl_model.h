/* The model that Yosys' CXXRTL backend writes, for harness.cpp.
 *
 * One evaluation is a cycle. Nothing waits for the falling edge, and in a design without combinational feedback one
 * evaluation computes everything: outputs from the inputs and what the registers hold, and what they will hold. So
 * outputs are looked at between eval() and commit(), and the clock's last level is set back by hand, where the falling
 * edge would take a second evaluation. */

#include <stdexcept>

#include "accelerator.cc"

#if WAVEFORMS
#include <cxxrtl/cxxrtl_vcd.h>
#endif

namespace {

class Model {
  public:
    Model() {
        top.p_clk.set(true);
        reset(true);
        if (!top.eval()) {
            throw std::runtime_error("combinational feedback");
        }
#if WAVEFORMS
        top.debug_info(&items, nullptr, "siligrad ");
#endif
    }

    void reset(bool asserted) { top.p_rst.set(asserted); }

    void drive(const Request &request) {
        top.p_host____strobe.set(request.strobe);
        top.p_host____write.set(request.write);
        top.p_host____address.set(request.address);
        top.p_host____write__data.set(request.write_data);
    }

    Response cycle() {
        top.eval();
        const Response response{top.p_busy.get<bool>(), top.p_host____acknowledge.get<bool>(),
                                top.p_host____read__data.get<uint32_t>()};
#if WAVEFORMS
        if (file != nullptr) {
            sample();
        }
        time += 10;
#endif
        top.commit();
        top.prev_p_clk.set(false);
        return response;
    }

#if WAVEFORMS
    void record(File &target) {
        file = &target;
        writer = cxxrtl::vcd_writer();
        writer.timescale(1, "ns");
        writer.add_without_memories(items);
    }

    void stop() { file = nullptr; }

  private:
    /* Write this cycle, which begins with the rising edge. */
    void sample() {
        writer.sample(time);
        top.p_clk.set(false);
        writer.sample(time + 5);
        top.p_clk.set(true);
        file->write(writer.buffer.data(), writer.buffer.size());
        writer.buffer.clear();
    }

    cxxrtl::debug_items items;
    cxxrtl::vcd_writer writer;
    File *file = nullptr;
    uint64_t time = 0;
#endif

  private:
    cxxrtl_design::p_siligrad top;
};

} // namespace
