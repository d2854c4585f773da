/* fuzz_image.c - images from strangers: the loader, and what a program does with what was loaded, for libFuzzer.
 *
 * The input is a byte of choices, a byte for the sizes of pieces, and an image; its CRC is mended unless the choices
 * say otherwise, since no fuzzer guesses one. The accelerator here is a 3 x 3 one that computes nothing: it ends the
 * process when the driver touches a word that it does not have, or more words than any image needs. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "siligrad.h"
#include "siligrad_constants.h"

enum { ARRAY = 3, DEPTH = 64, LINES = 64, BANKS = 4, REGISTERS = 40, ACCESSES_MAX = 1 << 21 };

enum choice { MEND = 1, ATTACH = 2, FEW_TENSORS = 4, FEW_NAMES = 8, NO_NAMES = 16, FOREIGN = 32 };

struct accelerator {
    uint32_t registers[REGISTERS];
    uint32_t program[LINES * SILIGRAD_LINE_WORDS];
    uint32_t memory[3][DEPTH * BANKS];
    uint32_t accesses;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) {
        abort();
    }
}

/* Return a word that exists, or end the process. */
static uint32_t *place(struct accelerator *accelerator, uint32_t offset, int write)
{
    uint32_t region = offset & ~(SILIGRAD_REGION_PROGRAM - 1), at = (offset - region) / 4, memory;

    require(offset % 4 == 0 && ++accelerator->accesses < ACCESSES_MAX);
    if (region == SILIGRAD_REGION_REGISTERS) {
        require(at < REGISTERS && (!write || offset >= SILIGRAD_REGISTER_CONTROL));
        return &accelerator->registers[at];
    }
    if (region == SILIGRAD_REGION_PROGRAM) {
        require(at < LINES * SILIGRAD_LINE_WORDS);
        return &accelerator->program[at];
    }
    if (region == SILIGRAD_REGION_SATURATIONS) {
        require(!write && at < LINES);
        return &accelerator->registers[REGISTERS - 1];
    }
    memory = (region - SILIGRAD_REGION_X) / (SILIGRAD_REGION_W - SILIGRAD_REGION_X);
    require(region >= SILIGRAD_REGION_X && memory < 3 && at < DEPTH * BANKS && at % BANKS < ARRAY);
    return &accelerator->memory[memory][at];
}

static int read32(void *context, uint32_t offset, uint32_t *value)
{
    *value = *place((struct accelerator *)context, offset, 0);
    return 0;
}

static int write32(void *context, uint32_t offset, uint32_t value)
{
    struct accelerator *accelerator = (struct accelerator *)context;
    uint32_t *word = place(accelerator, offset, 1);

    if (offset == SILIGRAD_REGISTER_CONTROL) {
        /* A run ends at once, after as many cycles as it may take, which must not be any number. */
        uint32_t low = SILIGRAD_REGISTER_LIMIT / 4, high = SILIGRAD_REGISTER_LIMIT_HIGH / 4;

        require((accelerator->registers[low] | accelerator->registers[high]) != 0);
        accelerator->registers[SILIGRAD_REGISTER_CYCLES / 4] = accelerator->registers[low];
        accelerator->registers[SILIGRAD_REGISTER_CYCLES_HIGH / 4] = accelerator->registers[high];
        accelerator->registers[SILIGRAD_REGISTER_STATUS / 4] = SILIGRAD_STATUS_DONE;
    } else if (offset == SILIGRAD_REGISTER_STATUS) {
        *word &= ~SILIGRAD_STATUS_REFUSED;
    } else {
        *word = value;
    }
    return 0;
}

static void power_up(struct accelerator *accelerator, int foreign)
{
    memset(accelerator, 0, sizeof *accelerator);
    accelerator->registers[SILIGRAD_REGISTER_IDENTIFICATION / 4] = SILIGRAD_IDENTIFICATION;
    accelerator->registers[SILIGRAD_REGISTER_VERSION / 4] = SILIGRAD_VERSION;
    accelerator->registers[SILIGRAD_REGISTER_ARRAY / 4] = ARRAY;
    accelerator->registers[SILIGRAD_REGISTER_OPERAND_BITS / 4] = 16;
    accelerator->registers[SILIGRAD_REGISTER_SUM_BITS / 4] = foreign ? 41 : 40;
    accelerator->registers[SILIGRAD_REGISTER_WORD_BITS / 4] = 16;
    accelerator->registers[SILIGRAD_REGISTER_X_DEPTH / 4] = DEPTH;
    accelerator->registers[SILIGRAD_REGISTER_W_DEPTH / 4] = DEPTH;
    accelerator->registers[SILIGRAD_REGISTER_E_DEPTH / 4] = DEPTH;
    accelerator->registers[SILIGRAD_REGISTER_PROGRAM_DEPTH / 4] = LINES;
}

