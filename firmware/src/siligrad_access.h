/* siligrad_access.h - what the parts of the driver share; of no use to others. */

#ifndef SILIGRAD_ACCESS_H
#define SILIGRAD_ACCESS_H

#include "siligrad.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Read or write the word at `offset`, unless an access of this call has failed: then do nothing, and read zero. So a
 * call may go on after a failure, and reports it at its end: siligrad.error. */
uint32_t siligrad_access_get(struct siligrad *device, uint32_t offset);
void siligrad_access_put(struct siligrad *device, uint32_t offset, uint32_t value);

/* Begin a call that accesses memories: there must be a device, and no run. Return siligrad.error. */
int siligrad_access_begin(struct siligrad *device);

/* End it: nothing was refused. Return siligrad.error. */
int siligrad_access_end(struct siligrad *device);

/* Return the offset of the word at `address` of bank 0 of a memory. */
uint32_t siligrad_access_offset(const struct siligrad *device, uint32_t memory, uint32_t address);

/* Return the words that a tensor takes in each bank, at most the depth of its memory; 0 if they are more, or none. */
uint32_t siligrad_access_words(const struct siligrad *device, const struct siligrad_tensor *tensor);

/* Return the CRC-32 of what `crc` is that of, followed by `byte`; both inverted, so the first is ~0. */
uint32_t siligrad_access_crc(uint32_t crc, uint8_t byte);

#ifdef __cplusplus
}
#endif

#endif
