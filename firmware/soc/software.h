/* A training step without the accelerator: what its instruction does (docs/spec/isa.md, docs/spec/numerics.md), on
 * matrices that lie row after row instead of in skewed tiles. */

#ifndef SILIGRAD_SOC_SOFTWARE_H
#define SILIGRAD_SOC_SOFTWARE_H

#include <stdint.h>

/* A matrix, or a transposed one: the element in row i and column j is codes[i * row + j * column]. */
struct software_view {
    int16_t *codes;
    int16_t row;
    int16_t column;
};

/* A pair of matrices to multiply, k terms a sum. */
struct software_segment {
    struct software_view a; /* rows of the product by k; unused with `ones` */
    struct software_view b; /* k by columns of the product */
    uint16_t k;
    uint8_t ones;       /* every element of A is 2^ones_shift */
    uint8_t ones_shift;
};

enum software_rounding { SOFTWARE_HALF_EVEN = 0, SOFTWARE_STOCHASTIC = 1, SOFTWARE_FLOOR = 2, SOFTWARE_HALF_UP = 3 };
enum software_aux { SOFTWARE_AUX_NONE = 0, SOFTWARE_AUX_ADD = 1, SOFTWARE_AUX_SUBTRACT = 2 };
enum software_gate { SOFTWARE_GATE_NONE = 0, SOFTWARE_RELU = 1, SOFTWARE_MASK = 2, SOFTWARE_HINGE = 3 };

/* Segments of a product. */
#define SOFTWARE_SEGMENTS_MAX 8

/* D = epilogue(sum of A B); the fields are those of the instruction. */
struct software_product {
    const struct software_segment *segments;
    struct software_view d;
    struct software_view aux;
    uint16_t rows;
    uint16_t columns;
    uint8_t segment_count;
    uint8_t shift;
    uint8_t rounding;
    uint8_t aux_mode;
    uint8_t gate;
    uint8_t negate;
};

/* Do a product. `states` are the shift registers of `lanes` lanes, which are drawn from as an array of that size does;
 * `limit` is the largest code. */
void software_multiply(const struct software_product *product, uint32_t *states, unsigned lanes, int32_t limit);

#endif
