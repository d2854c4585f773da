/* siligrad.c - the accelerator: what it is, its memories, its runs. See siligrad.h. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

/* Offset from a memory's word in bank 0 to the one in bank 1. */
#define WORD 4u

uint32_t siligrad_access_get(struct siligrad *device, uint32_t offset)
{
    uint32_t value = 0;

    if (device->error != 0) {
        return 0;
    }
    device->error = device->bus.read32(device->bus.context, offset, &value);
    if (device->error != 0) {
        if (device->error > 0 || device->error < SILIGRAD_ERROR_LAST) {
            device->error = SILIGRAD_EIO;
        }
        return 0;
    }
    return value;
}

void siligrad_access_put(struct siligrad *device, uint32_t offset, uint32_t value)
{
    if (device->error != 0) {
        return;
    }
    device->error = device->bus.write32(device->bus.context, offset, value);
    if (device->error > 0 || device->error < SILIGRAD_ERROR_LAST) {
        device->error = SILIGRAD_EIO;
    }
}

/* Keep the first error of a call, and return it. */
static int fail(struct siligrad *device, int error)
{
    if (device->error == 0) {
        device->error = error;
    }
    return device->error;
}

int siligrad_access_begin(struct siligrad *device)
{
    uint32_t status;

    if (device == NULL || device->array == 0) {
        return SILIGRAD_EARGUMENT;
    }
    device->error = 0;
    status = siligrad_access_get(device, SILIGRAD_REGISTER_STATUS);
    if ((status & SILIGRAD_STATUS_BUSY) != 0) {
        return fail(device, SILIGRAD_EBUSY);
    }
    if ((status & SILIGRAD_STATUS_REFUSED) != 0) {
        siligrad_access_put(device, SILIGRAD_REGISTER_STATUS, 0);
    }
    return device->error;
}

int siligrad_access_end(struct siligrad *device)
{
    if ((siligrad_access_get(device, SILIGRAD_REGISTER_STATUS) & SILIGRAD_STATUS_REFUSED) != 0) {
        siligrad_access_put(device, SILIGRAD_REGISTER_STATUS, 0);
        return fail(device, SILIGRAD_EREFUSED);
    }
    return device->error;
}

uint32_t siligrad_access_offset(const struct siligrad *device, uint32_t memory, uint32_t address)
{
    return SILIGRAD_REGION_X + memory * (SILIGRAD_REGION_W - SILIGRAD_REGION_X) +
           (address << device->bank_bits) * WORD;
}

uint32_t siligrad_access_words(const struct siligrad *device, const struct siligrad_tensor *tensor)
{
    uint32_t depth = device->depth[tensor->memory], row_of_tiles = 0, words = 0, at;

    /* By counting: some processors cannot divide. Whatever the sizes, neither loop counts further than the depth. */
    for (at = 0; at < tensor->columns; at += device->array) {
        row_of_tiles += device->array;
        if (row_of_tiles > depth) {
            return 0;
        }
    }
    if (row_of_tiles == 0) {
        return 0;
    }
    for (at = 0; at < tensor->rows; at += device->array) {
        words += row_of_tiles;
        if (words > depth) {
            return 0;
        }
    }
    return words;
}

/* Read what the accelerator was built with; return whether it exists. */
static int read_geometry(struct siligrad *device)
{
    uint32_t memory;

    device->operand_bits = siligrad_access_get(device, SILIGRAD_REGISTER_OPERAND_BITS);
    device->sum_bits = siligrad_access_get(device, SILIGRAD_REGISTER_SUM_BITS);
    device->word_bits = siligrad_access_get(device, SILIGRAD_REGISTER_WORD_BITS);
    device->program_depth = siligrad_access_get(device, SILIGRAD_REGISTER_PROGRAM_DEPTH);
    device->array = siligrad_access_get(device, SILIGRAD_REGISTER_ARRAY);
    if (device->array < SILIGRAD_ARRAY_MIN || device->array > SILIGRAD_ARRAY_MAX ||
        device->word_bits < SILIGRAD_WORD_BITS_MIN || device->word_bits > SILIGRAD_WORD_BITS_MAX ||
        device->program_depth > SILIGRAD_PROGRAM_DEPTH_MAX) {
        return 0;
    }
    for (memory = 0; memory < 3; memory++) {
        device->depth[memory] = siligrad_access_get(device, SILIGRAD_REGISTER_X_DEPTH + memory * WORD);
        if (device->depth[memory] < device->array || device->depth[memory] > SILIGRAD_DEPTH_MAX) {
            return 0;
        }
    }
    device->bank_bits = 1;
    while ((1u << device->bank_bits) < device->array) {
        device->bank_bits++;
    }
    return 1;
}

