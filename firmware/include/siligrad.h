/* siligrad.h - drive a siligrad accelerator from C: load a compiled program, write tensors, run, read tensors.
 *
 * C99, freestanding, also C++. Nothing is allocated and nothing is global: every object belongs to the caller, and two
 * accelerators need two of each. No function may be called for one accelerator from two threads at once.
 *
 * Compile and link firmware/src/siligrad.c and siligrad_load.c; where they are used, siligrad_lfsr.c (shift registers),
 * siligrad_rate.c (learning rate), siligrad_strerror.c (error texts), and siligrad_link.c (siligrad_link.h) where the
 * accelerator is at the other end of a serial line.
 *
 * Functions that return an int return 0, or what they say, or a negative SILIGRAD_E* (siligrad_strerror has a sentence
 * for each, with what to do). Every wait is bounded by a number that the caller gives.
 *
 * A whole example. `image` holds the bytes of a file that `program.save("step.sgp")` wrote, of a training step whose
 * arguments are x and y, on an accelerator whose registers are mapped at address 0x30000000:
 *
 *     #include "siligrad.h"
 *
 *     static int read32(void *context, uint32_t offset, uint32_t *value)
 *     {
 *         *value = *(volatile uint32_t *)((uintptr_t)context + offset);
 *         return 0;
 *     }
 *
 *     static int write32(void *context, uint32_t offset, uint32_t value)
 *     {
 *         *(volatile uint32_t *)((uintptr_t)context + offset) = value;
 *         return 0;
 *     }
 *
 *     // Take one step on `x` (16 x 64 codes, row after row) and `y` (16 x 10), and read the new weights, 64 x 32.
 *     int train(const void *image, uint32_t size, const int16_t *x, const int16_t *y, int16_t *weights)
 *     {
 *         struct siligrad_bus bus = {(void *)(uintptr_t)0x30000000, read32, write32};
 *         struct siligrad device;
 *         struct siligrad_loader loader;
 *         struct siligrad_tensor tensors[16];
 *         char names[1024];
 *         int error, index;
 *
 *         if ((error = siligrad_open(&device, &bus)) < 0) return error;
 *         error = siligrad_load_begin(&loader, &device, SILIGRAD_WRITE, tensors, 16, names, sizeof names);
 *         if (error < 0) return error;
 *         if ((error = siligrad_load(&loader, image, size)) < 0) return error; // or piece by piece, as it comes
 *         if ((error = siligrad_load_end(&loader)) < 0) return error;
 *         if ((error = siligrad_seed(&device, 0)) < 0) return error;
 *
 *         if ((index = siligrad_find_tensor(&device, "x")) < 0) return index;
 *         if ((error = siligrad_write_tensor(&device, (uint32_t)index, 0, x, 64, 1)) < 0) return error;
 *         if ((index = siligrad_find_tensor(&device, "y")) < 0) return index;
 *         if ((error = siligrad_write_tensor(&device, (uint32_t)index, 0, y, 10, 1)) < 0) return error;
 *
 *         if ((error = siligrad_run(&device, 100000)) < 0) return error;
 *
 *         if ((index = siligrad_find_tensor(&device, "params[0][0]")) < 0) return index;
 *         return siligrad_read_tensor(&device, (uint32_t)index, 0, weights, 32, 1);
 *     }
 *
 * The registers are specified in docs/spec/host.md, images in docs/spec/image.md, what a code stands for in
 * docs/spec/numerics.md. */

