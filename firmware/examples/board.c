/* board.c - train on a siligrad board from Linux: load an image, write tensors from text files, run, read tensors back.
 *
 *     cc -std=c99 -O2 -I firmware/include -o board firmware/examples/board.c firmware/src/siligrad*.c -lm
 *     ./board /dev/ttyUSB0 step.sgp                                  # what is in the image
 *     ./board /dev/ttyUSB0 step.sgp --write x=x.txt --write y=y.txt --runs 100 --read 'params[0][0]=weights.txt'
 *
 * A text file has numbers with white space or commas between them: a tensor's rows one after the other, for a tensor
 * that moves those of each step. "-" is the standard input or output. `./board --help` has the rest. */

#define _DEFAULT_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "siligrad.h"
#include "siligrad_link.h"

#define TENSORS_MAX 1024
#define NAMES_MAX 65536
#define TRANSFERS_MAX 64
#define SILENCE_MS 500 /* after which a request is sent again */
#define ATTEMPTS 20
#define POLLS 1000000

static const char usage[] =
    "usage: board PORT IMAGE [options]\n"
    "  --write NAME=FILE   write a tensor before the first run (again for others)\n"
    "  --read NAME=FILE    read a tensor after the last run\n"
    "  --runs N            how often the program is run; 1 if something is written or read, else 0\n"
    "  --seed S            where stochastic rounding starts, 0 unless said otherwise; as --seed in Python\n"
    "  --slower K          halve the learning rate K times\n"
    "  --attach            the board has the image already: go on with what it holds\n"
    "  --baud B            of the line, 1000000 unless the board says otherwise\n";

