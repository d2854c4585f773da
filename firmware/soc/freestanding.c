/* What the compiler may call without being asked, and a libc would have. What is not called is not linked. */

#include <stddef.h>

void *memset(void *target, int value, size_t count);
void *memcpy(void *restrict target, const void *restrict source, size_t count);

/* Or the loops below would be turned into calls of themselves. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

void *memset(void *target, int value, size_t count)
{
    unsigned char *byte = target;

    while (count-- != 0) {
        *byte++ = (unsigned char)value;
    }
    return target;
}

void *memcpy(void *restrict target, const void *restrict source, size_t count)
{
    unsigned char *to = target;
    const unsigned char *from = source;

    while (count-- != 0) {
        *to++ = *from++;
    }
    return target;
}
