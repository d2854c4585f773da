// The accelerator behind its host port (docs/spec/host.md), driven by commands on standard input.
//
// A command is a line; what it asks for is printed on lines of its own, and then a line "= ELAPSED UNRECORDED": clock
// cycles since the start, and cycles that are still to be recorded. Numbers are hexadecimal, both ways.
//
//   r ADDRESS COUNT            read COUNT words of the host port
//   w ADDRESS COUNT WORD...    write COUNT words
//   b LIMIT                    wait while busy, for LIMIT cycles at most; prints busy
//   g MEMORY ADDRESS COUNT     print COUNT words of each bank of X, W or E (0, 1, 2), bank after bank
//   p MEMORY ADDRESS COUNT WORD...   put such words
//   v CYCLES                   record this many cycles, in the file of the argument +waveform=FILE; once
//   s                          record no more
//
// A request that is not acknowledged prints "! ADDRESS" and is the last of its command. Accesses of g and p take no
// time but for a few cycles before: they are for when no program runs, and what was written last is still on its way.

`timescale 1ns / 1ps

module harness;
  localparam PATIENCE = 64;  // cycles that the port may take to acknowledge a request
  localparam ON_ITS_WAY = 16;  // cycles after which what was written through the port is where it belongs
  localparam STDIN = 32'h8000_0000;

  reg clk = 0;
  reg rst = 0;
  reg strobe = 0;
  reg write = 0;
  reg [22:0] address = 0;
  reg [31:0] write_data = 0;
  wire [31:0] read_data;
  wire acknowledge;
  wire busy;

  siligrad device (
    .clk(clk),
    .rst(rst),
    .busy(busy),
    .host__strobe(strobe),
    .host__write(write),
    .host__address(address),
    .host__write_data(write_data),
    .host__read_data(read_data),
    .host__acknowledge(acknowledge)
  );

  // As they were at the end of the last cycle.
  reg was_busy;
  reg was_acknowledged;
  reg [31:0] answer;

  reg [63:0] elapsed = 0;
  reg [63:0] unrecorded = 0;

  task cycle;
    begin
      #5;
      was_busy = busy;
      was_acknowledged = acknowledge;
      answer = read_data;
      clk = 1;
      #5 clk = 0;
      elapsed = elapsed + 1;
      if (unrecorded != 0) begin
        unrecorded = unrecorded - 1;
        if (unrecorded == 0) stop_recording;
      end
    end
  endtask

  task stop_recording;
    begin
      $dumpoff;
      $dumpflush;
      unrecorded = 0;
    end
  endtask

  integer waited;

  // One request; `was_acknowledged` tells whether it was answered.
  task request(input writes, input [22:0] at, input [31:0] word);
    begin
      strobe = 1;
      write = writes;
      address = at;
      write_data = word;
      was_acknowledged = 0;
      for (waited = 0; waited < PATIENCE && was_acknowledged !== 1; waited = waited + 1) cycle;
      strobe = 0;
      if (was_acknowledged !== 1) $display("! %h", at);
    end
  endtask

  // The words of the banks, which have no common name: `word` is read from or written to one.
  reg [31:0] word;
  task access(input writes, input integer memory, input integer bank, input integer at);
    case ({memory[1:0], bank[7:0]})
`include "banks.vh"
    endcase
  endtask

  reg [7:0] command;
  reg [31:0] first;
  reg [31:0] count;
  reg [31:0] memory;
  reg [63:0] limit;
  reg [8*4096-1:0] waveform;
  integer read;
  integer index;
  integer bank;

  initial begin
    // Its change makes everything that depends on it be computed, which at the beginning nothing is.
    #1 rst = 1;
    cycle;
    rst = 0;
    while ($fscanf(STDIN, " %c", command) == 1) begin
      case (command)
        "r", "w": begin
          read = $fscanf(STDIN, "%h %h", first, count);
          was_acknowledged = 1;
          for (index = 0; index < count; index = index + 1) begin
            if (command == "w") read = $fscanf(STDIN, "%h", word);
            if (was_acknowledged === 1) begin
              request(command == "w", first + index, word);
              if (command == "r" && was_acknowledged === 1) $display("%h", answer);
            end
          end
        end
        "b": begin
          read = $fscanf(STDIN, "%h", limit);
          was_busy = 1;
          while (limit != 0 && was_busy !== 0) begin
            cycle;
            limit = limit - 1;
          end
          $display("%b", was_busy);
        end
        "g", "p": begin
          read = $fscanf(STDIN, "%h %h %h", memory, first, count);
          repeat (ON_ITS_WAY) cycle;
          for (bank = 0; bank < `BANKS; bank = bank + 1)
            for (index = 0; index < count; index = index + 1) begin
              if (command == "p") read = $fscanf(STDIN, "%h", word);
              access(command == "p", memory, bank, first + index);
              if (command == "g") $display("%h", word);
            end
        end
        "v": begin
          read = $fscanf(STDIN, "%h", unrecorded);
          read = $value$plusargs("waveform=%s", waveform);
          $dumpfile(waveform);
          $dumpvars(0, harness);
        end
        "s": if (unrecorded != 0) stop_recording;
      endcase
      $display("= %h %h", elapsed, unrecorded);
      $fflush;
    end
    $finish;
  end
endmodule
