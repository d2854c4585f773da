/* siligrad_strerror.c - what the codes mean, and what to do. See siligrad.h. */

#include "siligrad.h"

const char *siligrad_strerror(int code)
{
    static const char *const texts[] = {
        "no error",
        "the bus failed: a callback for reading or writing a word returned an error; check the bus or the line",
        "an argument is missing: pass no NULL pointer, open the device first, and begin a load before it",
        "no siligrad accelerator answers: check the base address, clock and reset, and that the bitstream is loaded",
        "the accelerator is of another version: build the bitstream and this driver from the same release",
        "the accelerator tells of sizes that do not exist: check that every read of the bus gives the word it asks for",
        "this is no siligrad image: load a file that `siligrad compile -o FILE` or `program.save(FILE)` wrote",
        "the image is of another version: compile it again with the release of this driver",
        "the image is compiled for another accelerator: compile it for this one's array, widths and depths",
        "the image has another length than it says, or is too large: copy it again, whole",
        "the image is damaged: its CRC does not match; copy it again",
        "the image contradicts itself or reaches outside the accelerator: copy it again, or compile it again",
        "there is no room for the tensors or the names of the image: pass larger arrays to siligrad_load_begin",
        "no program is loaded: load an image, to its end, without an error",
        "no tensor has this name: look at the names in siligrad.tensors, or load with room for names",
        "there is no such tensor, step or instruction: stay below tensor_count, steps and instructions",
        "a code is outside what the tensor may hold: scale the data, or compile with examples that cover them",
        "a run is going on: wait for its end with siligrad_wait",
        "the accelerator refused an access: let nobody use it during a run; a locked one keeps program and weights",
        "the run has not ended yet: wait for it again, with more polls",
        "the run took longer than promised and was ended: load the image again; if it recurs, build the board again",
        "the run took other cycles than promised: load the image again; if it recurs, build the board again",
        "no run has ended since the start: the accelerator was reset; load the image again",
        "the learning rate cannot be changed so far: use fewer halvings, and a program that updates its parameters",
        "a shift register's state is zero and would stay so: write states that siligrad_read_lfsr gave, or seed them",
        "nothing answers on the line; it is not known whether the last request was done: check cable, port and rate",
        "the board was reset, or another host took it: connect again, load the image, and write a saved state",
        "the board has lost count of the requests: connect again",
        "the board does not understand a request: build the bitstream and this driver from the same release",
    };

    if (code > 0 || code < SILIGRAD_ERROR_LAST) {
        return "no error code of siligrad: pass what a siligrad function returned";
    }
    return texts[-code];
}
