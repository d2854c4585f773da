"""Behavioural models of Gowin's multiplier and block RAM, for Icarus.

After Gowin Semiconductor, *BSRAM & SSRAM User Guide* (UG285), semi-dual-port mode: ports, bypass
mode, byte enables, initial contents; and *Digital Signal Processing (DSP) User Guide* (UG287),
MULT18X18. What is not used here (pipeline mode, resets, shift chains, words of 32 bits and more) is
not modelled, and what would make use of it stops the simulation.
"""

from __future__ import annotations

__all__ = ["gowin_models"]

_LINES = 64  # parameters with initial contents
_BYTES = 32  # in each of them

_MULTIPLIER = """
module MULT18X18(
    input [17:0] A, B, SIA, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
    output [35:0] DOUT, output [17:0] SOA, SOB
);
    parameter AREG = 0; parameter BREG = 0; parameter PIPE_REG = 0; parameter OUT_REG = 0;
    parameter ASIGN_REG = 0; parameter BSIGN_REG = 0; parameter SOA_REG = 0;
    parameter MULT_RESET_MODE = "SYNC";
    initial if (ASIGN_REG || BSIGN_REG) begin
        $display("MULT18X18: not modelled"); $finish;
    end
    always @(posedge CLK) if (ASEL || BSEL || RESET) begin
        $display("MULT18X18: not modelled"); $finish;
    end
    reg [17:0] a_register, b_register;
    reg [35:0] pipe, out;
    wire [17:0] a = AREG ? a_register : A, b = BREG ? b_register : B;
    // Operands are 18 bits, signed or not, so products fit 36.
    wire [35:0] product = {{18{ASIGN & a[17]}}, a} * {{18{BSIGN & b[17]}}, b};
    wire [35:0] piped = PIPE_REG ? pipe : product;
    always @(posedge CLK) if (CE) begin
        a_register <= A; b_register <= B; pipe <= product; out <= piped;
    end
    assign DOUT = OUT_REG ? out : piped;
endmodule
"""


def _memory(name: str, byte: int) -> str:
    """Return the block of bytes of `byte` bits, 8 or 9."""
    line, word = _BYTES * byte, 4 * byte
    initial = "\n".join(
        f"    parameter [{line - 1}:0] INIT_RAM_{i:02X} = 0;" for i in range(_LINES)
    )
    load = "\n".join(
        f"        for (i = 0; i < {_BYTES}; i = i + 1) "
        f"bytes[{_BYTES * line_number} + i] = INIT_RAM_{line_number:02X}[{byte} * i +: {byte}];"
        for line_number in range(_LINES)
    )
    return f"""
module {name}(
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, input [13:0] ADA, ADB,
    input [{word - 1}:0] DI, input [2:0] BLKSELA, BLKSELB, output [{word - 1}:0] DO
);
    parameter READ_MODE = 1'b0; parameter BIT_WIDTH_0 = {word}; parameter BIT_WIDTH_1 = {word};
    parameter BLK_SEL_0 = 3'b000; parameter BLK_SEL_1 = 3'b000; parameter RESET_MODE = "SYNC";
{initial}
    initial if (READ_MODE || BIT_WIDTH_0 != BIT_WIDTH_1 || BIT_WIDTH_0 > {2 * byte}
                || {int(byte == 9)} != (BIT_WIDTH_0 % 9 == 0)) begin
        $display("{name}: not modelled"); $finish;
    end
    always @(posedge CLKA) if (RESETA || RESETB) begin
        $display("{name}: not modelled"); $finish;
    end
    reg [{byte - 1}:0] bytes [0:2047];
    integer i;
    initial begin
{load}
    end
    // An address is that of a byte, and below it that of a bit: of words of several bits it leaves
    // pins over, and those of two bytes are enabled by the lowest two.
    localparam WIDTH = BIT_WIDTH_0, PER_BYTE = WIDTH < {byte} ? WIDTH : {byte};
    localparam SKIPPED = WIDTH > {byte} ? 1 : 0;
    function [10:0] first(input [13:0] address);
        first = address[13:3] >> SKIPPED << SKIPPED;
    endfunction
    function [2:0] below(input [13:0] address);
        below = WIDTH < 8 ? address[2:0] / WIDTH * WIDTH : 0;
    endfunction
    wire writes = CEA && BLKSELA == BLK_SEL_0, reads = CEB && BLKSELB == BLK_SEL_1;
    wire same = writes && first(ADA) == first(ADB) && below(ADA) == below(ADB);
    reg [{word - 1}:0] answer;
    always @(posedge CLKA) if (writes)
        for (i = 0; i < WIDTH; i = i + 1) if (WIDTH <= {byte} || ADA[i / {byte}])
            bytes[first(ADA) + i / PER_BYTE][below(ADA) + i % PER_BYTE] <= DI[i];
    always @(posedge CLKB) if (reads)
        for (i = 0; i < {word}; i = i + 1)
            answer[i] <= i >= WIDTH || same ? 1'bx
                : bytes[first(ADB) + i / PER_BYTE][below(ADB) + i % PER_BYTE];
    assign DO = answer;
endmodule
"""


def gowin_models() -> str:
    """Return the Verilog of MULT18X18, SDPB and SDPX9B."""
    return _MULTIPLIER + _memory("SDPB", 8) + _memory("SDPX9B", 9)