/* Put the CRC that belongs to an image in its place, and its own size. */
static void mend(uint8_t *image, uint32_t size)
{
    uint32_t crc = ~(uint32_t)0, at, bit;

    for (at = 0; at < 4; at++) {
        image[SILIGRAD_IMAGE_AT_SIZE + at] = (uint8_t)(size >> 8 * at);
        image[SILIGRAD_IMAGE_AT_CRC + at] = 0;
    }
    for (at = 0; at < size; at++) {
        crc ^= image[at];
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
        }
    }
    for (at = 0; at < 4; at++) {
        image[SILIGRAD_IMAGE_AT_CRC + at] = (uint8_t)(~crc >> 8 * at);
    }
}

/* Use each tensor as a program would, with an array that has just the room it needs. */
static void use(struct siligrad *device)
{
    uint32_t index, counts[LINES];

    for (index = 0; index < device->tensor_count; index++) {
        const struct siligrad_tensor *tensor = &device->tensors[index];
        uint32_t last = (tensor->flags & SILIGRAD_MOVES) != 0 && device->steps != 0 ? device->steps - 1 : 0;
        ptrdiff_t columns = (ptrdiff_t)tensor->columns;
        int16_t *codes = (int16_t *)calloc((size_t)tensor->rows * tensor->columns, sizeof *codes);

        require(codes != NULL);
        if (device->names != NULL) {
            int found = siligrad_find_tensor(device, device->names + tensor->name);

            require(found >= 0 && (uint32_t)found <= index);
        }
        (void)siligrad_write_tensor(device, index, 0, codes, columns, 1);
        (void)siligrad_write_tensor(device, index, last, codes, 1, (ptrdiff_t)tensor->rows);
        (void)siligrad_read_tensor(device, index, last, codes, columns, 1);
        require(siligrad_read_tensor(device, index, last + 1, codes, columns, 1) == SILIGRAD_EINDEX);
        free(codes);
    }
    require(device->instructions <= LINES);
    (void)siligrad_slow(device, 1);
    require(siligrad_run(device, 2) == 0);
    require(siligrad_read_saturations(device, counts, device->instructions) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct accelerator accelerator;
    struct siligrad_bus bus = {&accelerator, read32, write32};
    struct siligrad device;
    struct siligrad_loader loader;
    uint8_t choices, piece, *image;
    uint32_t count, at = 0, tensor_room, name_room;
    struct siligrad_tensor *tensors;
    char *names;
    int error;

    if (size < 2 || size > 1 << 16) {
        return 0;
    }
    choices = data[0];
    piece = data[1];
    count = (uint32_t)size - 2;
    image = (uint8_t *)malloc(count + 1);
    require(image != NULL);
    memcpy(image, data + 2, count);
    if ((choices & MEND) != 0 && count >= SILIGRAD_IMAGE_HEADER_BYTES) {
        mend(image, count);
    }
    tensor_room = (choices & FEW_TENSORS) != 0 ? 3 : 32;
    name_room = (choices & NO_NAMES) != 0 ? 0 : (choices & FEW_NAMES) != 0 ? 24 : 2048;
    tensors = (struct siligrad_tensor *)malloc(tensor_room * sizeof *tensors);
    names = name_room != 0 ? (char *)malloc(name_room) : NULL;
    require(tensors != NULL && (names != NULL || name_room == 0));

    power_up(&accelerator, (choices & FOREIGN) != 0);
    require(siligrad_open(&device, &bus) == 0);
    error = siligrad_load_begin(&loader, &device, (choices & ATTACH) != 0 ? SILIGRAD_ATTACH : SILIGRAD_WRITE, tensors,
                                tensor_room, names, name_room);
    while (error == 0 && at < count) {
        uint32_t part = piece == 0 ? count : (uint32_t)piece * piece;

        part = part < count - at ? part : count - at;
        error = siligrad_load(&loader, image + at, part);
        at += part;
    }
    require(siligrad_load_end(&loader) == error || error == 0);
    if (device.tensor_count != 0) {
        require(error == 0);
        use(&device);
    } else {
        require(siligrad_start(&device) == SILIGRAD_EPROGRAM);
    }
    free(names);
    free(tensors);
    free(image);
    return 0;
}