#ifndef SILIGRAD_H
#define SILIGRAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What can go wrong. The values stay; new ones are added below. */
enum siligrad_error {
    SILIGRAD_EIO = -1,         /* a callback of the bus or of the line failed */
    SILIGRAD_EARGUMENT = -2,   /* a pointer is NULL, a bound is zero, or a callback is missing */
    SILIGRAD_EIDENTITY = -3,   /* what answers on the bus is no siligrad accelerator */
    SILIGRAD_EVERSION = -4,    /* the accelerator speaks another version than this driver */
    SILIGRAD_EGEOMETRY = -5,   /* the accelerator tells of sizes that do not exist */
    SILIGRAD_EMAGIC = -6,      /* the image is no siligrad image */
    SILIGRAD_EFORMAT = -7,     /* the image is of another version than this driver reads */
    SILIGRAD_ETARGET = -8,     /* the image is compiled for another accelerator */
    SILIGRAD_ESIZE = -9,       /* the image is larger than any, or has ended before or after its end */
    SILIGRAD_ECRC = -10,       /* the image is damaged */
    SILIGRAD_EIMAGE = -11,     /* what is in the image contradicts itself, or reaches outside the accelerator */
    SILIGRAD_EROOM = -12,      /* the caller's tensors or names have no room for those of the image */
    SILIGRAD_EPROGRAM = -13,   /* no program is loaded */
    SILIGRAD_ENAME = -14,      /* no tensor has this name */
    SILIGRAD_EINDEX = -15,     /* there is no such tensor, step or instruction */
    SILIGRAD_ECODE = -16,      /* a code is none that the tensor may hold */
    SILIGRAD_EBUSY = -17,      /* a run is going on */
    SILIGRAD_EREFUSED = -18,   /* the accelerator refused an access: it became busy, or it is locked */
    SILIGRAD_ETIMEOUT = -19,   /* the run is still going on after as many polls as were allowed */
    SILIGRAD_EOVERRUN = -20,   /* the accelerator ended the run because it took more cycles than promised */
    SILIGRAD_ECYCLES = -21,    /* the run ended by itself, but not after the cycles promised */
    SILIGRAD_ERESET = -22,     /* no run has ended since the last start or reset: was the accelerator reset? */
    SILIGRAD_ESHIFT = -23,     /* the learning rate cannot be changed so far, or nothing is learned */
    SILIGRAD_ESTATE = -24,     /* a state of a shift register is zero: it would stay zero */
    SILIGRAD_ENOANSWER = -25,  /* nothing answers on the line */
    SILIGRAD_ESESSION = -26,   /* the board was reset, or another host has taken it */
    SILIGRAD_ENUMBER = -27,    /* the board has lost count of the requests */
    SILIGRAD_EPROTOCOL = -28,  /* the board does not understand the request */
    SILIGRAD_ERROR_LAST = SILIGRAD_EPROTOCOL
};

/* Lanes of the largest array. */
#define SILIGRAD_ARRAY_MAX 16

/* How the driver reaches the accelerator: a word of 32 bits at a byte offset from the base of its address space, always
 * a multiple of 4, below 2^25. Return 0, or SILIGRAD_EIO or another SILIGRAD_E*, which the driver call then returns;
 * whatever else is not 0 becomes SILIGRAD_EIO. A callback must return in bounded time; the driver calls it a bounded
 * number of times. */
struct siligrad_bus {
    void *context; /* handed back to both callbacks; the driver never looks inside */
    int (*read32)(void *context, uint32_t offset, uint32_t *value);
    int (*write32)(void *context, uint32_t offset, uint32_t value);
};

/* The three memories: activations, weights, errors (and targets). */
enum siligrad_memory { SILIGRAD_X = 0, SILIGRAD_W = 1, SILIGRAD_E = 2 };

/* What a tensor is for. */
enum siligrad_role {
    SILIGRAD_INPUT = 0,     /* written before each run */
    SILIGRAD_RESIDENT = 1,  /* written by the load; stays, and an update may change it */
    SILIGRAD_CONSTANT = 2,  /* written by the load, never changed */
    SILIGRAD_TEMPORARY = 3, /* made and used inside a run */
    SILIGRAD_OUTPUT = 4     /* made by a run, to be read */
};

/* Bits of siligrad_tensor.flags. */
enum siligrad_flag {
    SILIGRAD_SIGN = 1,      /* every value is +1 or -1 */
    SILIGRAD_MAGNITUDE = 2, /* a value is the magnitude of what is held */
    SILIGRAD_MOVES = 4      /* there is one for each step of a run */
};

/* A matrix in one of the memories, as the image describes it; read only. The code c stands for the value
 * c * 2^-fraction * scale. */
struct siligrad_tensor {
    uint64_t scale;   /* the bits of an IEEE 754 double: memcpy them into one; 1.0 of whatever is written */
    uint32_t name;    /* where its name begins in the caller's names; ends with a zero byte */
    uint32_t base;    /* first word in each bank */
    uint32_t rows;    /* of the matrix; 1 of a vector */
    uint32_t columns; /* of the matrix */
    int32_t fraction; /* bits behind the binary point */
    int32_t limit;    /* largest magnitude of a code */
    uint32_t words;   /* in each bank */
    uint8_t role;     /* enum siligrad_role */
    uint8_t memory;   /* enum siligrad_memory */
    uint8_t flags;    /* of enum siligrad_flag */
    uint8_t loaded;   /* whether the image has its contents */
};

