/* The model that Yosys' CXXRTL backend writes, for harness.cpp, with all that it remembers open to flipping.cpp.
 *
 * As cxxrtl_model.h in all else, but without waveforms. */

#include <stdexcept>
#include <vector>

#include "accelerator.cc"

namespace {

class Model {
  public:
    Model() {
        top.p_clk.set(true);
        reset(true);
        if (!top.eval()) {
            throw std::runtime_error("combinational feedback");
        }
        top.debug_info(&items, nullptr, "");
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
        top.commit();
        top.prev_p_clk.set(false);
        return response;
    }

    cxxrtl::debug_items items;

  private:
    cxxrtl_design::p_siligrad top;
};

} // namespace
