/* siligrad_lfsr.c - the shift registers of stochastic rounding. See siligrad.h. */

#include "siligrad.h"

#include "siligrad_access.h"
#include "siligrad_constants.h"

static uint32_t lane_offset(uint32_t lane)
{
    return SILIGRAD_REGISTER_LFSR + lane * SILIGRAD_WORD;
}

int siligrad_seed(struct siligrad *device, uint64_t seed)
{
    int error = siligrad_access_begin(device, device);

    if (error == 0) {
        uint32_t lane;

        /* SplitMix64: G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators,
         * OOPSLA 2014. */
        for (lane = 0; lane < device->array; lane++) {
            uint64_t z = seed += 0x9e3779b97f4a7c15u;

            z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
            z = (z ^ z >> 27) * 0x94d049bb133111ebu;
            z ^= z >> 31;
            siligrad_access_put(device, lane_offset(lane), (uint32_t)z != 0 ? (uint32_t)z : 1);
        }
    }
    return siligrad_access_end(device, error);
}

int siligrad_read_lfsr(struct siligrad *device, uint32_t *states)
{
    int error = siligrad_access_begin(device, states);

    if (error == 0) {
        uint32_t lane;

        for (lane = 0; lane < device->array; lane++) {
            states[lane] = siligrad_access_get(device, lane_offset(lane));
        }
    }
    return siligrad_access_end(device, error);
}

int siligrad_write_lfsr(struct siligrad *device, const uint32_t *states)
{
    uint32_t lane;
    int error = siligrad_access_begin(device, states);

    if (error == 0) {
        for (lane = 0; lane < device->array; lane++) {
            if (states[lane] == 0) {
                error = SILIGRAD_ESTATE;
            }
        }
    }
    if (error == 0) {
        for (lane = 0; lane < device->array; lane++) {
            siligrad_access_put(device, lane_offset(lane), states[lane]);
        }
    }
    return siligrad_access_end(device, error);
}
