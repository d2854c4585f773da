#include "software.h"

/* Sixteen steps of a shift register at once: each new bit is a sum of bits 32, 31, 30 and 10 before it, and only the
 * last six of them need new ones. */
static uint32_t draw(uint32_t *state)
{
    const uint32_t s = *state;
    uint32_t bits = (s >> 16 ^ s >> 15 ^ s >> 14 ^ s << 6) & 0xffff;

    bits ^= bits >> 10;
    *state = s << 16 | bits;
    return bits;
}

/* A row of A times a column of B. Activations and errors are zero half of the time, and small: they are what is skipped,
 * and the second factor, which a processor without a multiplier goes through bit by bit. */
static int64_t multiply_row(const int16_t *a, int a_next, const int16_t *b, int b_next, unsigned k)
{
    int64_t sum = 0;

    do {
        const int32_t factor = *a;
        if (factor != 0) {
            sum += (int32_t)*b * factor;
        }
        a += a_next;
        b += b_next;
    } while (--k != 0);
    return sum;
}

/* A row of ones times a column of B. */
static int64_t add_column(const int16_t *b, int b_next, unsigned k)
{
    int32_t sum = 0; /* of at most 2^16 codes of 16 bits */

    do {
        sum += *b;
        b += b_next;
    } while (--k != 0);
    return sum;
}

/* Where the next element of the product begins in A and B of a segment. */
struct cursor {
    const int16_t *a;
    const int16_t *b;
};

static int64_t sum_of(const struct software_product *product, const struct cursor *cursors)
{
    const struct software_segment *segment = product->segments;
    int64_t sum = 0;

    for (unsigned left = product->segment_count; left != 0; left--, segment++, cursors++) {
        if (segment->ones) {
            sum += add_column(cursors->b, segment->b.row, segment->k) << segment->ones_shift;
        } else {
            sum += multiply_row(cursors->a, segment->a.column, cursors->b, segment->b.row, segment->k);
        }
    }
    return sum;
}

/* Shift `value` to the right, rounded as the product says; `base` is added afterwards, and matters to half-even alone. */
static int64_t shift_round(const struct software_product *product, int64_t value, int32_t base, uint32_t drawn)
{
    const unsigned shift = product->shift;

    if (shift != 0) {
        switch (product->rounding) {
        case SOFTWARE_HALF_EVEN:
            value += ((int64_t)1 << (shift - 1)) - 1 + (((int32_t)(value >> shift) ^ base) & 1);
            break;
        case SOFTWARE_STOCHASTIC:
            value += shift < 16 ? (int64_t)(drawn >> (16 - shift)) : (int64_t)((uint64_t)drawn << (shift - 16));
            break;
        case SOFTWARE_HALF_UP:
            value += (int64_t)1 << (shift - 1);
            break;
        default:
            break;
        }
    }
    return (value >> shift) + base;
}

static int32_t finish(const struct software_product *product, int64_t value, int32_t aux, uint32_t drawn,
                      int32_t limit)
{
    int32_t base = 0; /* what the specification adds before the shift, shifted to the left */
    int32_t code;

    if (product->negate) {
        value = -value;
    }
    if (product->aux_mode == SOFTWARE_AUX_ADD) {
        base = aux;
    } else if (product->aux_mode == SOFTWARE_AUX_SUBTRACT) {
        base = -aux;
    }
    value = shift_round(product, value, base, drawn);
    code = value > limit ? limit : value < -limit ? -limit : (int32_t)value;
    switch (product->gate) {
    case SOFTWARE_RELU:
        return code > 0 ? code : 0;
    case SOFTWARE_MASK:
        return aux > 0 ? code : 0;
    case SOFTWARE_HINGE:
        return aux > 0 ? (code < 0 ? code : 0) : (code > 0 ? code : 0);
    default:
        return code;
    }
}

/* Do row i of a tile, from column j on. Multiplications for addresses are done once a row: they are not free. */
static void multiply_row_of_tile(const struct software_product *product, int i, int j, uint32_t *states,
                                 unsigned lanes, int32_t limit)
{
    const struct software_view *d = &product->d, *aux = &product->aux;
    struct cursor cursors[SOFTWARE_SEGMENTS_MAX];
    int16_t *to = d->codes + i * d->row + j * d->column;
    const int16_t *from = aux->codes;

    if (from != 0) {
        from += i * aux->row + j * aux->column;
    }
    for (unsigned index = 0; index < product->segment_count; index++) {
        const struct software_segment *segment = &product->segments[index];
        cursors[index].a = segment->ones ? 0 : segment->a.codes + i * segment->a.row;
        cursors[index].b = segment->b.codes + j * segment->b.column;
    }
    for (unsigned lane = 0; lane < lanes; lane++, j++) {
        const uint32_t drawn = states != 0 ? draw(&states[lane]) : 0;
        if (j < product->columns) {
            *to = (int16_t)finish(product, sum_of(product, cursors), from != 0 ? *from : 0, drawn, limit);
            for (unsigned index = 0; index < product->segment_count; index++) {
                cursors[index].b += product->segments[index].b.column;
            }
            to += d->column;
            if (from != 0) {
                from += aux->column;
            }
        }
    }
}

void software_multiply(const struct software_product *product, uint32_t *states, unsigned lanes, int32_t limit)
{
    if (product->rounding != SOFTWARE_STOCHASTIC) {
        states = 0;
    }
    /* In tiles, and each of them from its last row on, for the sake of the draws. */
    for (unsigned top = 0; top < product->rows; top += lanes) {
        for (unsigned left = 0; left < product->columns; left += lanes) {
            for (unsigned row = lanes; row-- != 0;) {
                if (top + row < product->rows) {
                    multiply_row_of_tile(product, (int)(top + row), (int)left, states, lanes, limit);
                } else {
                    for (unsigned lane = 0; states != 0 && lane < lanes; lane++) {
                        draw(&states[lane]);
                    }
                }
            }
        }
    }
}
