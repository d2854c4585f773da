/* replay.c - give files to a fuzzing target, one after the other: for compilers without libFuzzer. */

#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **paths)
{
    static uint8_t bytes[1 << 17];
    int index;

    for (index = 1; index < count; index++) {
        FILE *file = fopen(paths[index], "rb");
        size_t size;

        if (file == NULL) {
            perror(paths[index]);
            return 1;
        }
        size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        (void)LLVMFuzzerTestOneInput(bytes, size);
    }
    printf("%d files\n", count - 1);
    return 0;
}
