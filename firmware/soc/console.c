#include "console.h"

#include "memory_map.h"

static void send(char character)
{
    *(volatile uint32_t *)SOC_CONSOLE_SEND = (uint8_t)character; /* takes as long as the line does */
}

void console_text(const char *text)
{
    while (*text != '\0') {
        send(*text++);
    }
}

/* Divide `*value` by ten and return what is left, bit by bit: the processor has no better way. */
static uint32_t divide_by_ten(uint64_t *value)
{
    uint32_t rest = 0;

    for (int bit = 63; bit >= 0; bit--) {
        rest = rest << 1 | (uint32_t)(*value >> 63);
        *value <<= 1;
        if (rest >= 10) {
            rest -= 10;
            *value |= 1;
        }
    }
    return rest;
}

void console_decimal(uint64_t value)
{
    char digits[21];
    char *first = digits + sizeof digits - 1;

    *first = '\0';
    do {
        *--first = (char)('0' + divide_by_ten(&value));
    } while (value != 0);
    console_text(first);
}

void console_signed(int32_t value)
{
    if (value < 0) {
        send('-');
        value = -value;
    }
    console_decimal((uint32_t)value);
}

void console_hexadecimal(uint32_t value)
{
    for (int shift = 28; shift >= 0; shift -= 4) {
        send("0123456789abcdef"[value >> shift & 15]);
    }
}
