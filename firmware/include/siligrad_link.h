/* siligrad_link.h - a siligrad accelerator at the other end of a serial line (docs/spec/link.md), as a bus.
 *
 * Every request is carried out exactly once, or reported as not known to be done, however often the line damages,
 * loses, repeats or delays what is sent. C99, freestanding, no allocation, no globals; every wait is bounded.
 *
 *     struct siligrad_line line = {&port, send, receive};
 *     struct siligrad_link link;
 *     struct siligrad_bus bus;
 *     struct siligrad device;
 *     int error;
 *
 *     if ((error = siligrad_link_open(&link, &line, session, 20)) < 0) return error;
 *     siligrad_link_bus(&link, &bus);
 *     if ((error = siligrad_open(&device, &bus)) < 0) return error;
 *
 * firmware/examples/board.c is a whole program, for Linux. */

#ifndef SILIGRAD_LINK_H
#define SILIGRAD_LINK_H

#include "siligrad.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Most words of a request. */
#define SILIGRAD_LINK_WORDS 64

/* How bytes come and go: 8 bits, no parity, one stop bit, 1 Mbaud unless the board says otherwise. */
struct siligrad_line {
    void *context; /* handed back to both callbacks */
    /* Send `count` bytes; return 0, or a negative value if the line is gone. */
    int (*send)(void *context, const uint8_t *bytes, uint32_t count);
    /* Wait for a byte, but not for ever: half a second is usual. Return 1 with it in `byte`, 0 if none came, or a
     * negative value if the line is gone. */
    int (*receive)(void *context, uint8_t *byte);
};

/* A host's end of the link. */
struct siligrad_link {
    uint32_t resent;  /* requests that were sent again; for whoever is curious, as the next one */
    uint32_t dropped; /* frames that came damaged, or too late */

    /* The driver's own. */
    struct siligrad_line line;
    uint32_t attempts;
    uint32_t session, number;
    uint32_t pending, pending_address; /* words in `request` that are still to be written, and where */
    uint32_t ahead, ahead_address;     /* words in `frame` that were read, and where */
    uint32_t expected_address;         /* where the next word would be read if the caller reads on */
    uint8_t request[280];
    uint8_t frame[280];
};

/* Say hello: a session begins, and what the board kept of another ends. `session` must not be 0, and should be another
 * one each time: a random number, or a counter that is kept. A request is sent `attempts` times, at least once, before
 * it is given up. SILIGRAD_EARGUMENT, SILIGRAD_EIO, SILIGRAD_ENOANSWER. */
int siligrad_link_open(struct siligrad_link *link, const struct siligrad_line *line, uint32_t session,
                       uint32_t attempts);

/* Make `bus` the way to the accelerator behind the link, which must stay where it is as long as the bus is used.
 * Consecutive words of memories are gathered to larger requests: what is written goes when something else is asked for.
 * Every function of siligrad.h ends with that, so an error is reported by the call that it belongs to. */
void siligrad_link_bus(struct siligrad_link *link, struct siligrad_bus *bus);

/* Read or write `count` words, 1 to SILIGRAD_LINK_WORDS, from word address `address` of docs/spec/host.md on: a quarter
 * of a bus' offset. SILIGRAD_EIO, SILIGRAD_ENOANSWER, SILIGRAD_ESESSION, SILIGRAD_ENUMBER, SILIGRAD_EPROTOCOL. After an
 * error the link must be opened again. */
int siligrad_link_read(struct siligrad_link *link, uint32_t address, uint32_t *words, uint32_t count);
int siligrad_link_write(struct siligrad_link *link, uint32_t address, const uint32_t *words, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif
