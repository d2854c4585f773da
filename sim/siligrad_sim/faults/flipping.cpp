/* The harness, and access to registers and memories between two cycles. */

#include "harness.cpp"

namespace {

/* Whether an item is a register or a memory, and not another name of one. */
bool remembers(const cxxrtl::debug_item &item) {
    if (item.type == cxxrtl::debug_item::MEMORY) {
        return true;
    }
    return item.type == cxxrtl::debug_item::WIRE && item.next != nullptr &&
           (item.flags & cxxrtl::debug_item::DRIVEN_SYNC) != 0;
}

} // namespace

extern "C" {

/* Call `visit` with `context` for each register and memory, in an order that is always the same: its name, its bits,
 * its words (one for a register), and what holds it now and next; a memory has no next. The words of a memory lie
 * one behind the other, each in as many 32-bit chunks as it needs. */
void siligrad_visit(siligrad_simulation *simulation,
                    void (*visit)(void *context, const char *name, uint32_t bits, uint32_t words, uint32_t *now,
                                  uint32_t *next),
                    void *context) {
    for (const auto &entry : simulation->model.items.table) {
        for (const auto &item : entry.second) {
            if (remembers(item)) {
                visit(context, entry.first.c_str(), item.width, item.depth, item.curr, item.next);
            }
        }
    }
}
}
