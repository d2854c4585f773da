/* What runs before C: the stack, and zeros where C expects them. */

    .section .start, "ax"
    .global start
start:
    .option push
    .option norelax /* these addresses are what relaxation counts on */
    la gp, __global_pointer$
    .option pop
    la sp, stack_top
    la a0, zero_begin
    la a1, zero_end
1:
    bgeu a0, a1, 2f
    sw zero, 0(a0)
    addi a0, a0, 4
    j 1b
2:
    call main
3:
    j 3b /* there is nothing to return to */
