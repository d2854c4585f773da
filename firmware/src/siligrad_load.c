/* siligrad_load.c - the loader of images, docs/spec/image.md, in pieces of any size. See siligrad.h.
 *
 * Nothing that an image says is trusted: each number is compared with a bound before it is used, and each word that is
 * written lies in the program memory or in the words of a tensor that lies in its memory. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

/* The sections, in order; the last one is of no use here. */
enum { PROGRAM, TENSORS, NAMES, DATA, SECTIONS = SILIGRAD_IMAGE_SECTIONS };

static uint32_t little_16(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8;
}

static uint32_t little_32(const uint8_t *bytes)
{
    return little_16(bytes) | little_16(bytes + 2) << 16;
}

uint32_t siligrad_access_crc(uint32_t crc, uint8_t byte)
{
    /* The CRC of IEEE 802.3, four bits at a time: entry i is what the bits i in front leave. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
    };

    crc ^= byte;
    crc = crc >> 4 ^ table[crc & 15];
    return crc >> 4 ^ table[crc & 15];
}

int siligrad_load_begin(struct siligrad_loader *loader, struct siligrad *device, enum siligrad_load_mode mode,
                        struct siligrad_tensor *tensors, uint32_t tensor_room, char *names, uint32_t name_room)
{
    static const struct siligrad_loader empty = {0};

    if (loader == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    *loader = empty;
    if (tensors == NULL || (names == NULL) != (name_room == 0)) {
        return loader->error = SILIGRAD_EARGUMENT;
    }
    loader->error = siligrad_access_begin(device);
    if (loader->error != 0) {
        return loader->error;
    }
    loader->device = device;
    loader->mode = (uint32_t)mode;
    loader->tensor_room = tensor_room;
    loader->names = names;
    loader->name_room = name_room;
    loader->size = SILIGRAD_IMAGE_SIZE_MAX; /* until it is known */
    loader->crc = ~(uint32_t)0;
    device->loaded = 0;
    device->tensors = tensors;
    device->tensor_count = 0;
    device->names = names;
    device->instructions = 0;
    return 0;
}

/* Write a word, or do nothing where the accelerator is only attached to. */
static int put(const struct siligrad_loader *loader, uint32_t offset, uint32_t value)
{
    if (loader->mode == SILIGRAD_WRITE) {
        siligrad_access_put(loader->device, offset, value);
    }
    return loader->device->error;
}

/* Take the header, whole in `bytes`. */
static int take_header(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const uint8_t *bytes = loader->bytes;
    uint32_t index, end = SILIGRAD_IMAGE_HEADER_BYTES;

    if (little_16(bytes + SILIGRAD_IMAGE_AT_VERSION) != SILIGRAD_IMAGE_VERSION ||
        little_16(bytes + SILIGRAD_IMAGE_AT_HEADER_SIZE) != SILIGRAD_IMAGE_HEADER_BYTES) {
        return SILIGRAD_EFORMAT;
    }
    loader->size = little_32(bytes + SILIGRAD_IMAGE_AT_SIZE);
    if (loader->size > SILIGRAD_IMAGE_SIZE_MAX) {
        return SILIGRAD_ESIZE;
    }
    loader->crc_expected = little_32(bytes + SILIGRAD_IMAGE_AT_CRC);
    if (bytes[SILIGRAD_IMAGE_AT_ARRAY] != device->array ||
        bytes[SILIGRAD_IMAGE_AT_OPERAND_BITS] != device->operand_bits ||
        bytes[SILIGRAD_IMAGE_AT_SUM_BITS] != device->sum_bits ||
        bytes[SILIGRAD_IMAGE_AT_WORD_BITS] != device->word_bits ||
        little_32(bytes + SILIGRAD_IMAGE_AT_PROGRAM_DEPTH) != device->program_depth) {
        return SILIGRAD_ETARGET;
    }
    for (index = 0; index < 3; index++) {
        if (little_32(bytes + SILIGRAD_IMAGE_AT_X_DEPTH + 4 * index) != device->depth[index]) {
            return SILIGRAD_ETARGET;
        }
        device->stride[index] = little_16(bytes + SILIGRAD_IMAGE_AT_X_STRIDE + 2 * index);
    }
    device->steps = little_16(bytes + SILIGRAD_IMAGE_AT_STEPS);
    device->cycles = little_32(bytes + SILIGRAD_IMAGE_AT_CYCLES) |
                     (uint64_t)little_32(bytes + SILIGRAD_IMAGE_AT_CYCLES + 4) << 32;
    /* A limit of no cycles would be none. */
    if (device->steps == 0 || device->cycles == 0) {
        return SILIGRAD_EIMAGE;
    }
    for (index = 0; index < SECTIONS; index++) {
        const uint8_t *section = bytes + SILIGRAD_IMAGE_AT_PROGRAM_OFFSET + 8 * index;
        uint32_t begin = little_32(section), length = little_32(section + 4);

        if (begin < end || begin > loader->size || length > loader->size - begin) {
            return SILIGRAD_EIMAGE;
        }
        end = begin + length;
        loader->begin[index] = begin;
        loader->end[index] = end;
    }
    if (loader->names != NULL && loader->end[NAMES] - loader->begin[NAMES] > loader->name_room) {
        return SILIGRAD_EROOM;
    }
    return 0;
}

