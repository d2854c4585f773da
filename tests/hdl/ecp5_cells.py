"""Behavioural models of the ECP5's multiplier and block RAM, for Icarus.

After Lattice Semiconductor, *ECP5 and ECP5-5G Memory Usage Guide* (TN1264), sections on the output
register and on initial contents, and *ECP5 and ECP5-5G sysDSP Usage Guide* (TN1267), MULT18X18D:
what is not used here (resets, shift chains, port B writing) is not modelled, and a parameter that
would make use of it stops the simulation.
"""

from __future__ import annotations

__all__ = ["ecp5_models"]


def names(prefix: str, count: int) -> str:
    """Return the names of a bus of single pins, as a concatenation has them."""
    return ", ".join(f"{prefix}{pin}" for pin in reversed(range(count)))


def ecp5_models() -> str:
    """Return the Verilog of MULT18X18D and DP16KD."""
    initial = "\n".join(f"    parameter [319:0] INITVAL_{i:02X} = 0;" for i in range(64))
    rows = "\n".join(
        f"        for (i = 0; i < 16; i = i + 1) "
        f"rows[{16 * part} + i] = INITVAL_{part:02X}[20 * i +: 18];"
        for part in range(64)
    )
    stages = ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
    registers = "\n".join(
        f'    parameter REG_{s}_CLK = "NONE"; parameter REG_{s}_CE = "CE0"; '
        f'parameter REG_{s}_RST = "RST0";'
        for s in stages
    )
    wrong = " || ".join(f'REG_{s}_CLK != "CLK0"' for s in stages)
    return f"""
module MULT18X18D(
    input {names("A", 18)}, input {names("B", 18)}, input {names("C", 18)},
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
    output {names("P", 36)}
);
{registers}
    parameter SOURCEB_MODE = "B_SHIFT"; parameter RESETMODE = "SYNC"; parameter GSR = "ENABLED";
    initial if ({wrong} || SOURCEA || SOURCEB) begin
        $display("MULT18X18D: not modelled"); $finish;
    end
    wire [17:0] a = {{{names("A", 18)}}}, b = {{{names("B", 18)}}};
    reg [17:0] ra, rb;
    reg [35:0] pipeline, result;
    // Operands are 18 bits, signed or not, so products fit 36.
    wire [35:0] wide_a = {{{{18{{SIGNEDA & ra[17]}}}}, ra}};
    wire [35:0] wide_b = {{{{18{{SIGNEDB & rb[17]}}}}, rb}};
    always @(posedge CLK0) if (CE0) begin
        ra <= a; rb <= b; pipeline <= wide_a * wide_b; result <= pipeline;
    end
    assign {{{names("P", 36)}}} = result;
endmodule

module DP16KD(
    input {names("DIA", 18)}, input {names("ADA", 14)}, input {names("CSA", 3)},
    input CLKA, CEA, OCEA, WEA, RSTA,
    input {names("DIB", 18)}, input {names("ADB", 14)}, input {names("CSB", 3)},
    input CLKB, CEB, OCEB, WEB, RSTB,
    output {names("DOB", 18)}
);
    parameter DATA_WIDTH_A = 18; parameter DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG"; parameter REGMODE_B = "NOREG";
    parameter WRITEMODE_A = "NORMAL"; parameter WRITEMODE_B = "NORMAL";
    parameter CSDECODE_A = "0b000"; parameter CSDECODE_B = "0b000";
    parameter RESETMODE = "SYNC"; parameter GSR = "ENABLED";
{initial}
    initial if (DATA_WIDTH_A != DATA_WIDTH_B || REGMODE_B != "OUTREG" || WEB || RSTB) begin
        $display("DP16KD: not modelled"); $finish;
    end
    reg [17:0] rows [0:1023];
    integer i;
    initial begin
{rows}
    end
    wire [17:0] data = {{{names("DIA", 18)}}};
    wire [13:0] wa = {{{names("ADA", 14)}}}, ra = {{{names("ADB", 14)}}};
    // The address of a byte of 9 bits is bits 13 to 3; below them are nibbles, pairs and bits of
    // its lower eight, and for words of 18 bits the enables of the two bytes.
    function [4:0] low(input [13:0] address);
        case (DATA_WIDTH_A)
            18: low = 0;
            9: low = 9 * address[3];
            4: low = 9 * address[3] + 4 * address[2];
            2: low = 9 * address[3] + 2 * address[2:1];
            1: low = 9 * address[3] + address[2:0];
        endcase
    endfunction
    reg [17:0] word, answer;
    always @(posedge CLKA) if (CEA && WEA)
        for (i = 0; i < DATA_WIDTH_A; i = i + 1)
            if (DATA_WIDTH_A != 18 || wa[i / 9]) rows[wa[13:4]][low(wa) + i] <= data[i];
    always @(posedge CLKB) begin
        if (CEB) word <= CEA && WEA && wa[13:4] == ra[13:4] && low(wa) == low(ra) ? {{18{{1'bx}}}}
            : (rows[ra[13:4]] >> low(ra)) ^ ({{18{{1'bx}}}} << DATA_WIDTH_B);
        if (OCEB) answer <= word;
    end
    assign {{{names("DOB", 18)}}} = answer;
endmodule
"""
