/* fuzz_link.c - replies from strangers: the host's end of the serial link, for libFuzzer.
 *
 * The input is what arrives on the line. A byte of 255 stands for a moment in which nothing comes; a byte of 254, for a
 * whole reply to the request that is waited for, of as many words as the byte behind it says, with the status behind
 * that one. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "siligrad_constants.h"
#include "siligrad_link.h"

enum { SILENCE = 255, REPLY = 254, RECEIVED_MAX = 1 << 20 };

struct wire {
    const uint8_t *data;
    size_t size, at;
    struct siligrad_link *link;
    uint8_t reply[512];
    size_t reply_at, reply_end;
    uint32_t received, sent;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) {
        abort();
    }
}

static uint8_t next(struct wire *wire)
{
    return wire->at < wire->size ? wire->data[wire->at++] : 0;
}

/* Make a frame of a reply that is right but for what the input says. */
static void make_reply(struct wire *wire)
{
    uint32_t words = next(wire), count = 0, crc = ~(uint32_t)0, at, bit;
    uint8_t body[16 + 4 * 256];

    words = words % 72;
    memcpy(body, wire->link->request, 8); /* session and number */
    count = 8;
    body[count++] = next(wire);
    for (at = 0; at < 4 * words; at++) {
        body[count++] = (uint8_t)(at % 7);
    }
    for (at = 0; at < count; at++) {
        crc ^= body[at];
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
        }
    }
    for (at = 0; at < 4; at++) {
        body[count++] = (uint8_t)(~crc >> 8 * at);
    }
    /* There is a zero at least every seven bytes of words, so no block is full. */
    wire->reply_at = 0;
    wire->reply_end = 1;
    bit = 0; /* where the code of this block is */
    for (at = 0; at < count; at++) {
        if (body[at] == 0) {
            wire->reply[bit] = (uint8_t)(wire->reply_end - bit);
            bit = (uint32_t)wire->reply_end++;
        } else {
            wire->reply[wire->reply_end++] = body[at];
        }
    }
    wire->reply[bit] = (uint8_t)(wire->reply_end - bit);
    wire->reply[wire->reply_end++] = 0;
}

static int send_bytes(void *context, const uint8_t *bytes, uint32_t count)
{
    struct wire *wire = (struct wire *)context;

    require(count >= 2 && bytes[0] == 0 && bytes[count - 1] == 0 && memchr(bytes + 1, 0, count - 2) == NULL);
    require(count <= sizeof wire->link->frame);
    wire->sent++;
    return 0;
}

static int receive_byte(void *context, uint8_t *byte)
{
    struct wire *wire = (struct wire *)context;

    require(++wire->received < RECEIVED_MAX);
    if (wire->reply_at < wire->reply_end) {
        *byte = wire->reply[wire->reply_at++];
        return 1;
    }
    if (wire->at == wire->size) {
        return 0;
    }
    *byte = next(wire);
    if (*byte == SILENCE) {
        return 0;
    }
    if (*byte == REPLY) {
        make_reply(wire);
        *byte = 0;
    }
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Of its own, so that a byte too many is seen. */
    struct siligrad_link *link = (struct siligrad_link *)malloc(sizeof *link);
    struct wire wire = {data, size, 0, link, {0}, 0, 0, 0, 0};
    struct siligrad_line line = {&wire, send_bytes, receive_byte};
    struct siligrad_bus bus;
    uint32_t words[SILIGRAD_LINK_WORDS] = {0}, value, round;
    int error;

    require(link != NULL);
    error = siligrad_link_open(link, &line, 1, 2);
    for (round = 0; round < 4 && error == 0; round++) {
        uint32_t count = 1 + next(&wire) % SILIGRAD_LINK_WORDS, at;

        error = siligrad_link_read(link, SILIGRAD_REGION_X / 4, words, count);
        if (error == 0) {
            error = siligrad_link_write(link, SILIGRAD_REGION_X / 4, words, count);
        }
        siligrad_link_bus(link, &bus);
        for (at = 0; at < 70 && error == 0; at++) {
            error = bus.write32(bus.context, SILIGRAD_REGION_W + 4 * at, at);
        }
        for (at = 0; at < 70 && error == 0; at++) {
            error = bus.read32(bus.context, SILIGRAD_REGION_W + 4 * at, &value);
        }
    }
    require(error <= 0 && error >= SILIGRAD_ERROR_LAST);
    free(link);
    return 0;
}