static int take_program_word(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    uint32_t value = little_32(loader->bytes), index = loader->words++ % SILIGRAD_LINE_WORDS;

    if (loader->words > device->program_depth * SILIGRAD_LINE_WORDS) {
        return SILIGRAD_EIMAGE;
    }
    if (index == 0) {
        loader->first = loader->lines_left == 0;
        if (loader->first) {
            uint32_t segments = value >> SILIGRAD_SEGMENTS_BIT & SILIGRAD_SEGMENTS_MASK;

            if (loader->final || segments == 0 || segments > SILIGRAD_SEGMENTS_MAX) {
                return SILIGRAD_EIMAGE;
            }
            loader->lines_left = SILIGRAD_HEADER_LINES + segments;
            device->instructions++;
        }
        loader->lines_left--;
    }
    if (loader->first && index == SILIGRAD_FINAL_WORD) {
        loader->final = value >> SILIGRAD_FINAL_BIT & SILIGRAD_FINAL_MASK;
    }
    return put(loader, SILIGRAD_REGION_PROGRAM + 4 * (loader->words - 1), value);
}

/* Return whether all of a tensor lies in its memory, and begins where a tile may. */
static int is_inside(const struct siligrad *device, const struct siligrad_tensor *tensor, uint32_t words)
{
    uint32_t room = device->depth[tensor->memory] - words, at;

    if (words == 0 || tensor->base > room) {
        return 0;
    }
    room -= tensor->base;
    /* The others of a tensor that moves; no product here is larger than 32 bits hold. */
    if ((tensor->flags & SILIGRAD_MOVES) != 0 && (device->steps - 1) * device->stride[tensor->memory] > room) {
        return 0;
    }
    for (at = 0; at < tensor->base; at += device->array) {
    }
    return at == tensor->base;
}

static int take_tensor(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const uint8_t *bytes = loader->bytes;
    struct siligrad_tensor *tensor = device->tensors + device->tensor_count;
    uint32_t words, data = little_32(bytes + SILIGRAD_TENSOR_AT_DATA);
    uint32_t flags = little_16(bytes + SILIGRAD_TENSOR_AT_FLAGS);
    uint32_t largest = ((uint32_t)1 << (device->word_bits - 1)) - 1;

    if (device->tensor_count == loader->tensor_room) {
        return SILIGRAD_EROOM;
    }
    tensor->name = little_32(bytes + SILIGRAD_TENSOR_AT_NAME);
    tensor->base = little_32(bytes + SILIGRAD_TENSOR_AT_BASE);
    tensor->rows = little_32(bytes + SILIGRAD_TENSOR_AT_ROWS);
    tensor->columns = little_32(bytes + SILIGRAD_TENSOR_AT_COLUMNS);
    tensor->fraction = (int32_t)little_32(bytes + SILIGRAD_TENSOR_AT_FRACTION);
    tensor->limit = (int32_t)little_32(bytes + SILIGRAD_TENSOR_AT_LIMIT);
    tensor->scale = little_32(bytes + SILIGRAD_TENSOR_AT_SCALE) |
                    (uint64_t)little_32(bytes + SILIGRAD_TENSOR_AT_SCALE + 4) << 32;
    tensor->role = bytes[SILIGRAD_TENSOR_AT_ROLE];
    tensor->memory = bytes[SILIGRAD_TENSOR_AT_MEMORY];
    tensor->flags = (uint8_t)flags;
    tensor->loaded = data != SILIGRAD_IMAGE_NO_DATA;
    if (tensor->role > SILIGRAD_OUTPUT || tensor->memory > SILIGRAD_E ||
        flags > (SILIGRAD_SIGN | SILIGRAD_MAGNITUDE | SILIGRAD_MOVES) || (uint32_t)tensor->limit > largest ||
        tensor->name >= loader->end[NAMES] - loader->begin[NAMES]) {
        return SILIGRAD_EIMAGE;
    }
    words = siligrad_access_words(device, tensor);
    if (!is_inside(device, tensor, words)) {
        return SILIGRAD_EIMAGE;
    }
    /* The code of 1 must exist where only +1 and -1 do. */
    if ((flags & SILIGRAD_SIGN) != 0 &&
        (tensor->fraction < 0 || tensor->fraction > 15 || tensor->limit >> tensor->fraction == 0)) {
        return SILIGRAD_EIMAGE;
    }
    if (tensor->loaded) {
        /* Data lie in the order of their tensors, without gaps. */
        if (data != loader->data_bytes || (flags & SILIGRAD_MOVES) != 0) {
            return SILIGRAD_EIMAGE;
        }
        loader->data_bytes += 2 * words * device->array;
        if (loader->data_bytes > loader->end[DATA] - loader->begin[DATA]) {
            return SILIGRAD_EIMAGE;
        }
    }
    device->tensor_count++;
    return 0;
}

