/* siligrad_rate.c - the learning rate, which is in the shifts of the updates. See siligrad.h. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

/* Return whether an instruction that writes to `base` of `memory` updates a tensor that stays in the device. */
static int is_update(const struct siligrad *device, uint32_t memory, uint32_t base)
{
    uint32_t index;

    for (index = 0; index < device->tensor_count; index++) {
        const struct siligrad_tensor *tensor = &device->tensors[index];

        if (tensor->role == SILIGRAD_RESIDENT && tensor->memory == memory && tensor->base == base) {
            return 1;
        }
    }
    return 0;
}

/* Change the shift of each update by `halvings`, or only see whether that can be done. Return 0 or an error. */
static int shift_updates(struct siligrad *device, int halvings, int write)
{
    uint32_t instruction, at = SILIGRAD_REGION_PROGRAM, updates = 0;

    for (instruction = 0; instruction < device->instructions; instruction++) {
        uint32_t first = siligrad_access_get(device, at + SILIGRAD_SEGMENTS_WORD * SILIGRAD_WORD);
        uint32_t segments = first >> SILIGRAD_SEGMENTS_BIT & SILIGRAD_SEGMENTS_MASK;
        uint32_t word = siligrad_access_get(device, at + SILIGRAD_SHIFT_WORD * SILIGRAD_WORD);
        uint32_t memory = word >> SILIGRAD_DESTINATION_BIT & SILIGRAD_DESTINATION_MASK;
        uint32_t base = siligrad_access_get(device, at + SILIGRAD_D_BASE_WORD * SILIGRAD_WORD);

        if (is_update(device, memory, base >> SILIGRAD_D_BASE_BIT & SILIGRAD_D_BASE_MASK)) {
            int shift = (int)(word >> SILIGRAD_SHIFT_BIT & SILIGRAD_SHIFT_MASK) + halvings;

            if (shift < 0 || shift > (int)SILIGRAD_SHIFT_MAX) {
                return SILIGRAD_ESHIFT;
            }
            word &= ~(SILIGRAD_SHIFT_MASK << SILIGRAD_SHIFT_BIT);
            if (write) {
                siligrad_access_put(device, at + SILIGRAD_SHIFT_WORD * SILIGRAD_WORD,
                                    word | (uint32_t)shift << SILIGRAD_SHIFT_BIT);
            }
            updates++;
        }
        at += (SILIGRAD_HEADER_LINES + segments) * SILIGRAD_LINE_WORDS * SILIGRAD_WORD;
    }
    return updates == 0 ? SILIGRAD_ESHIFT : 0;
}

int siligrad_slow(struct siligrad *device, int halvings)
{
    int refused, error = siligrad_access_begin(device, device);

    if (error != 0) {
        return error;
    }
    if (device->tensor_count == 0) {
        return SILIGRAD_EPROGRAM;
    }
    /* So many leave the shifts that exist wherever they begin. */
    if (halvings > (int)SILIGRAD_SHIFT_MAX || halvings < -(int)SILIGRAD_SHIFT_MAX) {
        return SILIGRAD_ESHIFT;
    }
    /* All are looked at before one is changed, and what the accelerator refuses to show is not taken for an answer. */
    error = shift_updates(device, halvings, 0);
    refused = siligrad_access_end(device, 0);
    if (refused != 0) {
        return refused;
    }
    if (error == 0) {
        (void)shift_updates(device, halvings, 1);
    }
    return siligrad_access_end(device, error);
}
