/* The firmware of the system on chip: load the image, train, compare, report. */

#include <stddef.h>
#include <stdint.h>

#include "console.h"
#include "memory_map.h"
#include "network.h"
#include "siligrad.h"
#include "software.h"

static uint32_t load32(uintptr_t address) { return *(const volatile uint32_t *)address; }

static int read32(void *context, uint32_t offset, uint32_t *value)
{
    *value = load32((uintptr_t)context + offset);
    return 0;
}

static int write32(void *context, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)((uintptr_t)context + offset) = value;
    return 0;
}

static uint64_t cycles_now(void)
{
    const uint32_t low = load32(SOC_TIMER_CYCLES);

    return (uint64_t)load32(SOC_TIMER_CYCLES_HIGH) << 32 | low;
}

static void report(const char *name, uint64_t value)
{
    console_text(name);
    console_text(" ");
    console_decimal(value);
    console_text("\n");
}

/* Place the codes of a batch of the data set where both ways of training find them. */
static void place_batch(uint32_t batch)
{
    const uint8_t *example = network_images + batch * (NETWORK_BATCH * NETWORK_INPUTS);
    const uint8_t *label = network_labels + batch * NETWORK_BATCH;
    int16_t *input = network_inputs, *target = network_targets;

    for (unsigned left = NETWORK_BATCH; left != 0; left--, label++) {
        for (unsigned index = 0; index < NETWORK_INPUTS; index++) {
            *input++ = network_input_codes[*example++];
        }
        for (unsigned index = 0; index < NETWORK_CLASSES; index++) {
            *target++ = network_target_codes[index == *label];
        }
    }
}

/* Read what the load has written, and what training changes, into the matrices of the software step. */
static int read_matrices(struct siligrad *device)
{
    for (unsigned index = 0; index < NETWORK_MATRICES; index++) {
        const struct network_matrix *matrix = &network_matrices[index];
        const int error =
            siligrad_read_tensor(device, matrix->index, 0, matrix->codes, matrix->columns, 1);
        if (error < 0) {
            return error;
        }
    }
    return 0;
}

/* CRC-32 (IEEE 802.3) of the codes of what training changes, low byte first. */
static uint32_t crc_of_weights(void)
{
    uint32_t crc = 0xffffffff;

    for (unsigned index = 0; index < NETWORK_MATRICES; index++) {
        const struct network_matrix *matrix = &network_matrices[index];
        const uint8_t *bytes = (const uint8_t *)matrix->codes;
        const uint8_t *end = bytes + 2u * matrix->rows * matrix->columns;
        while (matrix->resident && bytes != end) {
            crc ^= *bytes++;
            for (int bit = 0; bit < 8; bit++) {
                crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
            }
        }
    }
    return ~crc;
}

#if NETWORK_SOFTWARE_STEPS != 0

static uint32_t states[NETWORK_ARRAY]; /* of the shift registers */

/* Train in software for the first steps. */
static void train_in_software(void)
{
    uint64_t total = 0;

    for (uint32_t step = 0; step < NETWORK_SOFTWARE_STEPS; step++) {
        const uint64_t begin = cycles_now();
        place_batch(step % NETWORK_BATCHES);
        for (unsigned index = 0; index < NETWORK_PRODUCTS; index++) {
            software_multiply(&network_products[index], states, NETWORK_ARRAY, NETWORK_CODE_MAX);
        }
        total += cycles_now() - begin;
        report("software steps", step + 1);
    }
    report("software cycles", total);
}

/* Compare the weights of the accelerator with those of the software step; return how many differ, or an error. */
static int compare(struct siligrad *device)
{
    static int16_t codes[NETWORK_MATRIX_MAX];
    int different = 0;

    for (unsigned index = 0; index < NETWORK_MATRICES; index++) {
        const struct network_matrix *matrix = &network_matrices[index];
        const unsigned count = (unsigned)matrix->rows * matrix->columns;
        const int error = siligrad_read_tensor(device, matrix->index, 0, codes, matrix->columns, 1);
        if (error < 0) {
            return error;
        }
        for (unsigned at = 0; at < count; at++) {
            if (codes[at] != matrix->codes[at]) {
                different++;
            }
        }
    }
    return different;
}

