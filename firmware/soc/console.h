/* Text on the serial line of the chip; what each function writes is sent when it returns, but for a byte. */

#ifndef SILIGRAD_SOC_CONSOLE_H
#define SILIGRAD_SOC_CONSOLE_H

#include <stdint.h>

void console_text(const char *text);
void console_decimal(uint64_t value);
void console_signed(int32_t value);
/* Eight digits. */
void console_hexadecimal(uint32_t value);

#endif
