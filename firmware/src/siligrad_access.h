/* siligrad_access.h - what the parts of the driver share; of no use to others. */

#ifndef SILIGRAD_ACCESS_H
#define SILIGRAD_ACCESS_H

#include "siligrad.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes from a word to the next, in the next bank. */
#define SILIGRAD_WORD 4u

/* Read or write the word at `offset`, unless an access of this call has failed: then do nothing, and read zero. So a
 * call may go on after a failure, and reports it at its end: siligrad.error. */
uint32_t siligrad_access_get(struct siligrad *device, uint32_t offset);
void siligrad_access_put(struct siligrad *device, uint32_t offset, uint32_t value);

/* Keep the first error of a call, and return it. */
int siligrad_access_fail(struct siligrad *device, int error);

/* Begin a call that accesses memories: there must be a device, `argument` must not be NULL, and no run may be going on.
 * Return 0 or an error. */
int siligrad_access_begin(struct siligrad *device, const void *argument);

/* End it: nothing may have been refused. Return the first error of the call. */
int siligrad_access_end(struct siligrad *device);

/* Return the offset of the word at `address` of bank 0 of a memory. */
uint32_t siligrad_access_offset(const struct siligrad *device, uint32_t memory, uint32_t address);

/* Return the offset of the word at the next address of bank 0, from the one behind the last bank. */
uint32_t siligrad_access_next(const struct siligrad *device, uint32_t offset);

/* Return the signed code in the low 16 bits of a word. */
int16_t siligrad_access_code(uint32_t word);

/* Return the CRC-32 of what `crc` is that of, followed by `byte`; both inverted, so the first is ~0. */
uint32_t siligrad_access_crc(uint32_t crc, uint8_t byte);

#ifdef __cplusplus
}
#endif

#endif
