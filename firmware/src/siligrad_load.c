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

void siligrad_access_fail(struct siligrad *device, int error)
{
    if (device->error == 0) {
        device->error = error > 0 || error < SILIGRAD_ERROR_LAST ? SILIGRAD_EIO : error;
    }
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
    loader->device = device;
    loader->mode = (uint32_t)mode;
    loader->tensor_room = tensor_room;
    loader->filling = tensors;
    loader->names = names;
    loader->name_room = name_room;
    loader->position = loader->section = loader->held = 0;
    loader->words_left = loader->instructions = loader->tensors = 0;
    loader->offset = loader->stop = loader->bank = 0;
    loader->end[HEADER] = SILIGRAD_IMAGE_HEADER_BYTES;
    loader->size = loader->crc = ~(uint32_t)0;
    loader->error = siligrad_access_begin(device, tensors);
    if (loader->error == 0) {
        device->tensor_count = 0;
        device->tensors = loader->filling;
        device->names = loader->names;
    }
    return loader->error;
}

/* Write a word, or do nothing where the accelerator is only attached to. */
static int put(const struct siligrad_loader *loader, uint32_t offset, uint32_t value)
{
    if (loader->mode == SILIGRAD_WRITE) {
        siligrad_access_put(loader->device, offset, value);
    }
    return loader->device->error;
}

/* Take the header. */
static int take_header(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const uint32_t *entry = loader->entry;
    uint32_t index, end = SILIGRAD_IMAGE_HEADER_BYTES, size = entry[AT(SILIGRAD_IMAGE_AT_SIZE)];

    if (entry[0] != SILIGRAD_IMAGE_MAGIC_0 || entry[1] != SILIGRAD_IMAGE_MAGIC_1) {
        return SILIGRAD_EMAGIC;
    }
    if (entry[AT(SILIGRAD_IMAGE_AT_VERSION)] != (SILIGRAD_IMAGE_VERSION | SILIGRAD_IMAGE_HEADER_BYTES << 16)) {
        return SILIGRAD_EFORMAT;
    }
    if (size > SILIGRAD_IMAGE_SIZE_MAX) {
        return SILIGRAD_ESIZE;
    }
    loader->size = size;
    loader->crc_expected = entry[AT(SILIGRAD_IMAGE_AT_CRC)];
    for (index = SILIGRAD_WIDTHS; index <= SILIGRAD_LINES; index++) {
        if (entry[AT(SILIGRAD_IMAGE_AT_ARRAY) + index] != device->built[index]) {
            return SILIGRAD_ETARGET;
        }
    }
    device->steps = device->run[0] = entry[AT(SILIGRAD_IMAGE_AT_STEPS)] & 0xffff;
    device->run[1] = entry[AT(SILIGRAD_IMAGE_AT_X_STRIDE)] >> 16;
    device->run[2] = entry[AT(SILIGRAD_IMAGE_AT_W_STRIDE)] & 0xffff;
    device->run[3] = entry[AT(SILIGRAD_IMAGE_AT_E_STRIDE)] >> 16;
    device->run[4] = entry[AT(SILIGRAD_IMAGE_AT_CYCLES)];
    device->run[5] = entry[AT(SILIGRAD_IMAGE_AT_CYCLES) + 1];
    device->cycles = device->run[4] | (uint64_t)device->run[5] << 32;
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
        end += length;
        loader->end[index] = end;
    }
    if (end - size > 7) {
        return SILIGRAD_EIMAGE;
    }
    loader->end[METADATA] = 0; /* nothing follows it */
    loader->data_end = loader->end[NAMES];
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
    uint32_t word = loader->word, left = loader->words_left;
    uint32_t offset = loader->position - SILIGRAD_IMAGE_HEADER_BYTES - SILIGRAD_WORD;

    if (offset >= loader->device->built[SILIGRAD_LINES] * SILIGRAD_LINE_WORDS * SILIGRAD_WORD) {
        return SILIGRAD_EIMAGE;
    }
    if (left == 0) {
        uint32_t segments = word >> SILIGRAD_SEGMENTS_BIT & SILIGRAD_SEGMENTS_MASK;

        left = (SILIGRAD_HEADER_LINES + segments) * SILIGRAD_LINE_WORDS;
        loader->instructions++;
    }
    loader->words_left = left - 1;
    return put(loader, SILIGRAD_REGION_PROGRAM + offset, word);
}