int siligrad_open(struct siligrad *device, const struct siligrad_bus *bus)
{
    uint32_t version;

    if (device == NULL || bus == NULL || bus->read32 == NULL || bus->write32 == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    device->bus = *bus;
    device->array = 0; /* until it is known: no other function takes a device without */
    device->loaded = 0;
    device->error = 0;
    if (siligrad_access_get(device, SILIGRAD_REGISTER_IDENTIFICATION) != SILIGRAD_IDENTIFICATION) {
        return fail(device, SILIGRAD_EIDENTITY);
    }
    /* A minor version adds to what there was. */
    version = siligrad_access_get(device, SILIGRAD_REGISTER_VERSION);
    if (version >> 16 != SILIGRAD_VERSION >> 16 || version < SILIGRAD_VERSION) {
        return fail(device, SILIGRAD_EVERSION);
    }
    if (!read_geometry(device)) {
        device->array = 0;
        return fail(device, SILIGRAD_EGEOMETRY);
    }
    return 0;
}

int siligrad_find_tensor(const struct siligrad *device, const char *name)
{
    uint32_t index;

    if (device == NULL || name == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    if (!device->loaded) {
        return SILIGRAD_EPROGRAM;
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
    return SILIGRAD_ENAME;
}

/* Return the tensor of that index, and in `offset` its first word's; or NULL, with an error. */
static const struct siligrad_tensor *locate(struct siligrad *device, uint32_t tensor, uint32_t step, uint32_t *offset)
{
    const struct siligrad_tensor *found;

    if (!device->loaded) {
        device->error = SILIGRAD_EPROGRAM;
        return NULL;
    }
    if (tensor >= device->tensor_count) {
        device->error = SILIGRAD_EINDEX;
        return NULL;
    }
    found = &device->tensors[tensor];
    if (step >= ((found->flags & SILIGRAD_MOVES) != 0 ? device->steps : 1)) {
        device->error = SILIGRAD_EINDEX;
        return NULL;
    }
    *offset = siligrad_access_offset(device, found->memory, found->base + step * device->stride[found->memory]);
    return found;
}

/* Return whether a tensor may hold a code. */
static int is_code_of(const struct siligrad_tensor *tensor, int32_t code)
{
    int32_t magnitude = code < 0 ? -code : code;

    if ((tensor->flags & SILIGRAD_SIGN) != 0) {
        return magnitude == (int32_t)1 << tensor->fraction;
    }
    return magnitude <= tensor->limit;
}

/* Copy between the memory words of a tensor, from `offset` on, and the caller's array: to it, or from it if `from` is
 * not NULL. Words are visited in the order of their addresses, which a bus may profit from. */
static void copy(struct siligrad *device, const struct siligrad_tensor *tensor, uint32_t offset, const int16_t *from,
                 int16_t *to, ptrdiff_t row_stride, ptrdiff_t column_stride)
{
    uint32_t n = device->array, row_0, column_0, r, bank;
    ptrdiff_t span = (ptrdiff_t)n * column_stride;

    for (row_0 = 0; row_0 < tensor->rows; row_0 += n) {
        for (column_0 = 0; column_0 < tensor->columns; column_0 += n) {
            for (r = 0; r < n; r++) {
                /* Bank b holds column (b - r) mod n of the tile: what comes first is n - r, up to bank r. */
                uint32_t row = row_0 + r, column = column_0 + n - r;
                ptrdiff_t at = (ptrdiff_t)row * row_stride + (ptrdiff_t)column * column_stride;

                for (bank = 0; bank < n; bank++) {
                    if (bank == r) {
                        column -= n;
                        at -= span;
                    }
                    if (row >= tensor->rows || column >= tensor->columns) {
                        if (from != NULL) {
                            siligrad_access_put(device, offset, 0);
                        }
                    } else if (from != NULL) {
                        siligrad_access_put(device, offset, (uint32_t)(int32_t)from[at]);
                    } else {
                        uint32_t code = siligrad_access_get(device, offset) & 0xffff;

                        to[at] = (int16_t)((int32_t)(code ^ 0x8000) - 0x8000);
                    }
                    column++;
                    at += column_stride;
                    offset += WORD;
                }
                offset += ((1u << device->bank_bits) - n) * WORD;
            }
        }
    }
}

int siligrad_write_tensor(struct siligrad *device, uint32_t tensor, uint32_t step, const int16_t *codes,
                          ptrdiff_t row_stride, ptrdiff_t column_stride)
{
    const struct siligrad_tensor *found;
    uint32_t offset, row, column;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    if (codes == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    found = locate(device, tensor, step, &offset);
    if (found == NULL) {
        return device->error;
    }
    for (row = 0; row < found->rows; row++) {
        const int16_t *code = codes + (ptrdiff_t)row * row_stride;

        for (column = 0; column < found->columns; column++) {
            if (!is_code_of(found, code[(ptrdiff_t)column * column_stride])) {
                return SILIGRAD_ECODE;
            }
        }
    }
    copy(device, found, offset, codes, NULL, row_stride, column_stride);
    return siligrad_access_end(device);
}

int siligrad_read_tensor(struct siligrad *device, uint32_t tensor, uint32_t step, int16_t *codes, ptrdiff_t row_stride,
                         ptrdiff_t column_stride)
{
    const struct siligrad_tensor *found;
    uint32_t offset;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    if (codes == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    found = locate(device, tensor, step, &offset);
    if (found == NULL) {
        return device->error;
    }
    copy(device, found, offset, NULL, codes, row_stride, column_stride);
    return siligrad_access_end(device);
}

int siligrad_start(struct siligrad *device)
{
    uint32_t memory;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    if (!device->loaded) {
        return SILIGRAD_EPROGRAM;
    }
    siligrad_access_put(device, SILIGRAD_REGISTER_ENTRY, 0);
    siligrad_access_put(device, SILIGRAD_REGISTER_STEPS, device->steps);
    for (memory = 0; memory < 3; memory++) {
        siligrad_access_put(device, SILIGRAD_REGISTER_X_STRIDE + memory * WORD, device->stride[memory]);
    }
    siligrad_access_put(device, SILIGRAD_REGISTER_LIMIT, (uint32_t)device->cycles);
    siligrad_access_put(device, SILIGRAD_REGISTER_LIMIT_HIGH, (uint32_t)(device->cycles >> 32));
    siligrad_access_put(device, SILIGRAD_REGISTER_CONTROL, 1);
    return device->error;
}

int siligrad_poll(struct siligrad *device)
{
    uint32_t status;
    uint64_t cycles;

    if (device == NULL || device->array == 0) {
        return SILIGRAD_EARGUMENT;
    }
    if (!device->loaded) {
        return SILIGRAD_EPROGRAM;
    }
    device->error = 0;
    status = siligrad_access_get(device, SILIGRAD_REGISTER_STATUS);
    if ((status & SILIGRAD_STATUS_BUSY) != 0) {
        return 1;
    }
    if ((status & SILIGRAD_STATUS_OVERRUN) != 0) {
        return fail(device, SILIGRAD_EOVERRUN);
    }
    if ((status & SILIGRAD_STATUS_DONE) == 0) {
        return fail(device, SILIGRAD_ERESET);
    }
    if (siligrad_read_cycles(device, &cycles) == 0 && cycles != device->cycles) {
        return fail(device, SILIGRAD_ECYCLES);
    }
    return siligrad_access_end(device);
}

int siligrad_wait(struct siligrad *device, uint32_t polls)
{
    int state = polls == 0 ? SILIGRAD_EARGUMENT : 1;

    while (state == 1 && polls-- != 0) {
        state = siligrad_poll(device);
    }
    return state == 1 ? SILIGRAD_ETIMEOUT : state;
}

int siligrad_run(struct siligrad *device, uint32_t polls)
{
    int error = siligrad_start(device);

    return error != 0 ? error : siligrad_wait(device, polls);
}

int siligrad_read_cycles(struct siligrad *device, uint64_t *cycles)
{
    if (device == NULL || device->array == 0 || cycles == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    device->error = 0;
    *cycles = siligrad_access_get(device, SILIGRAD_REGISTER_CYCLES);
    *cycles |= (uint64_t)siligrad_access_get(device, SILIGRAD_REGISTER_CYCLES_HIGH) << 32;
    return device->error;
}

int siligrad_read_saturations(struct siligrad *device, uint32_t *counts, uint32_t count)
{
    uint32_t index;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    if (counts == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    if (!device->loaded) {
        return SILIGRAD_EPROGRAM;
    }
    if (count > device->instructions) {
        return SILIGRAD_EINDEX;
    }
    for (index = 0; index < count; index++) {
        counts[index] = siligrad_access_get(device, SILIGRAD_REGION_SATURATIONS + index * WORD);
    }
    return siligrad_access_end(device);
}

int siligrad_seed(struct siligrad *device, uint64_t seed)
{
    uint32_t lane;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    /* SplitMix64, as docs/spec/numerics.md has it. */
    for (lane = 0; lane < device->array; lane++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        siligrad_access_put(device, SILIGRAD_REGISTER_LFSR + lane * WORD, (uint32_t)z != 0 ? (uint32_t)z : 1);
    }
    return siligrad_access_end(device);
}

int siligrad_read_lfsr(struct siligrad *device, uint32_t *states)
{
    uint32_t lane;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    if (states == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    for (lane = 0; lane < device->array; lane++) {
        states[lane] = siligrad_access_get(device, SILIGRAD_REGISTER_LFSR + lane * WORD);
    }
    return siligrad_access_end(device);
}

int siligrad_write_lfsr(struct siligrad *device, const uint32_t *states)
{
    uint32_t lane;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    if (states == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    for (lane = 0; lane < device->array; lane++) {
        if (states[lane] == 0) {
            return SILIGRAD_ESTATE;
        }
    }
    for (lane = 0; lane < device->array; lane++) {
        siligrad_access_put(device, SILIGRAD_REGISTER_LFSR + lane * WORD, states[lane]);
    }
    return siligrad_access_end(device);
}

/* Return whether a word of the program memory says that its instruction writes a tensor that stays in the device. */
static int is_update(const struct siligrad *device, uint32_t memory, uint32_t base)
{
    uint32_t index;

    for (index = 0; index < device->tensor_count; index++) {
        const struct siligrad_tensor *tensor = &device->tensors[index];

        if (tensor->role == SILIGRAD_RESIDENT && tensor->memory == memory && tensor->base == base) {
            return 1;
        }
    }
    return 0;
}

int siligrad_slow(struct siligrad *device, int halvings)
{
    uint32_t pass, updates = 0;
    int error = siligrad_access_begin(device);

    if (error != 0) {
        return error;
    }
    if (!device->loaded) {
        return SILIGRAD_EPROGRAM;
    }
    if (halvings > (int)SILIGRAD_SHIFT_MAX || halvings < -(int)SILIGRAD_SHIFT_MAX) {
        return SILIGRAD_ESHIFT;
    }
    /* All of them are looked at before one is changed. */
    for (pass = 0; pass < 2; pass++) {
        uint32_t line = 0, instruction;

        for (instruction = 0; instruction < device->instructions; instruction++) {
            uint32_t at = SILIGRAD_REGION_PROGRAM + line * SILIGRAD_LINE_WORDS * WORD;
            uint32_t shift_at = at + SILIGRAD_SHIFT_WORD * WORD;
            uint32_t segments = siligrad_access_get(device, at + SILIGRAD_SEGMENTS_WORD * WORD);
            uint32_t word = siligrad_access_get(device, shift_at);
            uint32_t memory = word >> SILIGRAD_DESTINATION_BIT & SILIGRAD_DESTINATION_MASK;
            uint32_t base = siligrad_access_get(device, at + SILIGRAD_D_BASE_WORD * WORD) & SILIGRAD_D_BASE_MASK;

            if (is_update(device, memory, base)) {
                int shift = (int)(word >> SILIGRAD_SHIFT_BIT & SILIGRAD_SHIFT_MASK) + halvings;

                if (shift < 0 || shift > (int)SILIGRAD_SHIFT_MAX) {
                    return fail(device, SILIGRAD_ESHIFT);
                }
                updates++;
                if (pass == 1) {
                    word &= ~(SILIGRAD_SHIFT_MASK << SILIGRAD_SHIFT_BIT);
                    siligrad_access_put(device, shift_at, word | (uint32_t)shift << SILIGRAD_SHIFT_BIT);
                }
            }
            line += SILIGRAD_HEADER_LINES + (segments >> SILIGRAD_SEGMENTS_BIT & SILIGRAD_SEGMENTS_MASK);
        }
    }
    if (updates == 0) {
        return fail(device, SILIGRAD_ESHIFT);
    }
    return siligrad_access_end(device);
}
