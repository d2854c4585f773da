/* siligrad_link.c - the host's end of the serial link of docs/spec/link.md. See siligrad_link.h. */

#include "siligrad_link.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

/* Bytes that may come in answer to a request before it is sent again, whatever they are. */
#define PATIENCE_BYTES 2048u

#define WORDS_AT SILIGRAD_LINK_REQUEST_BYTES
#define REPLY_MAX (SILIGRAD_LINK_REPLY_BYTES + 4u * SILIGRAD_LINK_WORDS_MAX + SILIGRAD_LINK_CRC_BYTES)

/* The header promises what the specification has. */
typedef char words_are_those_of_the_specification[SILIGRAD_LINK_WORDS == SILIGRAD_LINK_WORDS_MAX ? 1 : -1];

static void store_32(uint8_t *bytes, uint32_t value)
{
    uint32_t index;

    for (index = 0; index < 4; index++) {
        bytes[index] = (uint8_t)(value >> 8 * index);
    }
}

static uint32_t fetch_32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t crc_of(const uint8_t *bytes, uint32_t count)
{
    uint32_t crc = ~(uint32_t)0;

    while (count-- != 0) {
        crc = siligrad_access_crc(crc, *bytes++);
    }
    return ~crc;
}

/* Send the first `count` bytes of the request as a frame: COBS-encoded, between zeros. The zero in front ends what a
 * disturbance has left. */
static int send_request(struct siligrad_link *link, uint32_t count)
{
    uint8_t *frame = link->frame;
    uint32_t index, code_at = 1, end = 2;

    frame[0] = 0;
    for (index = 0; index < count; index++) {
        if (link->request[index] != 0) {
            frame[end++] = link->request[index];
        }
        /* A full block at the very end says by itself that nothing follows. */
        if (link->request[index] == 0 || (end - code_at == 255 && index + 1 < count)) {
            frame[code_at] = (uint8_t)(end - code_at);
            code_at = end++;
        }
    }
    frame[code_at] = (uint8_t)(end - code_at);
    frame[end++] = 0;
    return link->line.send(link->line.context, frame, end) == 0 ? 0 : SILIGRAD_EIO;
}

/* Receive the next whole frame, decoded, into `frame`; return its bytes without the CRC, 0 if none comes, or an error.
 * `patience` is counted down by what comes. */
static int receive_reply(struct siligrad_link *link, uint32_t *patience)
{
    /* Bytes so far; bytes to come of this block; whether it ends with a zero if another one follows; whether this can
     * still be a reply. */
    uint32_t count = 0, left = 0, zero = 0, sound = 1;
    uint8_t byte;

    while (*patience != 0) {
        int came = link->line.receive(link->line.context, &byte);

        if (came <= 0) {
            return came == 0 ? 0 : SILIGRAD_EIO;
        }
        --*patience;
        if (byte == 0) {
            uint32_t body = count - SILIGRAD_LINK_CRC_BYTES;

            if (sound && left == 0 && count >= SILIGRAD_LINK_REPLY_BYTES + SILIGRAD_LINK_CRC_BYTES &&
                crc_of(link->frame, body) == fetch_32(link->frame + body)) {
                return (int)body;
            }
            link->dropped += count != 0 || left != 0;
            count = left = zero = 0;
            sound = 1;
            continue;
        }
        if (left != 0) {
            left--;
        } else {
            uint32_t code = byte;

            left = code - 1;
            byte = 0;
            if (!zero) {
                zero = code != 255;
                continue;
            }
            zero = code != 255;
        }
        if (count < REPLY_MAX) {
            link->frame[count++] = byte;
        } else {
            sound = 0;
        }
    }
    return 0;
}

/* Send a request until it is answered; its words, if it has some, are in place. Those of the reply stay in `frame`. */
static int ask(struct siligrad_link *link, uint32_t operation, uint32_t address, uint32_t count)
{
    uint8_t *request = link->request;
    uint32_t attempt, length = WORDS_AT + (operation == SILIGRAD_LINK_WRITE ? 4 * count : 0);
    uint32_t wanted = SILIGRAD_LINK_REPLY_BYTES + (operation == SILIGRAD_LINK_READ ? 4 * count : 0);

    link->pending = link->ahead = 0;
    if (operation != SILIGRAD_LINK_HELLO) {
        link->number++;
    }
    store_32(request + SILIGRAD_LINK_REQUEST_AT_SESSION, link->session);
    store_32(request + SILIGRAD_LINK_REQUEST_AT_NUMBER, link->number);
    request[SILIGRAD_LINK_REQUEST_AT_OPERATION] = (uint8_t)operation;
    request[SILIGRAD_LINK_REQUEST_AT_COUNT] = (uint8_t)(count - 1);
    store_32(request + SILIGRAD_LINK_REQUEST_AT_ADDRESS, address);
    store_32(request + length, crc_of(request, length));
    for (attempt = 0; attempt < link->attempts; attempt++) {
        uint32_t patience = PATIENCE_BYTES;
        int came = send_request(link, length + SILIGRAD_LINK_CRC_BYTES);

        link->resent += attempt != 0;
        if (came != 0) {
            return came;
        }
        while ((came = receive_reply(link, &patience)) > 0) {
            const uint8_t *reply = link->frame;
            uint8_t status = reply[SILIGRAD_LINK_REPLY_AT_STATUS];

            if (fetch_32(reply + SILIGRAD_LINK_REPLY_AT_SESSION) != link->session ||
                fetch_32(reply + SILIGRAD_LINK_REPLY_AT_NUMBER) != link->number || status < SILIGRAD_LINK_DONE) {
                link->dropped++; /* of a request that was sent twice; or one that came back */
                continue;
            }
            if (status == SILIGRAD_LINK_OTHER_SESSION) {
                return SILIGRAD_ESESSION;
            }
            if (status == SILIGRAD_LINK_OTHER_NUMBER) {
                return SILIGRAD_ENUMBER;
            }
            return status == SILIGRAD_LINK_DONE && (uint32_t)came == wanted ? 0 : SILIGRAD_EPROTOCOL;
        }
        if (came < 0) {
            return came;
        }
    }
    return SILIGRAD_ENOANSWER;
}