#endif

/* Train on the accelerator; return 0, or an error, or 1 if it does not agree with the software step. */
static int train(struct siligrad *device)
{
    const int input = siligrad_find_tensor(device, network_input_name);
    const int target = siligrad_find_tensor(device, network_target_name);
    uint64_t total = 0, running = 0, cycles;
    int error;

    if (input < 0 || target < 0) {
        return input < 0 ? input : target;
    }
    for (uint32_t step = 0; step < NETWORK_STEPS; step++) {
        const uint64_t begin = cycles_now();
        place_batch(step % NETWORK_BATCHES);
        if ((error = siligrad_write_tensor(device, (uint32_t)input, 0, network_inputs, NETWORK_INPUTS, 1)) < 0 ||
            (error = siligrad_write_tensor(device, (uint32_t)target, 0, network_targets, NETWORK_CLASSES, 1)) < 0 ||
            (error = siligrad_run(device, (uint32_t)device->cycles + 4)) < 0 ||
            (error = siligrad_read_cycles(device, &cycles)) < 0) {
            return error;
        }
        running += cycles;
        total += cycles_now() - begin;
#if NETWORK_SOFTWARE_STEPS != 0
        if (step + 1 == NETWORK_SOFTWARE_STEPS) {
            if ((error = compare(device)) < 0) {
                return error;
            }
            report("different words", (uint32_t)error);
            if (error != 0) {
                return 1;
            }
        }
#endif
        if ((step + 1) % NETWORK_REPORT_STEPS == 0) {
            report("step", step + 1);
        }
    }
    report("accelerator steps", NETWORK_STEPS);
    report("accelerator cycles", total);
    report("of them busy", running);
    return 0;
}

static int run(void)
{
    static struct siligrad device;
    static struct siligrad_loader loader;
    static struct siligrad_tensor tensors[NETWORK_TENSORS];
    static char names[NETWORK_NAME_BYTES];
    const struct siligrad_bus bus = {(void *)(uintptr_t)SOC_ACCELERATOR, read32, write32};
    int error;

    if ((error = siligrad_open(&device, &bus)) < 0) {
        return error;
    }
    report("array", device.array);
    error = siligrad_load_begin(&loader, &device, SILIGRAD_WRITE, tensors, NETWORK_TENSORS, names, sizeof names);
    if (error < 0 ||
        (error = siligrad_load(&loader, network_image, (uint32_t)(network_image_end - network_image))) < 0 ||
        (error = siligrad_load_end(&loader)) < 0 || (error = siligrad_seed(&device, NETWORK_SEED)) < 0) {
        return error;
    }
    report("image bytes", (uint32_t)(network_image_end - network_image));
    report("loaded at cycle", cycles_now());
#if NETWORK_SOFTWARE_STEPS != 0
    if ((error = read_matrices(&device)) < 0 || (error = siligrad_read_lfsr(&device, states)) < 0) {
        return error;
    }
    train_in_software();
#endif
    if ((error = train(&device)) != 0 || (error = read_matrices(&device)) < 0) {
        return error;
    }
    console_text("weights crc ");
    console_hexadecimal(crc_of_weights());
    console_text("\n");
    return 0;
}

int main(void)
{
    int error;

    console_text("siligrad system on chip\n");
    error = run();
    if (error < 0) {
        console_text("error ");
        console_signed(error);
        console_text(" ");
        console_text(siligrad_strerror(error));
        console_text("\n");
    }
    report("cycles", cycles_now());
    console_text(error == 0 ? "end ok\n" : "end failed\n");
    return error;
}
