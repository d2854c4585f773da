"""A behavioural model of Nexus' block RAM, for Icarus; Yosys has one of its multiplier.

After Lattice Semiconductor, *Memory Usage Guide for Nexus Platform* (FPGA-TN-02094), pseudo dual
port memory of one clock: ports, byte enables, initial contents. What is not used here (the output
register, resets, error correction, ports of different or of 36 bits) is not modelled, and what
would make use of it stops the simulation.
"""

from __future__ import annotations

__all__ = ["nexus_models"]

_LINES = 64  # parameters with initial contents
_BYTES = 32  # in each of them, of 9 bits, 10 bits apart


def nexus_models() -> str:
    """Return the Verilog of PDPSC16K."""
    # The parameters are strings: 0x and 80 digits, of which a digit is a byte of a string.
    initial = "\n".join(f'    parameter INITVAL_{i:02X} = "0x{"0" * 80}";' for i in range(_LINES))
    load = "\n".join(
        f"        line = value(INITVAL_{number:02X}); "
        f"for (i = 0; i < {_BYTES}; i = i + 1) bytes[{_BYTES * number} + i] = line[10 * i +: 9];"
        for number in range(_LINES)
    )
    return f"""
module PDPSC16K(
    input [35:0] DI, input [13:0] ADW, ADR, input CLK, CER, CEW, input [2:0] CSW, CSR, input RST,
    output [35:0] DO, output ONEBITERR, TWOBITERR
);
    parameter DATA_WIDTH_W = "X36"; parameter DATA_WIDTH_R = "X36"; parameter OUTREG = "BYPASSED";
    parameter RESETMODE = "SYNC"; parameter ASYNC_RST_RELEASE = "SYNC"; parameter GSR = "ENABLED";
    parameter CSDECODE_W = "000"; parameter CSDECODE_R = "000"; parameter ECC = "DISABLED";
{initial}
    localparam WIDTH = DATA_WIDTH_W == "X18" ? 18 : DATA_WIDTH_W == "X9" ? 9
        : DATA_WIDTH_W == "X4" ? 4 : DATA_WIDTH_W == "X2" ? 2 : DATA_WIDTH_W == "X1" ? 1 : 0;
    initial if (WIDTH == 0 || DATA_WIDTH_W != DATA_WIDTH_R || OUTREG != "BYPASSED"
                || ECC != "DISABLED" || CSDECODE_W != "111" || CSDECODE_R != "111") begin
        $display("PDPSC16K: not modelled"); $finish;
    end
    always @(posedge CLK) if (RST) begin
        $display("PDPSC16K: not modelled"); $finish;
    end
    function [319:0] value(input [655:0] text);
        integer digit;
        for (digit = 0; digit < 80; digit = digit + 1)
            value[4 * digit +: 4] = text[8 * digit + 6] ? text[8 * digit +: 4] + 9
                : text[8 * digit +: 4];
    endfunction
    reg [8:0] bytes [0:2047];
    reg [319:0] line;
    integer i;
    initial begin
{load}
    end
    // An address is that of a byte, and below it that of a bit: of words of several bits it leaves
    // pins over, and those of two bytes are enabled by the lowest two.
    localparam PER_BYTE = WIDTH < 9 ? WIDTH : 9, SKIPPED = WIDTH > 9 ? 1 : 0;
    function [10:0] first(input [13:0] address);
        first = address[13:3] >> SKIPPED << SKIPPED;
    endfunction
    function [2:0] below(input [13:0] address);
        below = WIDTH < 8 ? address[2:0] / WIDTH * WIDTH : 0;
    endfunction
    wire writes = CEW && CSW == 3'b111, reads = CER && CSR == 3'b111;
    wire same = writes && first(ADW) == first(ADR) && below(ADW) == below(ADR);
    reg [35:0] answer;
    always @(posedge CLK) begin
        if (writes)
            for (i = 0; i < WIDTH; i = i + 1) if (WIDTH <= 9 || ADW[i / 9])
                bytes[first(ADW) + i / PER_BYTE][below(ADW) + i % PER_BYTE] <= DI[i];
        if (reads)
            for (i = 0; i < 36; i = i + 1)
                answer[i] <= i >= WIDTH || same ? 1'bx
                    : bytes[first(ADR) + i / PER_BYTE][below(ADR) + i % PER_BYTE];
    end
    assign DO = answer;
endmodule
"""