/* Places in siligrad.built. */
enum siligrad_built {
    SILIGRAD_WIDTHS = 0, /* a byte each from the lowest: N, and the bits of an operand, an accumulator and a word */
    SILIGRAD_DEPTHS = 1, /* words in each bank of X, W and E: three places, in the order of enum siligrad_memory */
    SILIGRAD_LINES = 4   /* lines of the program memory */
};

/* An accelerator and the program in it. Made by siligrad_open; read only for the caller. */
struct siligrad {
    struct siligrad_bus bus;
    uint32_t array;    /* N: the array is N x N, a memory has N banks */
    uint32_t built[5]; /* enum siligrad_built: what it was built with */

    /* The program; there is none while `tensor_count` is 0. */
    uint32_t tensor_count;
    struct siligrad_tensor *tensors; /* the caller's */
    const char *names;               /* the caller's, or NULL */
    uint32_t instructions;
    uint32_t steps;  /* times that a run executes them */
    uint64_t cycles; /* of a run; exact */

    /* The driver's own. */
    uint32_t run[6]; /* what the registers from STEPS on hold during a run: steps, strides in X, W and E, cycles */
    uint32_t shift;  /* an address of a memory is 2^shift bytes, of which the banks ... */
    uint32_t gap;    /* ... leave so many at the end */
    int32_t error;   /* the first access of this call that failed */
};

/* An image on its way in, from siligrad_load_begin to siligrad_load_end; nothing in it is for the caller. */
struct siligrad_loader {
    uint32_t end[6]; /* of the sections, in bytes from the start of the image; none of the last one: 0 */
    struct siligrad *device;
    struct siligrad_tensor *filling; /* behind the last tensor whose data came or are coming */
    char *names;
    uint32_t mode, tensor_room, name_room;
    uint32_t position;     /* bytes that came */
    uint32_t size;         /* bytes of the image, from the header on */
    uint32_t crc;          /* of what came */
    uint32_t crc_expected; /* of the whole image, from the header on */
    uint32_t section;      /* that is coming: 0 the header, 1 to 5 what follows it */
    uint32_t word;         /* the last four bytes that came */
    uint32_t held;         /* bytes of `entry` that came */
    uint32_t entry[24];    /* words of what has not come whole */
    uint32_t words_left;   /* of an instruction */
    uint32_t instructions; /* that came */
    uint32_t tensors;      /* that came */
    uint32_t name_bytes;   /* in all */
    uint32_t data_end;     /* of the tensors that came, in bytes from the start of the image */
    uint32_t offset, stop; /* of the next code, and behind the last one of its tensor */
    uint32_t bank;         /* of the next code */
    int32_t error;         /* the first; returned by every call from then on */
};

/* What a load does. */
enum siligrad_load_mode {
    SILIGRAD_WRITE = 0, /* write program and contents to the accelerator */
    SILIGRAD_ATTACH = 1 /* write nothing: the accelerator has the program already (an earlier load, a baked one), or the
                           image is only to be checked */
};

/* Identify the accelerator behind `bus`, which is copied, and read its geometry. Forgets any program.
 * SILIGRAD_EIDENTITY, SILIGRAD_EVERSION, SILIGRAD_EGEOMETRY, SILIGRAD_EARGUMENT. */
int siligrad_open(struct siligrad *device, const struct siligrad_bus *bus);

/* Begin to load an image. Its tensors and their names are kept in `tensors` and `names`, which must stay until another
 * image is loaded: there must be room for all of them, and `name_room` must be larger than the names with their zeros by
 * at least one byte (the demo network has 9 tensors and some 300 bytes of names). With `names` NULL and `name_room` 0
 * names are dropped, and tensors are known by index, in the order of the image.
 * The program that was loaded before is forgotten. SILIGRAD_EBUSY while a run is going on. */
int siligrad_load_begin(struct siligrad_loader *loader, struct siligrad *device, enum siligrad_load_mode mode,
                        struct siligrad_tensor *tensors, uint32_t tensor_room, char *names, uint32_t name_room);

/* Take the next `count` bytes of the image; pieces may be of any size. What arrives is checked and written to the
 * accelerator at once, but cannot be run before siligrad_load_end has found it whole; an image that is refused leaves
 * the memories in part overwritten and no program loaded. Nothing is written outside the program and the memories,
 * whatever the image says. After an error every further call returns it again.
 * SILIGRAD_EMAGIC, SILIGRAD_EFORMAT, SILIGRAD_ETARGET, SILIGRAD_ESIZE, SILIGRAD_EIMAGE, SILIGRAD_EROOM. */
