/* siligrad_load.c - the loader of images, docs/spec/image.md, in pieces of any size. See siligrad.h.
 *
 * Nothing that an image says is trusted: each number is compared with a bound before it is used, and each word that is
 * written lies in the program memory or in the words of a tensor that lies in its memory. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

/* What an image is made of, in order; the last one is of no use here. */
enum { HEADER, PROGRAM, TENSORS, NAMES, DATA, METADATA };

/* The word of an entry that holds the field at `offset`. */
#define AT(offset) ((offset) / 4u)

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
    loader->position = loader->section = loader->held = 0;
    loader->program_words = loader->lines_left = loader->instructions = 0;
    loader->tensors = loader->names_taken = loader->data_bytes = loader->data_taken = 0;
    loader->filling = loader->codes_left = loader->bank = 0;
    loader->left = SILIGRAD_IMAGE_HEADER_BYTES;
    loader->size = loader->crc = ~(uint32_t)0;
    loader->device = device;
    loader->mode = (uint32_t)mode;
    loader->tensor_room = tensor_room;
    loader->names = names;
    loader->name_room = name_room;
    device->tensor_count = 0;
    device->tensors = tensors;
    device->names = names;
    return 0;
}

/* Write a word, or do nothing where the accelerator is only attached to. */
static void put(const struct siligrad_loader *loader, uint32_t offset, uint32_t value)
{
    if (loader->mode == SILIGRAD_WRITE) {
        siligrad_access_put(loader->device, offset, value);
    }
}

/* Take the header. */
static int take_header(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const uint32_t *entry = loader->entry;
    uint32_t index, end = SILIGRAD_IMAGE_HEADER_BYTES;

    if (entry[0] != SILIGRAD_IMAGE_MAGIC_0 || entry[1] != SILIGRAD_IMAGE_MAGIC_1) {
        return SILIGRAD_EMAGIC;
    }
    if (entry[AT(SILIGRAD_IMAGE_AT_VERSION)] != (SILIGRAD_IMAGE_VERSION | SILIGRAD_IMAGE_HEADER_BYTES << 16)) {
        return SILIGRAD_EFORMAT;
    }
    loader->size = entry[AT(SILIGRAD_IMAGE_AT_SIZE)];
    if (loader->size > SILIGRAD_IMAGE_SIZE_MAX) {
        return SILIGRAD_ESIZE;
    }
    loader->crc_expected = entry[AT(SILIGRAD_IMAGE_AT_CRC)];
    if (entry[AT(SILIGRAD_IMAGE_AT_ARRAY)] != device->bits) {
        return SILIGRAD_ETARGET;
    }
    for (index = 0; index < 4; index++) {
        if (entry[AT(SILIGRAD_IMAGE_AT_X_DEPTH) + index] != device->depth[index]) {
            return SILIGRAD_ETARGET;
        }
    }
    device->steps = entry[AT(SILIGRAD_IMAGE_AT_STEPS)] & 0xffff;
    device->stride[SILIGRAD_X] = entry[AT(SILIGRAD_IMAGE_AT_X_STRIDE)] >> 16;
    device->stride[SILIGRAD_W] = entry[AT(SILIGRAD_IMAGE_AT_W_STRIDE)] & 0xffff;
    device->stride[SILIGRAD_E] = entry[AT(SILIGRAD_IMAGE_AT_E_STRIDE)] >> 16;
    device->cycles = entry[AT(SILIGRAD_IMAGE_AT_CYCLES)] | (uint64_t)entry[AT(SILIGRAD_IMAGE_AT_CYCLES) + 1] << 32;
    /* A limit of no cycles would be none. */
    if (device->cycles == 0) {
        return SILIGRAD_EIMAGE;
    }
    /* Each section begins at the next multiple of eight bytes, and the image ends with the last of them. */
    for (index = PROGRAM; index <= METADATA; index++) {
        const uint32_t *section = entry + AT(SILIGRAD_IMAGE_AT_PROGRAM_OFFSET) + 2 * (index - PROGRAM);
        uint32_t length = (section[1] + 7) & ~(uint32_t)7;

        if (section[0] != end || length > SILIGRAD_IMAGE_SIZE_MAX) {
            return SILIGRAD_EIMAGE;
        }
        loader->length[index] = length;
        end += length;
    }
    if (end - loader->size > 7) {
        return SILIGRAD_EIMAGE;
    }
    loader->name_bytes = entry[AT(SILIGRAD_IMAGE_AT_NAMES_LENGTH)];
    if (loader->names != NULL) {
        if (loader->name_bytes >= loader->name_room) {
            return SILIGRAD_EROOM;
        }
        loader->names[loader->name_bytes] = '\0'; /* the end of the last name, should it have none */
    }
    return 0;
}