static int take_code(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const struct siligrad_tensor *tensor;
    int32_t code = (int32_t)(little_16(loader->bytes) ^ 0x8000) - 0x8000;
    uint32_t offset;

    if (loader->address == loader->address_end) {
        /* The next tensor that has data. */
        do {
            if (loader->tensor == device->tensor_count) {
                return SILIGRAD_EIMAGE;
            }
            tensor = device->tensors + loader->tensor++;
        } while (!tensor->loaded);
        loader->address = tensor->base;
        loader->address_end = tensor->base + siligrad_access_words(device, tensor);
    }
    tensor = device->tensors + loader->tensor - 1;
    if (code > tensor->limit || code < -tensor->limit) {
        return SILIGRAD_EIMAGE;
    }
    offset = siligrad_access_offset(device, tensor->memory, loader->address) + 4 * loader->bank;
    if (++loader->bank == device->array) {
        loader->bank = 0;
        loader->address++;
    }
    return put(loader, offset, (uint32_t)code);
}

/* Take the next byte, of which the CRC is known. */
static int take(struct siligrad_loader *loader, uint32_t position, uint8_t byte)
{
    static const uint8_t entry_bytes[SECTIONS] = {4, SILIGRAD_TENSOR_BYTES, 1, 2, 1};

    if (position < SILIGRAD_IMAGE_HEADER_BYTES) {
        loader->bytes[position] = byte;
        if (position < 8 &&
            byte != (uint8_t)((position < 4 ? SILIGRAD_IMAGE_MAGIC_0 : SILIGRAD_IMAGE_MAGIC_1) >> position % 4 * 8)) {
            return SILIGRAD_EMAGIC;
        }
        return position == SILIGRAD_IMAGE_HEADER_BYTES - 1 ? take_header(loader) : 0;
    }
    if (position >= loader->size) {
        return SILIGRAD_ESIZE;
    }
    while (loader->section < SECTIONS && position >= loader->end[loader->section]) {
        if (loader->held != 0) {
            return SILIGRAD_EIMAGE;
        }
        loader->section++;
    }
    if (loader->section == SECTIONS || position < loader->begin[loader->section]) {
        return 0; /* between sections */
    }
    loader->bytes[loader->held++] = byte;
    if (loader->held < entry_bytes[loader->section]) {
        return 0;
    }
    loader->held = 0;
    switch (loader->section) {
    case PROGRAM:
        return take_program_word(loader);
    case TENSORS:
        return take_tensor(loader);
    case NAMES:
        if (loader->names != NULL) {
            loader->names[position - loader->begin[NAMES]] = (char)byte;
        }
        /* The last name must have an end. */
        return position == loader->end[NAMES] - 1 && byte != 0 ? SILIGRAD_EIMAGE : 0;
    case DATA:
        return take_code(loader);
    default:
        return 0;
    }
}

int siligrad_load(struct siligrad_loader *loader, const void *bytes, uint32_t count)
{
    const uint8_t *next = (const uint8_t *)bytes;

    if (loader == NULL || (bytes == NULL && count != 0)) {
        return SILIGRAD_EARGUMENT;
    }
    for (; count != 0 && loader->error == 0; count--) {
        uint32_t position = loader->position++;
        int is_crc = position - SILIGRAD_IMAGE_AT_CRC < 4;

        /* The CRC is that of the image with zeros in its place. */
        loader->crc = siligrad_access_crc(loader->crc, is_crc ? 0 : *next);
        loader->error = take(loader, position, *next++);
    }
    return loader->error;
}

/* Return what is wrong with an image that has come whole. */
static int judge(const struct siligrad_loader *loader)
{
    const struct siligrad *device = loader->device;

    if (loader->position < SILIGRAD_IMAGE_HEADER_BYTES || loader->position != loader->size) {
        return SILIGRAD_ESIZE;
    }
    if (~loader->crc != loader->crc_expected) {
        return SILIGRAD_ECRC;
    }
    if (loader->held != 0 || !loader->final || loader->lines_left != 0 || loader->words % SILIGRAD_LINE_WORDS != 0 ||
        loader->data_bytes != loader->end[DATA] - loader->begin[DATA] || device->tensor_count == 0) {
        return SILIGRAD_EIMAGE;
    }
    return 0;
}

int siligrad_load_end(struct siligrad_loader *loader)
{
    struct siligrad *device;

    if (loader == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    if (loader->error == 0) {
        loader->error = judge(loader);
    }
    if (loader->error == 0) {
        loader->error = siligrad_access_end(loader->device);
    }
    if (loader->error != 0) {
        return loader->error;
    }
    device = loader->device;
    device->lines = loader->words / SILIGRAD_LINE_WORDS;
    device->loaded = 1;
    loader->error = SILIGRAD_EARGUMENT; /* it is over */
    return 0;
}
