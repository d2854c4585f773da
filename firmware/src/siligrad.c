/* siligrad.c - the accelerator: what it is, its memories, its runs. See siligrad.h. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

uint32_t siligrad_access_get(struct siligrad *device, uint32_t offset)
{
    uint32_t value = 0;

    if (device->error == 0) {
        siligrad_access_fail(device, device->bus.read32(device->bus.context, offset, &value));
    }
    return value;
}

void siligrad_access_put(struct siligrad *device, uint32_t offset, uint32_t value)
{
    if (device->error == 0) {
        siligrad_access_fail(device, device->bus.write32(device->bus.context, offset, value));
    }
}

int siligrad_access_check(struct siligrad *device, const void *argument)
{
    if (device == NULL || device->array == 0 || argument == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    device->error = 0;
    return 0;
}

int siligrad_access_begin(struct siligrad *device, const void *argument)
{
    int error = siligrad_access_check(device, argument);

    if (error == 0) {
        if ((siligrad_access_get(device, SILIGRAD_REGISTER_STATUS) & SILIGRAD_STATUS_BUSY) != 0) {
            siligrad_access_fail(device, SILIGRAD_EBUSY);
        }
        /* What was refused before is not this call's. */
        siligrad_access_put(device, SILIGRAD_REGISTER_STATUS, 0);
        error = device->error;
    }
    return error;
}

int siligrad_access_end(struct siligrad *device, int error)
{
    if (error == 0) {
        uint32_t status = siligrad_access_get(device, SILIGRAD_REGISTER_STATUS);

        error = device->error;
        if (error == 0 && (status & SILIGRAD_STATUS_REFUSED) != 0) {
            error = SILIGRAD_EREFUSED;
        }
    }
    return error;
}

/* Read what the accelerator was built with; return whether such a one exists. */
static int read_geometry(struct siligrad *device)
{
    /* The registers of the widths, a byte each, in the order in which they are read. */
    uint32_t registers = SILIGRAD_REGISTER_WORD_BITS << 24 | SILIGRAD_REGISTER_SUM_BITS << 16 |
                         SILIGRAD_REGISTER_OPERAND_BITS << 8 | SILIGRAD_REGISTER_ARRAY;
    uint32_t n, shift = 3, index = SILIGRAD_LINES;

    do {
        n = siligrad_access_get(device, registers >> 24);
        device->built[SILIGRAD_WIDTHS] = device->built[SILIGRAD_WIDTHS] << 8 | n;
        registers <<= 8;
        device->built[index] =
            siligrad_access_get(device, SILIGRAD_REGISTER_X_DEPTH + (index - SILIGRAD_DEPTHS) * SILIGRAD_WORD);
        if (device->built[index] > SILIGRAD_DEPTH_MAX) {
            return 0;
        }
        index--;
    } while (registers != 0);
    if (device->error != 0 || n < SILIGRAD_ARRAY_MIN || n > SILIGRAD_ARRAY_MAX ||
        (device->built[SILIGRAD_WIDTHS] >> 24) - SILIGRAD_WORD_BITS_MIN >
            SILIGRAD_WORD_BITS_MAX - SILIGRAD_WORD_BITS_MIN) {
        return 0;
    }
    device->array = n;
    n *= SILIGRAD_WORD;
    while (n > 1u << shift) {
        shift++;
    }
    device->shift = shift;
    device->gap = (1u << shift) - n;
    return 1;
}