int siligrad_load(struct siligrad_loader *loader, const void *bytes, uint32_t count);

/* End the load: all of the image must have come, undamaged. SILIGRAD_ESIZE, SILIGRAD_ECRC, SILIGRAD_EREFUSED, or what
 * siligrad_load has returned. The shift registers of stochastic rounding are left as they are: see siligrad_seed. */
int siligrad_load_end(struct siligrad_loader *loader);

/* Return the index of the first tensor called `name`; SILIGRAD_ENAME. */
int siligrad_find_tensor(const struct siligrad *device, const char *name);

/* Write a tensor: the code of row r and column c is codes[r * row_stride + c * column_stride], so a transposed array,
 * or a part of a larger one, is a matter of the strides. `step` chooses one of a tensor that moves; it is 0 for others.
 * All codes are checked before any is written: magnitudes up to the tensor's limit; of a tensor of signs, only those of
 * +1 and -1 (1 << fraction). SILIGRAD_EINDEX, SILIGRAD_ECODE, SILIGRAD_EBUSY, SILIGRAD_EREFUSED. */
int siligrad_write_tensor(struct siligrad *device, uint32_t tensor, uint32_t step, const int16_t *codes,
                          ptrdiff_t row_stride, ptrdiff_t column_stride);

/* Read a tensor into `codes`, laid out as for siligrad_write_tensor; other elements of the array are not touched. What
 * is in it after an error is undefined. SILIGRAD_EINDEX, SILIGRAD_EBUSY, SILIGRAD_EREFUSED. */
int siligrad_read_tensor(struct siligrad *device, uint32_t tensor, uint32_t step, int16_t *codes, ptrdiff_t row_stride,
                         ptrdiff_t column_stride);

/* Start a run and return at once. The accelerator itself ends one that takes more cycles than the program promises.
 * SILIGRAD_EPROGRAM, SILIGRAD_EBUSY. */
int siligrad_start(struct siligrad *device);

/* Look after a run: 1 while it is going on, 0 when it has ended after exactly the cycles promised.
 * SILIGRAD_EOVERRUN, SILIGRAD_ECYCLES, SILIGRAD_ERESET, SILIGRAD_EREFUSED (something was accessed during the run; the
 * run itself is undisturbed and over). */
int siligrad_poll(struct siligrad *device);

/* Look after a run until it has ended, at most `polls` times (at least 1): SILIGRAD_ETIMEOUT if it has not by then, and
 * may be waited for again. Otherwise as siligrad_poll, but never 1. A poll takes at least a cycle of the accelerator,
 * so siligrad.cycles + 4 of them are always enough. */
int siligrad_wait(struct siligrad *device, uint32_t polls);

/* siligrad_start, then siligrad_wait. */
int siligrad_run(struct siligrad *device, uint32_t polls);

/* Read the busy cycles of the last run. */
int siligrad_read_cycles(struct siligrad *device, uint64_t *cycles);

/* Read how many elements the first `count` instructions of the last run saturated, one number each, modulo 2^32.
 * SILIGRAD_EINDEX if the program has fewer; SILIGRAD_EBUSY, SILIGRAD_EREFUSED. */
int siligrad_read_saturations(struct siligrad *device, uint32_t *counts, uint32_t count);

/* Start the shift registers of stochastic rounding from `seed`, as `device.load(program, seed=seed)` does in Python:
 * the same seed gives the same bits. Every load in Python does it, with seed 0. */
int siligrad_seed(struct siligrad *device, uint64_t seed);

/* Read or write the states of the shift registers, siligrad.array words, to go on later with the same bits. A state of
 * zero is refused: SILIGRAD_ESTATE. */
int siligrad_read_lfsr(struct siligrad *device, uint32_t *states);
int siligrad_write_lfsr(struct siligrad *device, const uint32_t *states);

/* Halve the learning rate of the loaded program `halvings` times, or double it -halvings times, from now on and
 * relative to what it is: `program.slowed` in Python. Memories and shift registers are left as they are.
 * SILIGRAD_ESHIFT if it would leave the shifts that exist, or the program updates nothing; then nothing is changed. */
int siligrad_slow(struct siligrad *device, int halvings);

/* Return a sentence that says what a code means and what to do about it; never NULL. */
const char *siligrad_strerror(int code);

#ifdef __cplusplus
}
#endif

#endif