/* One line on the standard error, and the end. */
static void give_up(const char *format, ...)
{
    va_list arguments;

    fputs("board: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static int checked(const char *what, int code)
{
    if (code < 0) {
        give_up("%s: %s", what, siligrad_strerror(code));
    }
    return code;
}

/* The serial port. */

struct port {
    int file;
    size_t next, end; /* of what was received and not taken */
    uint8_t bytes[4096];
};

static int send_bytes(void *context, const uint8_t *bytes, uint32_t count)
{
    const struct port *port = (const struct port *)context;

    while (count != 0) {
        ssize_t sent = write(port->file, bytes, count);

        if (sent < 0 && errno != EINTR) {
            return -1;
        }
        if (sent > 0) {
            bytes += sent;
            count -= (uint32_t)sent;
        }
    }
    return 0;
}

static int receive_byte(void *context, uint8_t *byte)
{
    struct port *port = (struct port *)context;

    if (port->next == port->end) {
        struct pollfd waiting = {port->file, POLLIN, 0};
        ssize_t came;
        int ready = poll(&waiting, 1, SILENCE_MS);

        if (ready == 0 || (ready < 0 && errno == EINTR)) {
            return 0;
        }
        came = ready < 0 ? -1 : read(port->file, port->bytes, sizeof port->bytes);
        if (came <= 0) {
            return -1; /* unplugged */
        }
        port->next = 0;
        port->end = (size_t)came;
    }
    *byte = port->bytes[port->next++];
    return 1;
}

static speed_t speed_of(long baud)
{
    static const struct {
        long baud;
        speed_t speed;
    } speeds[] = {{9600, B9600},       {19200, B19200},     {38400, B38400},     {57600, B57600},
                  {115200, B115200},   {230400, B230400},   {460800, B460800},   {500000, B500000},
                  {921600, B921600},   {1000000, B1000000}, {2000000, B2000000}, {3000000, B3000000}};
    size_t index;

    for (index = 0; index < sizeof speeds / sizeof speeds[0]; index++) {
        if (speeds[index].baud == baud) {
            return speeds[index].speed;
        }
    }
    give_up("%ld baud is no usual rate; 115200 and 1000000 are", baud);
    return B0;
}

static void open_port(struct port *port, const char *name, long baud)
{
    struct termios settings;
    speed_t speed = speed_of(baud);

    port->next = port->end = 0;
    port->file = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (port->file < 0 || ioctl(port->file, TIOCEXCL) < 0 || tcgetattr(port->file, &settings) < 0) {
        give_up("%s cannot be opened as a serial port: %s", name, strerror(errno));
    }
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cflag &= ~(tcflag_t)(CSTOPB | PARENB | CRTSCTS);
    if (cfsetspeed(&settings, speed) < 0 || tcsetattr(port->file, TCSANOW, &settings) < 0 ||
        tcflush(port->file, TCIOFLUSH) < 0) {
        give_up("%s cannot be set to %ld baud: %s", name, baud, strerror(errno));
    }
}

/* Another number each time, never zero. */
static uint32_t new_session(void)
{
    uint32_t session = (uint32_t)getpid();
    FILE *file = fopen("/dev/urandom", "rb");

    if (file != NULL) {
        if (fread(&session, sizeof session, 1, file) != 1) {
            session = (uint32_t)getpid();
        }
        fclose(file);
    }
    return session != 0 ? session : 1;
}

/* The image. */

static struct siligrad_tensor tensors[TENSORS_MAX];
static char names[NAMES_MAX];

static void load_image(struct siligrad *device, const char *path, enum siligrad_load_mode mode)
{
    static uint8_t bytes[4096];
    struct siligrad_loader loader;
    FILE *file = fopen(path, "rb");
    size_t count;

    if (file == NULL) {
        give_up("%s cannot be opened: %s", path, strerror(errno));
    }
    checked(path, siligrad_load_begin(&loader, device, mode, tensors, TENSORS_MAX, names, NAMES_MAX));
    while ((count = fread(bytes, 1, sizeof bytes, file)) != 0) {
        checked(path, siligrad_load(&loader, bytes, (uint32_t)count));
    }
    if (ferror(file)) {
        give_up("%s cannot be read: %s", path, strerror(errno));
    }
    fclose(file);
    checked(path, siligrad_load_end(&loader));
}

static void list_tensors(const struct siligrad *device)
{
    static const char *const roles[] = {"input", "resident", "constant", "temporary", "output"};
    uint32_t index;

    printf("%lu instructions, %lu steps a run, %llu cycles exactly\n", (unsigned long)device->instructions,
           (unsigned long)device->steps, (unsigned long long)device->cycles);
    for (index = 0; index < device->tensor_count; index++) {
        const struct siligrad_tensor *tensor = &device->tensors[index];

        printf("  %-9s %5lu x %-5lu %s\n", roles[tensor->role], (unsigned long)tensor->rows,
               (unsigned long)tensor->columns, device->names + tensor->name);
    }
}

/* Values and codes: docs/spec/numerics.md. */

static double value_of_code(const struct siligrad_tensor *tensor)
{
    double scale;

    memcpy(&scale, &tensor->scale, sizeof scale);
    return ldexp(scale, -(int)tensor->fraction);
}

static int16_t encode(const struct siligrad_tensor *tensor, double value, const char *path, unsigned long number)
{
    double code = rint(value / value_of_code(tensor)); /* ties to even, which is how processors start */

    if (!isfinite(value)) {
        give_up("%s: number %lu is not finite", path, number);
    }
    if (fabs(code) > tensor->limit) {
        /* What stays in the device saturates, as an update would; half a code is no more than rounding. */
        if (tensor->role == SILIGRAD_INPUT && fabs(value) > (tensor->limit + 0.5) * fabs(value_of_code(tensor))) {
            give_up("%s: number %lu is %g, but the program was compiled for magnitudes up to %g", path, number, value,
                    tensor->limit * fabs(value_of_code(tensor)));
        }
        code = copysign(tensor->limit, code);
    }
    return (int16_t)code;
}

/* Text files. */

struct transfer {
    const char *name, *path;
};

static struct transfer parse_transfer(char *argument)
{
    struct transfer result;
    char *equals = strrchr(argument, '=');

    if (equals == NULL) {
        give_up("%s must be NAME=FILE", argument);
    }
    *equals = '\0';
    result.name = argument;
    result.path = equals + 1;
    return result;
}

static uint32_t find(const struct siligrad *device, const char *name, uint32_t *steps)
{
    uint32_t index = (uint32_t)checked(name, siligrad_find_tensor(device, name));

    *steps = (device->tensors[index].flags & SILIGRAD_MOVES) != 0 ? device->steps : 1;
    return index;
}

static int16_t *make_room(const struct siligrad_tensor *tensor)
{
    int16_t *codes = (int16_t *)malloc((size_t)tensor->rows * tensor->columns * sizeof *codes);

    if (codes == NULL) {
        give_up("there is no memory for a tensor of %lu x %lu", (unsigned long)tensor->rows,
                (unsigned long)tensor->columns);
    }
    return codes;
}

static void write_tensor(struct siligrad *device, const struct transfer *transfer)
{
    uint32_t steps, step, index = find(device, transfer->name, &steps);
    const struct siligrad_tensor *tensor = &device->tensors[index];
    size_t count = (size_t)tensor->rows * tensor->columns, at;
    int16_t *codes = make_room(tensor);
    FILE *file = strcmp(transfer->path, "-") == 0 ? stdin : fopen(transfer->path, "r");
    double value;

    if (file == NULL) {
        give_up("%s cannot be opened: %s", transfer->path, strerror(errno));
    }
    for (step = 0; step < steps; step++) {
        for (at = 0; at < count; at++) {
            unsigned long number = (unsigned long)(step * count + at + 1);

            if (fscanf(file, " %lf%*[ ,\t\r\n]", &value) != 1) {
                give_up("%s: there is no number %lu; %s takes %lu", transfer->path, number, transfer->name,
                        (unsigned long)(steps * count));
            }
            codes[at] = encode(tensor, value, transfer->path, number);
        }
        checked(transfer->path, siligrad_write_tensor(device, index, step, codes, (ptrdiff_t)tensor->columns, 1));
    }
    if (fscanf(file, " %lf", &value) == 1 || !feof(file)) {
        give_up("%s: something follows the %lu numbers of %s", transfer->path, (unsigned long)(steps * count),
                transfer->name);
    }
    if (file != stdin) {
        fclose(file);
    }
    free(codes);
}

static void read_tensor(struct siligrad *device, const struct transfer *transfer)
{
    uint32_t steps, step, index = find(device, transfer->name, &steps);
    const struct siligrad_tensor *tensor = &device->tensors[index];
    size_t count = (size_t)tensor->rows * tensor->columns, at;
    int16_t *codes = make_room(tensor);
    FILE *file = strcmp(transfer->path, "-") == 0 ? stdout : fopen(transfer->path, "w");

    if (file == NULL) {
        give_up("%s cannot be opened: %s", transfer->path, strerror(errno));
    }
    for (step = 0; step < steps; step++) {
        checked(transfer->name, siligrad_read_tensor(device, index, step, codes, (ptrdiff_t)tensor->columns, 1));
        for (at = 0; at < count; at++) {
            double value = codes[at] * value_of_code(tensor);

            if ((tensor->flags & SILIGRAD_MAGNITUDE) != 0) {
                value = fabs(value);
            }
            fprintf(file, "%.17g%c", value, (at + 1) % tensor->columns == 0 ? '\n' : ' ');
        }
    }
    if (fflush(file) != 0 || ferror(file) || (file != stdout && fclose(file) != 0)) {
        give_up("%s cannot be written: %s", transfer->path, strerror(errno));
    }
    free(codes);
}

static void report_runs(struct siligrad *device, long runs)
{
    uint64_t cycles, saturated = 0;
    uint32_t *counts = (uint32_t *)malloc(device->instructions * sizeof *counts), index;

    if (counts == NULL) {
        give_up("there is no memory for %lu counters", (unsigned long)device->instructions);
    }
    checked("cycles", siligrad_read_cycles(device, &cycles));
    checked("saturations", siligrad_read_saturations(device, counts, device->instructions));
    for (index = 0; index < device->instructions; index++) {
        saturated += counts[index];
    }
    free(counts);
    printf("%ld runs, %llu cycles each; the last one saturated %llu elements\n", runs, (unsigned long long)cycles,
           (unsigned long long)saturated);
}

static long number_of(const char *text)
{
    char *end;
    long number = strtol(text, &end, 10);

    if (end == text || *end != '\0') {
        give_up("%s is no number", text);
    }
    return number;
}

int main(int count, char **arguments)
{
    static struct port port;
    static struct siligrad_link link;
    struct siligrad_line line = {&port, send_bytes, receive_byte};
    struct siligrad_bus bus;
    struct siligrad device;
    struct transfer writes[TRANSFERS_MAX], reads[TRANSFERS_MAX];
    size_t write_count = 0, read_count = 0, index;
    long baud = 1000000, runs = -1, seed = 0, slower = 0, run;
    enum siligrad_load_mode mode = SILIGRAD_WRITE;
    int at;

    if (count < 3 || arguments[1][0] == '-') {
        fputs(usage, count == 2 && strcmp(arguments[1], "--help") == 0 ? stdout : stderr);
        return count == 2 && strcmp(arguments[1], "--help") == 0 ? 0 : 1;
    }
    for (at = 3; at < count; at++) {
        char *value = at + 1 < count ? arguments[at + 1] : NULL;

        if (strcmp(arguments[at], "--attach") == 0) {
            mode = SILIGRAD_ATTACH;
            continue;
        }
        if (value == NULL || write_count == TRANSFERS_MAX || read_count == TRANSFERS_MAX) {
            give_up("%s needs something behind it, or is one too many", arguments[at]);
        }
        if (strcmp(arguments[at], "--write") == 0) {
            writes[write_count++] = parse_transfer(value);
        } else if (strcmp(arguments[at], "--read") == 0) {
            reads[read_count++] = parse_transfer(value);
        } else if (strcmp(arguments[at], "--runs") == 0) {
            runs = number_of(value);
        } else if (strcmp(arguments[at], "--seed") == 0) {
            seed = number_of(value);
        } else if (strcmp(arguments[at], "--slower") == 0) {
            slower = number_of(value);
        } else if (strcmp(arguments[at], "--baud") == 0) {
            baud = number_of(value);
        } else {
            give_up("there is no option %s; board --help has those that there are", arguments[at]);
        }
        at++;
    }
    if (runs < 0) {
        runs = write_count + read_count != 0;
    }

    open_port(&port, arguments[1], baud);
    checked(arguments[1], siligrad_link_open(&link, &line, new_session(), ATTEMPTS));
    siligrad_link_bus(&link, &bus);
    checked(arguments[1], siligrad_open(&device, &bus));
    printf("%s: an array of %lu x %lu\n", arguments[1], (unsigned long)device.array, (unsigned long)device.array);
    load_image(&device, arguments[2], mode);
    list_tensors(&device);
    if (mode == SILIGRAD_WRITE) {
        checked(arguments[1], siligrad_seed(&device, (uint64_t)seed));
    }
    if (slower != 0) {
        checked("--slower", siligrad_slow(&device, slower > 100 || slower < -100 ? 100 : (int)slower));
    }
    for (index = 0; index < write_count; index++) {
        write_tensor(&device, &writes[index]);
    }
    for (run = 0; run < runs; run++) {
        checked("the run", siligrad_run(&device, POLLS));
    }
    if (runs > 0) {
        report_runs(&device, runs);
    }
    for (index = 0; index < read_count; index++) {
        read_tensor(&device, &reads[index]);
    }
    printf("%lu requests were sent again\n", (unsigned long)link.resent);
    return 0;
}
