/* simulation_bus.c - a bus of the driver to an accelerator in a library of siligrad_sim/harness/simulation.h, and the
 * sizes of the driver's objects, for tests through ctypes. */

#include "siligrad.h"
#include "siligrad_link.h"

/* What the functions of such a library are called with; addresses count words. */
struct simulation_bus {
    void *simulation;
    int (*read)(void *simulation, uint32_t address, uint32_t count, uint32_t *words);
    int (*write)(void *simulation, uint32_t address, uint32_t count, const uint32_t *words);
};

int simulation_read32(void *context, uint32_t offset, uint32_t *value);
int simulation_write32(void *context, uint32_t offset, uint32_t value);
size_t sizeof_siligrad(void);
size_t sizeof_siligrad_tensor(void);
size_t sizeof_siligrad_loader(void);
size_t sizeof_siligrad_link(void);

int simulation_read32(void *context, uint32_t offset, uint32_t *value)
{
    const struct simulation_bus *bus = (const struct simulation_bus *)context;

    return bus->read(bus->simulation, offset / 4, 1, value) < 0 ? SILIGRAD_EIO : 0;
}

int simulation_write32(void *context, uint32_t offset, uint32_t value)
{
    const struct simulation_bus *bus = (const struct simulation_bus *)context;

    return bus->write(bus->simulation, offset / 4, 1, &value) < 0 ? SILIGRAD_EIO : 0;
}

size_t sizeof_siligrad(void)
{
    return sizeof(struct siligrad);
}

size_t sizeof_siligrad_tensor(void)
{
    return sizeof(struct siligrad_tensor);
}

size_t sizeof_siligrad_loader(void)
{
    return sizeof(struct siligrad_loader);
}

size_t sizeof_siligrad_link(void)
{
    return sizeof(struct siligrad_link);
}
