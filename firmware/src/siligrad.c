/* siligrad.c - the accelerator: what it is, its memories, its runs. See siligrad.h. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

/* Keep what a callback has returned, made an error of ours if it is none. */
static void keep(struct siligrad *device, int returned)
{
    device->error = returned > 0 || returned < SILIGRAD_ERROR_LAST ? SILIGRAD_EIO : returned;
}

uint32_t siligrad_access_get(struct siligrad *device, uint32_t offset)
{
    uint32_t value = 0;

    if (device->error == 0) {
        keep(device, device->bus.read32(device->bus.context, offset, &value));
    }
    return device->error == 0 ? value : 0;
}

void siligrad_access_put(struct siligrad *device, uint32_t offset, uint32_t value)
{
    if (device->error == 0) {
        keep(device, device->bus.write32(device->bus.context, offset, value));
    }
}

/* Begin a call: there must be a device, and `argument` must not be NULL. Return whether all is well. */
static int begin(struct siligrad *device, const void *argument)
{
    if (device == NULL || device->array == 0 || argument == NULL) {
        return 0;
    }
    device->error = 0;
    return 1;
}

int siligrad_access_begin(struct siligrad *device, const void *argument)
{
    if (!begin(device, argument)) {
        return SILIGRAD_EARGUMENT;
    }
    if ((siligrad_access_get(device, SILIGRAD_REGISTER_STATUS) & SILIGRAD_STATUS_BUSY) != 0) {
        return siligrad_access_fail(device, SILIGRAD_EBUSY);
    }
    /* What was refused before is not this call's. */
    siligrad_access_put(device, SILIGRAD_REGISTER_STATUS, 0);
    return device->error;
}

int siligrad_access_end(struct siligrad *device)
{
    return (siligrad_access_get(device, SILIGRAD_REGISTER_STATUS) & SILIGRAD_STATUS_REFUSED) != 0
               ? siligrad_access_fail(device, SILIGRAD_EREFUSED)
               : device->error;
}

uint32_t siligrad_access_offset(const struct siligrad *device, uint32_t memory, uint32_t address)
{
    return SILIGRAD_REGION_X + memory * (SILIGRAD_REGION_W - SILIGRAD_REGION_X) +
           (address << device->bank_bits) * SILIGRAD_WORD;
}

uint32_t siligrad_access_next(const struct siligrad *device, uint32_t offset)
{
    return offset + ((1u << device->bank_bits) - device->array) * SILIGRAD_WORD;
}

int16_t siligrad_access_code(uint32_t word)
{
    return (int16_t)((int32_t)((word & 0xffff) ^ 0x8000) - 0x8000);
}

/* Read what the accelerator was built with; return whether such a one exists. */
static int read_geometry(struct siligrad *device)
{
    static const uint8_t registers[] = {SILIGRAD_REGISTER_WORD_BITS, SILIGRAD_REGISTER_SUM_BITS,
                                        SILIGRAD_REGISTER_OPERAND_BITS, SILIGRAD_REGISTER_ARRAY};
    uint32_t index, value = 0;

    for (index = 0; index < sizeof registers; index++) {
        value = siligrad_access_get(device, registers[index]);
        device->bits = device->bits << 8 | value;
    }
    for (index = 0; index < 4; index++) {
        device->depth[index] = siligrad_access_get(device, SILIGRAD_REGISTER_X_DEPTH + index * SILIGRAD_WORD);
        if (device->depth[index] > SILIGRAD_DEPTH_MAX) {
            return 0;
        }
    }
    if (device->error != 0 || value < SILIGRAD_ARRAY_MIN || value > SILIGRAD_ARRAY_MAX ||
        (device->bits >> 24) - SILIGRAD_WORD_BITS_MIN > SILIGRAD_WORD_BITS_MAX - SILIGRAD_WORD_BITS_MIN) {
        return 0;
    }
    while (value > 1u << device->bank_bits) {
        device->bank_bits++;
    }
    device->array = value;
    return 1;
}

