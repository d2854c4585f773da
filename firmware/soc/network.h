/* What the firmware knows of the network that it trains: tables that the build writes, network.c and network_sizes.h
 * (sim/siligrad_sim/soc/network.py), from the compiled program and the data set. */

#ifndef SILIGRAD_SOC_NETWORK_H
#define SILIGRAD_SOC_NETWORK_H

#include <stdint.h>

#include "network_sizes.h"
#include "software.h"

/* The image, and the data set: a byte for each number of each example, and one for its class. */
extern const uint8_t network_image[], network_image_end[];
extern const uint8_t network_images[], network_labels[];

/* The code of each byte of an example, and those of a target that is not the example's class, and that is. */
extern const int16_t network_input_codes[], network_target_codes[2];

/* The names of the program's arguments. */
extern const char network_input_name[], network_target_name[];

/* Every tensor of the program as a plain matrix, row after row, where the software step works: those that are
 * written by a load, and are read back and compared, with their index in the program. */
struct network_matrix {
    int16_t *codes;
    uint16_t index;   /* in the program */
    uint16_t rows;
    uint16_t columns;
    uint8_t resident; /* an update changes it */
};

extern const struct network_matrix network_matrices[];
extern int16_t *const network_inputs, *const network_targets;

/* The step in software: one product for each instruction of the program. */
extern const struct software_product network_products[];

#endif