int siligrad_open(struct siligrad *device, const struct siligrad_bus *bus)
{
    int error = SILIGRAD_EIDENTITY;

    if (device == NULL || bus == NULL || bus->read32 == NULL || bus->write32 == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    device->bus.context = bus->context;
    device->bus.read32 = bus->read32;
    device->bus.write32 = bus->write32;
    device->array = 0; /* until it is known: no other function takes a device without */
    device->tensor_count = 0;
    device->error = 0;
    if (siligrad_access_get(device, SILIGRAD_REGISTER_IDENTIFICATION) == SILIGRAD_IDENTIFICATION) {
        error = SILIGRAD_EVERSION;
        /* A minor version adds to what there was. */
        if (siligrad_access_get(device, SILIGRAD_REGISTER_VERSION) - SILIGRAD_VERSION <
            0x10000 - SILIGRAD_VERSION % 0x10000) {
            error = read_geometry(device) ? 0 : SILIGRAD_EGEOMETRY;
        }
    }
    siligrad_access_fail(device, error);
    return device->error;
}

/* Return 0 if what is asked for is there, or the error: there may be no program at all. */
static int find_out(const struct siligrad *device, int there)
{
    return device->tensor_count == 0 ? SILIGRAD_EPROGRAM : there ? 0 : SILIGRAD_EINDEX;
}

int siligrad_find_tensor(const struct siligrad *device, const char *name)
{
    if (device == NULL || name == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    if (device->tensor_count == 0) {
        return SILIGRAD_EPROGRAM;
    }
    if (device->names != NULL) {
        uint32_t index;

        for (index = 0; index != device->tensor_count; index++) {
            const char *ours = device->names + device->tensors[index].name, *theirs = name;

            while (*ours == *theirs) {
                if (*ours++ == '\0') {
                    return (int)index;
                }
                theirs++;
            }
        }
    }
    return SILIGRAD_ENAME;
}

/* Return whether a tensor may hold a code. */
static int is_code_of(const struct siligrad_tensor *tensor, int32_t code)
{
    int32_t most = tensor->limit;

    if ((tensor->flags & SILIGRAD_SIGN) != 0) {
        most = (int32_t)1 << (tensor->fraction & 15);
        return code == most || code == -most;
    }
    return code <= most && code >= -most;
}

enum { CHECK, WRITE, READ };

/* Visit each word of a tensor, from `offset` on, with the element of the caller's array that belongs to it: in passes
 * that check this, write it, or read it. Words come in the order of their addresses, which a bus may profit from. */
static int visit(struct siligrad *device, const struct siligrad_tensor *tensor, uint32_t offset, int16_t *codes,
                 ptrdiff_t row_stride, ptrdiff_t column_stride, int pass)
{
    uint32_t n = device->array, row_0, end, row, first, column;

    for (row_0 = 0; row_0 < tensor->rows; row_0 += n) {
        for (end = n; end - n < tensor->columns; end += n) {
            /* Bank b has column (b - r) mod n of row r of a tile: column n - r comes first, and 0 is in bank r. */
            row = row_0;
            first = end;
            do {
                column = first;
                do {
                    int32_t code = 0;
                    ptrdiff_t at;

                    if (column == end) {
                        column -= n;
                    }
                    at = (ptrdiff_t)row * row_stride + (ptrdiff_t)column * column_stride;
                    if (row < tensor->rows && column < tensor->columns) {
                        if (pass == READ) {
                            /* As it is: int16_t has no other bits than uint16_t, and means what the memory means. */
                            *(uint16_t *)(codes + at) = (uint16_t)siligrad_access_get(device, offset);
                        }
                        code = codes[at];
                        if (pass == CHECK && !is_code_of(tensor, code)) {
                            return SILIGRAD_ECODE;
                        }
                    }
                    if (pass == WRITE) {
                        siligrad_access_put(device, offset, (uint32_t)code);
                    }
                    offset += SILIGRAD_WORD;
                } while (++column != first);
                offset += device->gap;
                row++;
            } while (--first != end - n);
        }
    }
    return 0;
}

static int transfer(struct siligrad *device, uint32_t index, uint32_t step, int16_t *codes, ptrdiff_t row_stride,
                    ptrdiff_t column_stride, int pass)
{
    int error = siligrad_access_begin(device, codes);

    if (error == 0) {
        error = find_out(device, index < device->tensor_count);
    }
    if (error == 0) {
        const struct siligrad_tensor *tensor = device->tensors + index;

        error = SILIGRAD_EINDEX;
        if (step < ((tensor->flags & SILIGRAD_MOVES) != 0 ? device->steps : 1)) {
            uint32_t offset = siligrad_access_offset(device, tensor->memory,
                                                     tensor->base + step * device->run[1 + tensor->memory]);

            do {
                error = visit(device, tensor, offset, codes, row_stride, column_stride, pass);
            } while (error == 0 && pass++ == CHECK);
        }
    }
    return siligrad_access_end(device, error);
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
    uint32_t index;
    int error = siligrad_access_begin(device, device);

    if (error != 0) {
        return error;
    }
    if (device->tensor_count == 0) {
        return SILIGRAD_EPROGRAM;
    }
    siligrad_access_put(device, SILIGRAD_REGISTER_ENTRY, 0);
    for (index = 0; index < 6; index++) {
        siligrad_access_put(device, SILIGRAD_REGISTER_STEPS + index * SILIGRAD_WORD, device->run[index]);
    }
    siligrad_access_put(device, SILIGRAD_REGISTER_CONTROL, 1);
    return device->error;
}

int siligrad_read_cycles(struct siligrad *device, uint64_t *cycles)
{
    int error = siligrad_access_check(device, cycles);

    if (error == 0) {
        uint32_t low = siligrad_access_get(device, SILIGRAD_REGISTER_CYCLES);

        *cycles = (uint64_t)siligrad_access_get(device, SILIGRAD_REGISTER_CYCLES_HIGH) << 32 | low;
        error = device->error;
    }
    return error;
}

/* Look at the status until no run is going on, at most `polls` times; return what is wrong with the run that was. */
static int await(struct siligrad *device, uint32_t polls)
{
    uint32_t status;
    uint64_t cycles;

    if (device->tensor_count == 0) {
        return SILIGRAD_EPROGRAM;
    }
    do {
        if (polls-- == 0) {
            return SILIGRAD_ETIMEOUT;
        }
        status = siligrad_access_get(device, SILIGRAD_REGISTER_STATUS);
    } while ((status & SILIGRAD_STATUS_BUSY) != 0);
    if (device->error != 0) {
        return device->error;
    }
    if ((status & SILIGRAD_STATUS_OVERRUN) != 0) {
        return SILIGRAD_EOVERRUN;
    }
    if ((status & SILIGRAD_STATUS_DONE) == 0) {
        return SILIGRAD_ERESET;
    }
    return siligrad_read_cycles(device, &cycles) == 0 && cycles != device->cycles ? SILIGRAD_ECYCLES : 0;
}

int siligrad_wait(struct siligrad *device, uint32_t polls)
{
    int error = siligrad_access_check(device, device);

    if (error == 0) {
        error = await(device, polls);
    }
    return siligrad_access_end(device, error);
}

int siligrad_poll(struct siligrad *device)
{
    int error = siligrad_wait(device, 1);

    return error == SILIGRAD_ETIMEOUT ? 1 : error;
}

int siligrad_run(struct siligrad *device, uint32_t polls)
{
    int error = siligrad_start(device);

    return error != 0 ? error : siligrad_wait(device, polls);
}

int siligrad_read_saturations(struct siligrad *device, uint32_t *counts, uint32_t count)
{
    int error = siligrad_access_begin(device, counts);

    if (error == 0) {
        error = find_out(device, count <= device->instructions);
    }
    if (error == 0) {
        uint32_t *end = counts + count, offset = SILIGRAD_REGION_SATURATIONS;

        for (; counts != end; counts++) {
            *counts = siligrad_access_get(device, offset);
            offset += SILIGRAD_WORD;
        }
    }
    return siligrad_access_end(device, error);
}
