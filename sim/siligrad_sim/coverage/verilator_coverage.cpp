/* What Verilator has counted, for a library that was built with coverage; joined to harness.cpp. */

#include "verilated_cov.h"

/* Write the counts of the simulation that this thread has made last to the file `path`, as text. It must not have been
 * freed. */
extern "C" void siligrad_coverage(const char *path) { Verilated::threadContextp()->coveragep()->write(path); }