static int take_tensor(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    const uint32_t *entry = loader->entry;
    const uint32_t n = device->array, tile_bytes = 2 * n * n;
    struct siligrad_tensor *tensor = device->tensors + loader->tensors;
    uint32_t room, words = 0, row = 0, kind = entry[AT(SILIGRAD_TENSOR_AT_ROLE)];
    uint32_t data = entry[AT(SILIGRAD_TENSOR_AT_DATA)], data_end = loader->data_end;

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
        tensor->name >= loader->name_bytes || tensor->rows == 0 || tensor->columns == 0 ||
        (uint32_t)tensor->limit >> ((device->built[SILIGRAD_WIDTHS] >> 24) - 1) != 0) {
        return SILIGRAD_EIMAGE;
    }
    /* It must lie in its memory, whole. Whatever the sizes, counting goes no further than the depth. */
    room = device->built[SILIGRAD_DEPTHS + tensor->memory];
    do {
        uint32_t column = 0;

        do {
            words += n;
            data_end += tile_bytes;
            if (words > room) {
                return SILIGRAD_EIMAGE;
            }
            column += n;
        } while (column < tensor->columns);
        row += n;
    } while (row < tensor->rows);
    tensor->words = words;
    room -= words;
    if (tensor->base > room) {
        return SILIGRAD_EIMAGE;
    }
    room -= tensor->base;
    if (tensor->loaded) {
        /* Data lie in the order of their tensors, without gaps. */
        if (data + loader->end[NAMES] != loader->data_end || data_end > loader->end[DATA]) {
            return SILIGRAD_EIMAGE;
        }
        loader->data_end = data_end;
    }
    /* Factors of 16 bits: the product cannot wrap. */
    if ((tensor->flags & SILIGRAD_MOVES) != 0 && (device->steps - 1) * device->run[1 + tensor->memory] > room) {
        return SILIGRAD_EIMAGE;
    }
    return 0;
}

/* Take the code in the last two bytes. */
static int take_code(struct siligrad_loader *loader)
{
    struct siligrad *device = loader->device;
    int32_t code = (int32_t)(loader->word >> 16 ^ 0x8000) - 0x8000;
    int32_t limit;
    uint32_t offset = loader->offset;

    if (loader->position > loader->data_end) {
        return 0;
    }
    if (offset == loader->stop) {
        const struct siligrad_tensor *tensor;

        /* The next tensor that has data; there is one, for not all data were taken. */
        do {
            tensor = loader->filling++;
        } while (!tensor->loaded);
        offset = siligrad_access_offset(device, tensor->memory, tensor->base);
        loader->stop = offset + (tensor->words << device->shift);
    }
    limit = loader->filling[-1].limit;
    if (code > limit || code < -limit) {
        return SILIGRAD_EIMAGE;
    }
    loader->offset = offset + SILIGRAD_WORD;
    if (++loader->bank == device->array) {
        loader->bank = 0;
        loader->offset += device->gap;
    }
    return put(loader, offset, (uint32_t)code);
}

/* Take a byte of the names. */
static int take_name_byte(struct siligrad_loader *loader)
{
    uint32_t at = loader->position - 1 - loader->end[TENSORS];

    if (loader->names != NULL && at < loader->name_bytes) {
        loader->names[at] = (char)(loader->word >> 24);
    }
    return 0;
}

/* Take what has come whole. */
static int take(struct siligrad_loader *loader)
{
    if (loader->section == HEADER) {
        return take_header(loader);
    }
    if (loader->section == PROGRAM) {
        return take_program_word(loader);
    }
    if (loader->section == TENSORS) {
        return take_tensor(loader);
    }
    if (loader->section == NAMES) {
        return take_name_byte(loader);
    }
    return loader->section == DATA ? take_code(loader) : 0;
}

int siligrad_load(struct siligrad_loader *loader, const void *bytes, uint32_t count)
{
    /* Bytes of what can be taken, by section. */
    static const uint8_t sizes[] = {SILIGRAD_IMAGE_HEADER_BYTES, SILIGRAD_WORD, SILIGRAD_TENSOR_BYTES, 1, 2, 1};
    const uint8_t *next = (const uint8_t *)bytes;

    if (loader == NULL || bytes == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    for (; count != 0 && loader->error == 0; count--) {
        uint32_t byte = *next++, counts = loader->position - SILIGRAD_IMAGE_AT_CRC >= SILIGRAD_WORD;
        int error = SILIGRAD_ESIZE;

        /* The CRC is that of the image with zeros in its place. */
        loader->crc = siligrad_access_crc(loader->crc, (uint8_t)(byte & (0 - counts)));
        /* A section that ends within a tensor never does: what follows is taken for tensors, and siligrad_load_end
         * finds the metadata missing. */
        while (loader->position == loader->end[loader->section] && loader->held == 0) {
            loader->section++;
        }
        loader->word = loader->word >> 8 | byte << 24;
        loader->entry[loader->held++ / SILIGRAD_WORD] = loader->word;
        if (loader->position++ != loader->size) {
            error = 0;
            if (loader->held == sizes[loader->section]) {
                loader->held = 0;
                error = take(loader);
            }
        }
        loader->error = error;
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
    if (loader->section != METADATA || loader->words_left != 0 || loader->tensors == 0) {
        return SILIGRAD_EIMAGE;
    }
    return siligrad_access_end(loader->device, 0);
}

int siligrad_load_end(struct siligrad_loader *loader)
{
    int error;

    if (loader == NULL) {
        return SILIGRAD_EARGUMENT;
    }
    error = loader->error;
    loader->error = SILIGRAD_EARGUMENT; /* it is over */
    if (error == 0) {
        error = judge(loader);
    }
    if (error == 0) {
        loader->device->instructions = loader->instructions;
        loader->device->tensor_count = loader->tensors;
    }
    return error;
}
