/* siligrad_load.c - the loader of images, docs/spec/image.md, in pieces of any size. See siligrad.h.
 *
 * Nothing that an image says is trusted: each number is compared with a bound before it is used, and each word that is
 * written lies in the program memory or in the words of a tensor that lies in its memory. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

/* The sections, in order; the last one is of no use here. */
enum { PROGRAM, TENSORS, NAMES, DATA, SECTIONS = SILIGRAD_IMAGE_SECTIONS };

static uint32_t little_32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

int siligrad_access_fail(struct siligrad *device, int error)
{
    if (device->error == 0) {
        device->error = error;
    }
    return device->error;
}

uint32_t siligrad_access_crc(uint32_t crc, uint8_t byte)
{
    uint32_t bit;

    /* The CRC of IEEE 802.3. A table would be faster, and larger than the loop. */
    crc ^= byte;
    for (bit = 0; bit < 8; bit++) {
        crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
    }
    return crc;
}

int siligrad_load_begin(struct siligrad_loader *loader, struct siligrad *device, enum siligrad_load_mode mode,
                        struct siligrad_tensor *tensors, uint32_t tensor_room, char *names, uint32_t name_room)
{
    if (loader == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    loader->error = siligrad_access_begin(device, tensors);
    if (loader->error != 0) {
        return loader->error;
    }
    loader->position = loader->section = loader->left = loader->held = 0;
    loader->words = loader->lines_left = loader->instructions = 0;
    loader->tensors = loader->data_bytes = loader->filling = loader->codes_left = loader->bank = 0;
    loader->device = device;
    loader->mode = (uint32_t)mode;
    loader->tensor_room = tensor_room;
    loader->names = names;
    loader->name_room = name_room;
    loader->crc = ~(uint32_t)0;
    device->tensor_count = 0;
    device->tensors = tensors;
    device->names = names;
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

/* Return the next multiple of eight. */
static uint32_t align(uint32_t position)
{
    return (position + 7) & ~(uint32_t)7;
}

/* Take the header, whole in `bytes`. */
static int take_header(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const uint8_t *bytes = loader->bytes;
    uint32_t index, end = SILIGRAD_IMAGE_HEADER_BYTES;

    if (little_32(bytes) != SILIGRAD_IMAGE_MAGIC_0 || little_32(bytes + 4) != SILIGRAD_IMAGE_MAGIC_1) {
        return SILIGRAD_EMAGIC;
    }
    if (little_32(bytes + SILIGRAD_IMAGE_AT_VERSION) !=
        (SILIGRAD_IMAGE_VERSION | SILIGRAD_IMAGE_HEADER_BYTES << 16)) {
        return SILIGRAD_EFORMAT;
    }
    loader->size = little_32(bytes + SILIGRAD_IMAGE_AT_SIZE);
    if (loader->size > SILIGRAD_IMAGE_SIZE_MAX) {
        return SILIGRAD_ESIZE;
    }
    loader->crc_expected = little_32(bytes + SILIGRAD_IMAGE_AT_CRC);
    if (little_32(bytes + SILIGRAD_IMAGE_AT_ARRAY) != device->bits) {
        return SILIGRAD_ETARGET;
    }
    for (index = 0; index < 4; index++) {
        if (little_32(bytes + SILIGRAD_IMAGE_AT_X_DEPTH + 4 * index) != device->depth[index]) {
            return SILIGRAD_ETARGET;
        }
    }
    /* Two fields of 16 bits in each of two words. */
    index = little_32(bytes + SILIGRAD_IMAGE_AT_STEPS);
    device->steps = index & 0xffff;
    device->stride[SILIGRAD_X] = index >> 16;
    index = little_32(bytes + SILIGRAD_IMAGE_AT_W_STRIDE);
    device->stride[SILIGRAD_W] = index & 0xffff;
    device->stride[SILIGRAD_E] = index >> 16;
    device->cycles = little_32(bytes + SILIGRAD_IMAGE_AT_CYCLES) |
                     (uint64_t)little_32(bytes + SILIGRAD_IMAGE_AT_CYCLES + 4) << 32;
    /* A limit of no cycles would be none. */
    if (device->cycles == 0) {
        return SILIGRAD_EIMAGE;
    }
    for (index = 0; index < SECTIONS; index++) {
        const uint8_t *section = bytes + SILIGRAD_IMAGE_AT_PROGRAM_OFFSET + 8 * index;

        /* Each begins at the next multiple of eight bytes. */
        loader->length[index] = little_32(section + 4);
        if (little_32(section) != end || loader->length[index] > loader->size) {
            return SILIGRAD_EIMAGE;
        }
        end = align(end + loader->length[index]);
    }
    if (end != align(loader->size)) {
        return SILIGRAD_EIMAGE;
    }
    if (loader->names != NULL) {
        if (loader->length[NAMES] >= loader->name_room) {
            return SILIGRAD_EROOM;
        }
        loader->names[loader->length[NAMES]] = '\0'; /* the end of the last name, should it have none */
    }
    return 0;
}

static int take_program_word(struct siligrad_loader *loader)
{
    uint32_t value = little_32(loader->bytes), word = loader->words++;

    if (word >= loader->device->depth[3] * SILIGRAD_LINE_WORDS) {
        return SILIGRAD_EIMAGE;
    }
    if (word % SILIGRAD_LINE_WORDS == 0) {
        if (loader->lines_left == 0) {
            loader->lines_left = SILIGRAD_HEADER_LINES + (value >> SILIGRAD_SEGMENTS_BIT & SILIGRAD_SEGMENTS_MASK);
            loader->instructions++;
        }
        loader->lines_left--;
    }
    return put(loader, SILIGRAD_REGION_PROGRAM + SILIGRAD_WORD * word, value);
}

/* Return the words that a tensor takes in each bank; 0 if they are none, or more than `depth`. */
static uint32_t count_words(const struct siligrad_tensor *tensor, uint32_t array, uint32_t depth)
{
    uint32_t row_of_tiles = 0, words = 0, at;

    /* By counting: some processors cannot divide. Whatever the sizes, neither loop goes further than the depth. */
    for (at = 0; at < tensor->columns && row_of_tiles <= depth; at += array) {
        row_of_tiles += array;
    }
    for (at = 0; at < tensor->rows && words <= depth && row_of_tiles != 0; at += array) {
        words += row_of_tiles;
    }
    return words <= depth ? words : 0;
}

static int take_tensor(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const uint8_t *bytes = loader->bytes;
    struct siligrad_tensor *tensor = device->tensors + loader->tensors;
    uint32_t data = little_32(bytes + SILIGRAD_TENSOR_AT_DATA), room;

    if (loader->tensors == loader->tensor_room) {
        return SILIGRAD_EROOM;
    }
    loader->tensors++;
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
    tensor->flags = bytes[SILIGRAD_TENSOR_AT_FLAGS];
    tensor->loaded = data != SILIGRAD_IMAGE_NO_DATA;
    if (tensor->role > SILIGRAD_OUTPUT || tensor->memory > SILIGRAD_E ||
        tensor->flags > (SILIGRAD_SIGN | SILIGRAD_MAGNITUDE | SILIGRAD_MOVES) ||
        tensor->name >= loader->length[NAMES] ||
        (uint32_t)tensor->limit >> ((device->bits >> 24) - 1) != 0) {
        return SILIGRAD_EIMAGE;
    }
    /* It must lie in its memory, whole, and begin where a tile may. */
    room = device->depth[tensor->memory];
    tensor->words = count_words(tensor, device->array, room);
    room -= tensor->words;
    if (tensor->words == 0 || tensor->base > room) {
        return SILIGRAD_EIMAGE;
    }
    room -= tensor->base;
    /* Factors of 16 bits: the product cannot wrap. */
    if ((tensor->flags & SILIGRAD_MOVES) != 0 && (device->steps - 1) * device->stride[tensor->memory] > room) {
        return SILIGRAD_EIMAGE;
    }
    if (tensor->loaded) {
        /* Data lie in the order of their tensors, without gaps. */
        if (data != loader->data_bytes || (tensor->flags & SILIGRAD_MOVES) != 0) {
            return SILIGRAD_EIMAGE;
        }
        loader->data_bytes += 2 * tensor->words * device->array;
        if (loader->data_bytes > loader->length[DATA]) {
            return SILIGRAD_EIMAGE;
        }
    }
    return 0;
}

static int take_code(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    int32_t code = siligrad_access_code(little_32(loader->bytes));
    uint32_t offset = loader->offset;

    if (loader->codes_left == 0) {
        const struct siligrad_tensor *tensor;

        /* The next tensor that has data. */
        do {
            if (loader->filling == loader->tensors) {
                return SILIGRAD_EIMAGE;
            }
            tensor = device->tensors + loader->filling++;
        } while (!tensor->loaded);
        loader->limit = tensor->limit;
        loader->codes_left = tensor->words * device->array;
        offset = siligrad_access_offset(device, tensor->memory, tensor->base);
    }
    loader->codes_left--;
    if (code > loader->limit || code < -loader->limit) {
        return SILIGRAD_EIMAGE;
    }
    loader->offset = offset + SILIGRAD_WORD;
    if (++loader->bank == device->array) {
        loader->bank = 0;
        loader->offset = siligrad_access_next(device, loader->offset);
    }
    return put(loader, offset, (uint32_t)code);
}

/* Take the next byte, of which the CRC is known. */
static int take(struct siligrad_loader *loader, uint32_t position, uint8_t byte)
{
    static const uint8_t entry_bytes[SECTIONS] = {4, SILIGRAD_TENSOR_BYTES, 1, 2, 1};
    uint32_t section;

    if (position < SILIGRAD_IMAGE_HEADER_BYTES) {
        loader->bytes[position] = byte;
        return position == SILIGRAD_IMAGE_HEADER_BYTES - 1 ? take_header(loader) : 0;
    }
    if (position >= loader->size) {
        return SILIGRAD_ESIZE;
    }
    while (loader->left == 0) {
        if (position % 8 != 0) {
            return 0; /* between sections */
        }
        if (loader->held != 0) {
            return SILIGRAD_EIMAGE;
        }
        loader->left = loader->length[loader->section++];
    }
    loader->left--;
    loader->bytes[loader->held++] = byte;
    section = loader->section - 1;
    if (loader->held < entry_bytes[section]) {
        return 0;
    }
    loader->held = 0;
    if (section == PROGRAM) {
        return take_program_word(loader);
    }
    if (section == TENSORS) {
        return take_tensor(loader);
    }
    if (section == DATA) {
        return take_code(loader);
    }
    if (section == NAMES && loader->names != NULL) {
        loader->names[loader->length[NAMES] - 1 - loader->left] = (char)byte;
    }
    return 0;
}

int siligrad_load(struct siligrad_loader *loader, const void *bytes, uint32_t count)
{
    const uint8_t *next = (const uint8_t *)bytes;

    if (loader == NULL || bytes == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    for (; count != 0 && loader->error == 0; count--) {
        uint32_t position = loader->position++;
        uint8_t is_crc = position - SILIGRAD_IMAGE_AT_CRC < 4;

        /* The CRC is that of the image with zeros in its place; a factor is smaller than a branch. */
        loader->crc = siligrad_access_crc(loader->crc, (uint8_t)(*next * !is_crc));
        loader->error = take(loader, position, *next++);
    }
    return loader->error;
}

/* Return what is wrong with an image that has come whole. */
static int judge(const struct siligrad_loader *loader)
{
    if (loader->position < SILIGRAD_IMAGE_HEADER_BYTES) {
        return SILIGRAD_EMAGIC;
    }
    if (loader->position != loader->size) {
        return SILIGRAD_ESIZE;
    }
    if (~loader->crc != loader->crc_expected) {
        return SILIGRAD_ECRC;
    }
    if (loader->lines_left != 0 ||
        loader->words % SILIGRAD_LINE_WORDS != 0 || loader->data_bytes != loader->length[DATA] ||
        loader->tensors == 0) {
        return SILIGRAD_EIMAGE;
    }
    return siligrad_access_end(loader->device);
}

int siligrad_load_end(struct siligrad_loader *loader)
{
    int error;

    if (loader == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    error = loader->error != 0 ? loader->error : judge(loader);
    if (error == 0) {
        loader->device->instructions = loader->instructions;
        loader->device->tensor_count = loader->tensors;
        loader->error = SILIGRAD_EARGUMENT; /* it is over */
    } else {
        loader->error = error;
    }
    return error;
}