static int take_program_word(struct siligrad_loader *loader)
{
    uint32_t word = loader->program_words++;

    if (word >= loader->device->depth[3] * SILIGRAD_LINE_WORDS) {
        return SILIGRAD_EIMAGE;
    }
    if (word % SILIGRAD_LINE_WORDS == 0) {
        if (loader->lines_left == 0) {
            loader->lines_left =
                SILIGRAD_HEADER_LINES + (loader->word >> SILIGRAD_SEGMENTS_BIT & SILIGRAD_SEGMENTS_MASK);
            loader->instructions++;
        }
        loader->lines_left--;
    }
    put(loader, SILIGRAD_REGION_PROGRAM + SILIGRAD_WORD * word, loader->word);
    return loader->device->error;
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
    const uint32_t *entry = loader->entry;
    struct siligrad_tensor *tensor = device->tensors + loader->tensors;
    uint32_t room, kind = entry[AT(SILIGRAD_TENSOR_AT_ROLE)], data = entry[AT(SILIGRAD_TENSOR_AT_DATA)];

    if (loader->tensors++ == loader->tensor_room) {
        return SILIGRAD_EROOM;
    }
    tensor->scale = entry[AT(SILIGRAD_TENSOR_AT_SCALE)] | (uint64_t)entry[AT(SILIGRAD_TENSOR_AT_SCALE) + 1] << 32;
    tensor->name = entry[AT(SILIGRAD_TENSOR_AT_NAME)];
    tensor->base = entry[AT(SILIGRAD_TENSOR_AT_BASE)];
    tensor->rows = entry[AT(SILIGRAD_TENSOR_AT_ROWS)];
    tensor->columns = entry[AT(SILIGRAD_TENSOR_AT_COLUMNS)];
    tensor->fraction = (int32_t)entry[AT(SILIGRAD_TENSOR_AT_FRACTION)];
    tensor->limit = (int32_t)entry[AT(SILIGRAD_TENSOR_AT_LIMIT)];
    tensor->role = (uint8_t)kind;
    tensor->memory = (uint8_t)(kind >> 8);
    tensor->flags = (uint8_t)(kind >> 16);
    tensor->loaded = data != SILIGRAD_IMAGE_NO_DATA;
    if (tensor->role > SILIGRAD_OUTPUT || tensor->memory > SILIGRAD_E ||
        kind >> 16 > (SILIGRAD_SIGN | SILIGRAD_MAGNITUDE | SILIGRAD_MOVES) ||
        tensor->name >= loader->name_bytes || (uint32_t)tensor->limit >> ((device->bits >> 24) - 1) != 0) {
        return SILIGRAD_EIMAGE;
    }
    /* It must lie in its memory, whole. */
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
        if (data != loader->data_bytes) {
            return SILIGRAD_EIMAGE;
        }
        loader->data_bytes += 2 * tensor->words * device->array;
        if (loader->data_bytes > loader->length[DATA]) {
            return SILIGRAD_EIMAGE;
        }
    }
    return 0;
}

/* Take the two codes in a word. */
static int take_codes(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    uint32_t codes = loader->word, index;

    for (index = 0; index < 2 && loader->data_taken != loader->data_bytes; index++) {
        int32_t code = siligrad_access_code(codes);
        uint32_t offset = loader->offset;

        codes >>= 16;
        loader->data_taken += 2;
        if (loader->codes_left == 0) {
            const struct siligrad_tensor *tensor;

            /* The next tensor that has data; there is one, for not all data were taken. */
            do {
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
        put(loader, offset, (uint32_t)code);
        offset += SILIGRAD_WORD;
        if (++loader->bank == device->array) {
            loader->bank = 0;
            offset = siligrad_access_next(device, offset);
        }
        loader->offset = offset;
    }
    return device->error;
}

static int take_entry(struct siligrad_loader *loader)
{
    uint32_t index;

    switch (loader->section) {
    case HEADER:
        return take_header(loader);
    case PROGRAM:
        return take_program_word(loader);
    case TENSORS:
        return take_tensor(loader);
    case NAMES:
        for (index = 0; index < 32 && loader->names != NULL && loader->names_taken < loader->name_bytes; index += 8) {
            loader->names[loader->names_taken++] = (char)(loader->word >> index);
        }
        return 0;
    case DATA:
        return take_codes(loader);
    default:
        return 0;
    }
}

/* Take the next word. All sections are whole words, with what follows them up to the next one. */
static int take(struct siligrad_loader *loader)
{
    static const uint8_t entry_words[] = {SILIGRAD_IMAGE_HEADER_BYTES / 4, 1, SILIGRAD_TENSOR_BYTES / 4, 1, 1, 1};

    loader->entry[loader->held++] = loader->word;
    if (loader->held == entry_words[loader->section]) {
        int error = take_entry(loader);

        if (error != 0) {
            return error;
        }
        loader->held = 0;
    }
    loader->left -= 4;
    while (loader->left == 0 && loader->section != METADATA) {
        if (loader->held != 0) {
            return SILIGRAD_EIMAGE;
        }
        loader->left = loader->length[++loader->section];
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
        uint8_t is_crc = loader->position - SILIGRAD_IMAGE_AT_CRC < 4;

        if (loader->position == loader->size) {
            return loader->error = SILIGRAD_ESIZE;
        }
        /* The CRC is that of the image with zeros in its place; a factor is smaller than a branch. */
        loader->crc = siligrad_access_crc(loader->crc, (uint8_t)(*next * !is_crc));
        loader->word = loader->word >> 8 | (uint32_t)*next++ << 24;
        if (++loader->position % 4 == 0) {
            loader->error = take(loader);
        }
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
    if (loader->held != 0 || loader->lines_left != 0 || loader->program_words % SILIGRAD_LINE_WORDS != 0 ||
        loader->data_taken != loader->data_bytes || loader->tensors == 0) {
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
