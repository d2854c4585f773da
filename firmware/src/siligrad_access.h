/* siligrad_access.h - what the parts of the driver share; of no use to others. */

#ifndef SILIGRAD_ACCESS_H
#define SILIGRAD_ACCESS_H

#include "siligrad.h"
#include "siligrad_constants.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes from a word to the next, in the next bank. */
#define SILIGRAD_WORD 4u

/* Read or write the word at `offset`, unless an access of this call has failed: then do nothing, and read anything. So
 * a call may go on after a failure, and reports it at its end: siligrad.error. */
uint32_t siligrad_access_get(struct siligrad *device, uint32_t offset);
void siligrad_access_put(struct siligrad *device, uint32_t offset, uint32_t value);

/* Keep the first error of a call, in siligrad.error; what is no error of ours becomes SILIGRAD_EIO. */
void siligrad_access_fail(struct siligrad *device, int error);

/* Begin a call: there must be a device, and `argument` must not be NULL. Return 0 or an error. */
int siligrad_access_check(struct siligrad *device, const void *argument);

/* Begin a call that accesses memories: as siligrad_access_check, and no run may be going on. Return 0 or an error. */
int siligrad_access_begin(struct siligrad *device, const void *argument);

/* End a call, of which `error` is known already: if that is 0, no access may have failed, and none may have been
 * refused. Return the error, or 0. Whatever siligrad_access_begin has returned may be handed on to here. */
int siligrad_access_end(struct siligrad *device, int error);

/* Return the offset of the word at `address` of bank 0 of a memory. */
static inline uint32_t siligrad_access_offset(const struct siligrad *device, uint32_t memory, uint32_t address)
{
    return SILIGRAD_REGION_X + memory * (SILIGRAD_REGION_W - SILIGRAD_REGION_X) + (address << device->shift);
}

/* Return the CRC-32 of what `crc` is that of, followed by `byte`; both inverted, so the first is ~0. */
uint32_t siligrad_access_crc(uint32_t crc, uint8_t byte);

#ifdef __cplusplus
}
#endif

#endif