int siligrad_open(struct siligrad *device, const struct siligrad_bus *bus)
{
    uint32_t version;

    if (device == NULL || bus == NULL || bus->read32 == NULL || bus->write32 == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    device->bus.context = bus->context;
    device->bus.read32 = bus->read32;
    device->bus.write32 = bus->write32;
    device->array = 0; /* until it is known: no other function takes a device without */
    device->tensor_count = 0;
    device->bank_bits = 1;
    device->error = 0;
    if (siligrad_access_get(device, SILIGRAD_REGISTER_IDENTIFICATION) != SILIGRAD_IDENTIFICATION) {
        return siligrad_access_fail(device, SILIGRAD_EIDENTITY);
    }
    /* A minor version adds to what there was. */
    version = siligrad_access_get(device, SILIGRAD_REGISTER_VERSION) - SILIGRAD_VERSION;
    if (version >= 0x10000 - SILIGRAD_VERSION % 0x10000) {
        return siligrad_access_fail(device, SILIGRAD_EVERSION);
    }
    return read_geometry(device) ? 0 : siligrad_access_fail(device, SILIGRAD_EGEOMETRY);
}

/* Return the error where there is no such index: there may be no program. */
static int missing(const struct siligrad *device)
{
    return device->tensor_count == 0 ? SILIGRAD_EPROGRAM : SILIGRAD_EINDEX;
}

int siligrad_find_tensor(const struct siligrad *device, const char *name)
{
    uint32_t index;

    if (device == NULL || name == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    for (index = 0; device->names != NULL && index < device->tensor_count; index++) {
        const char *ours = device->names + device->tensors[index].name, *theirs = name;

        while (*ours == *theirs && *ours != '\0') {
            ours++;
            theirs++;
        }
        if (*ours == *theirs) {
            return (int)index;
        }
    }
    return device->tensor_count == 0 ? SILIGRAD_EPROGRAM : SILIGRAD_ENAME;
}

/* Return whether a tensor may hold a code. */
static int is_code_of(const struct siligrad_tensor *tensor, int32_t code)
{
    int32_t magnitude = code < 0 ? -code : code;

    return (tensor->flags & SILIGRAD_SIGN) != 0 ? magnitude == (int32_t)1 << (tensor->fraction & 15)
                                                : magnitude <= tensor->limit;
}

enum pass { CHECK, WRITE, READ };

/* Visit each word of a tensor, from `offset` on, with the element of the caller's array that belongs to it: check this,
 * write it, or read it. Words come in the order of their addresses, which a bus may profit from. */
static int visit(struct siligrad *device, const struct siligrad_tensor *tensor, uint32_t offset, int16_t *codes,
                 ptrdiff_t row_stride, ptrdiff_t column_stride, enum pass pass)
{
    uint32_t n = device->array, row_0, column_0, row, bank;

    for (row_0 = 0; row_0 < tensor->rows; row_0 += n) {
        for (column_0 = 0; column_0 < tensor->columns; column_0 += n) {
            for (row = row_0; row - row_0 < n; row++) {
                /* Bank b has column (b - r) mod n of row r of a tile: column n - r comes first, and 0 is in bank r. */
                uint32_t column = column_0 + n - (row - row_0);
                ptrdiff_t at = (ptrdiff_t)row * row_stride + (ptrdiff_t)column * column_stride;

                for (bank = 0; bank < n; bank++) {
                    if (column == column_0 + n) {
                        column -= n;
                        at -= (ptrdiff_t)n * column_stride;
                    }
                    if (row >= tensor->rows || column >= tensor->columns) {
                        if (pass == WRITE) {
                            siligrad_access_put(device, offset, 0);
                        }
                    } else if (pass == WRITE) {
                        siligrad_access_put(device, offset, (uint32_t)(int32_t)codes[at]);
                    } else if (pass == READ) {
                        codes[at] = siligrad_access_code(siligrad_access_get(device, offset));
                    } else if (!is_code_of(tensor, codes[at])) {
                        return SILIGRAD_ECODE;
                    }
                    column++;
                    at += column_stride;
                    offset += SILIGRAD_WORD;
                }
                offset = siligrad_access_next(device, offset);
            }
        }
    }
    return 0;
}

static int transfer(struct siligrad *device, uint32_t index, uint32_t step, int16_t *codes, ptrdiff_t row_stride,
                    ptrdiff_t column_stride, enum pass pass)
{
    const struct siligrad_tensor *tensor;
    uint32_t offset;
    int error = siligrad_access_begin(device, codes);

    if (error != 0) {
        return error;
    }
    if (index >= device->tensor_count) {
        return missing(device);
    }
    tensor = device->tensors + index;
    if (step >= ((tensor->flags & SILIGRAD_MOVES) != 0 ? device->steps : 1)) {
        return SILIGRAD_EINDEX;
    }
    offset = siligrad_access_offset(device, tensor->memory, tensor->base + step * device->stride[tensor->memory]);
    for (;;) {
        error = visit(device, tensor, offset, codes, row_stride, column_stride, pass);
        if (error != 0) {
            return error;
        }
        if (pass != CHECK) {
            return siligrad_access_end(device);
        }
        pass = WRITE;
    }
}

int siligrad_write_tensor(struct siligrad *device, uint32_t tensor, uint32_t step, const int16_t *codes,
                          ptrdiff_t row_stride, ptrdiff_t column_stride)
{
    return transfer(device, tensor, step, (int16_t *)codes, row_stride, column_stride, CHECK);
}

int siligrad_read_tensor(struct siligrad *device, uint32_t tensor, uint32_t step, int16_t *codes, ptrdiff_t row_stride,
                         ptrdiff_t column_stride)
{
    return transfer(device, tensor, step, codes, row_stride, column_stride, READ);
}

int siligrad_start(struct siligrad *device)
{
    uint32_t memory;
    int error = siligrad_access_begin(device, device);

    if (error != 0) {
        return error;
    }
    if (device->tensor_count == 0) {
        return SILIGRAD_EPROGRAM;
    }
    siligrad_access_put(device, SILIGRAD_REGISTER_ENTRY, 0);
    siligrad_access_put(device, SILIGRAD_REGISTER_STEPS, device->steps);
    for (memory = 0; memory < 3; memory++) {
        siligrad_access_put(device, SILIGRAD_REGISTER_X_STRIDE + memory * SILIGRAD_WORD, device->stride[memory]);
    }
    siligrad_access_put(device, SILIGRAD_REGISTER_LIMIT, (uint32_t)device->cycles);
    siligrad_access_put(device, SILIGRAD_REGISTER_LIMIT_HIGH, (uint32_t)(device->cycles >> 32));
    siligrad_access_put(device, SILIGRAD_REGISTER_CONTROL, 1);
    return device->error;
}

int siligrad_read_cycles(struct siligrad *device, uint64_t *cycles)
{
    uint32_t low;

    if (!begin(device, cycles)) {
        return SILIGRAD_EARGUMENT;
    }
    low = siligrad_access_get(device, SILIGRAD_REGISTER_CYCLES);
    *cycles = (uint64_t)siligrad_access_get(device, SILIGRAD_REGISTER_CYCLES_HIGH) << 32 | low;
    return device->error;
}

int siligrad_poll(struct siligrad *device)
{
    uint32_t status;
    uint64_t cycles;

    if (!begin(device, device)) {
        return SILIGRAD_EARGUMENT;
    }
    if (device->tensor_count == 0) {
        return SILIGRAD_EPROGRAM;
    }
    status = siligrad_access_get(device, SILIGRAD_REGISTER_STATUS);
    if ((status & SILIGRAD_STATUS_BUSY) != 0) {
        return 1;
    }
    if ((status & SILIGRAD_STATUS_OVERRUN) != 0) {
        return siligrad_access_fail(device, SILIGRAD_EOVERRUN);
    }
    if ((status & SILIGRAD_STATUS_DONE) == 0) {
        return siligrad_access_fail(device, SILIGRAD_ERESET);
    }
    if (siligrad_read_cycles(device, &cycles) == 0 && cycles != device->cycles) {
        return SILIGRAD_ECYCLES;
    }
    return siligrad_access_end(device);
}

int siligrad_wait(struct siligrad *device, uint32_t polls)
{
    int state;

    do {
        if (polls-- == 0) {
            return SILIGRAD_ETIMEOUT;
        }
        state = siligrad_poll(device);
    } while (state > 0);
    return state;
}

int siligrad_run(struct siligrad *device, uint32_t polls)
{
    int error = siligrad_start(device);

    return error != 0 ? error : siligrad_wait(device, polls);
}

int siligrad_read_saturations(struct siligrad *device, uint32_t *counts, uint32_t count)
{
    uint32_t index;
    int error = siligrad_access_begin(device, counts);

    if (error != 0) {
        return error;
    }
    if (device->tensor_count == 0 || count > device->instructions) {
        return missing(device);
    }
    for (index = 0; index < count; index++) {
        counts[index] = siligrad_access_get(device, SILIGRAD_REGION_SATURATIONS + index * SILIGRAD_WORD);
    }
    return siligrad_access_end(device);
}