int siligrad_link_open(struct siligrad_link *link, const struct siligrad_line *line, uint32_t session,
                       uint32_t attempts)
{
    if (link == NULL || line == NULL || line->send == NULL || line->receive == NULL || session == 0 || attempts == 0) {
        return SILIGRAD_EARGUMENT;
    }
    link->line.context = line->context;
    link->line.send = line->send;
    link->line.receive = line->receive;
    link->attempts = attempts;
    link->session = session;
    link->number = 0;
    link->resent = link->dropped = 0;
    link->expected_address = ~(uint32_t)0;
    return ask(link, SILIGRAD_LINK_HELLO, 0, 1);
}

/* Write what was gathered. */
static int flush(struct siligrad_link *link)
{
    return link->pending == 0 ? 0 : ask(link, SILIGRAD_LINK_WRITE, link->pending_address, link->pending);
}

int siligrad_link_read(struct siligrad_link *link, uint32_t address, uint32_t *words, uint32_t count)
{
    uint32_t index;
    int error;

    if (link == NULL || words == NULL || count == 0 || count > SILIGRAD_LINK_WORDS) {
        return SILIGRAD_EARGUMENT;
    }
    error = flush(link);
    if (error == 0) {
        error = ask(link, SILIGRAD_LINK_READ, address, count);
    }
    for (index = 0; index < count && error == 0; index++) {
        words[index] = fetch_32(link->frame + SILIGRAD_LINK_REPLY_BYTES + 4 * index);
    }
    return error;
}

int siligrad_link_write(struct siligrad_link *link, uint32_t address, const uint32_t *words, uint32_t count)
{
    uint32_t index;
    int error;

    if (link == NULL || words == NULL || count == 0 || count > SILIGRAD_LINK_WORDS) {
        return SILIGRAD_EARGUMENT;
    }
    error = flush(link);
    if (error != 0) {
        return error;
    }
    for (index = 0; index < count; index++) {
        store_32(link->request + WORDS_AT + 4 * index, words[index]);
    }
    return ask(link, SILIGRAD_LINK_WRITE, address, count);
}

/* Words at `address` and after it, of the same region, that may be gathered: registers never are. */
static uint32_t gathered(uint32_t address)
{
    uint32_t region = SILIGRAD_REGION_PROGRAM / 4, left = region - address % region;

    if (address < region) {
        return 1;
    }
    return left < SILIGRAD_LINK_WORDS ? left : SILIGRAD_LINK_WORDS;
}

static int bus_read32(void *context, uint32_t offset, uint32_t *value)
{
    struct siligrad_link *link = (struct siligrad_link *)context;
    uint32_t address = offset / 4;
    int error = flush(link);

    if (error != 0) {
        return error;
    }
    if (address - link->ahead_address >= link->ahead) {
        /* Whoever has read the word before this one will read those behind it. */
        uint32_t count = address == link->expected_address ? gathered(address) : 1;

        error = ask(link, SILIGRAD_LINK_READ, address, count);
        if (error != 0) {
            return error;
        }
        link->ahead = count;
        link->ahead_address = address;
    }
    link->expected_address = address + 1;
    *value = fetch_32(link->frame + SILIGRAD_LINK_REPLY_BYTES + 4 * (address - link->ahead_address));
    if (gathered(address) == 1) {
        link->ahead = 0; /* a register may read otherwise the next time */
    }
    return 0;
}

static int bus_write32(void *context, uint32_t offset, uint32_t value)
{
    struct siligrad_link *link = (struct siligrad_link *)context;
    uint32_t address = offset / 4;

    link->ahead = 0;
    if (link->pending != 0 && address != link->pending_address + link->pending) {
        int error = flush(link);

        if (error != 0) {
            return error;
        }
    }
    if (link->pending == 0) {
        link->pending_address = address;
    }
    store_32(link->request + WORDS_AT + 4 * link->pending++, value);
    return link->pending == SILIGRAD_LINK_WORDS || gathered(address) == 1 ? flush(link) : 0;
}

void siligrad_link_bus(struct siligrad_link *link, struct siligrad_bus *bus)
{
    bus->context = link;
    bus->read32 = bus_read32;
    bus->write32 = bus_write32;
}
