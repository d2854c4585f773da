"""``python -m benchmarks.fuzz``: bytes from others, tried for as long as you like.

Every parser of the Python library is given files, frames and replies that are nearly right; the
link's gateware is given frames that are right, damaged, repeated, old and random, and compared with
a model: the whole of it in Verilator, and its frame decoder in cocotb, with stalls on every side.
The first finding ends it, made as small as can be.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Sequence

from benchmarks.fuzz import frame_decoder, gateware, parsers
from siligrad.errors import SiligradError

__all__ = ["main"]

GATEWARE, FRAMES = "gateware", "frames"

_ROUND_SECONDS = 30.0
"""Of each target in turn, at most."""

_SEEDS = 1_000_003
"""From the seed of one round to that of the next."""


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz until the time is over, and return 0; 1 after a finding, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="in all (3600)")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried (0)")
    names = (*parsers.TARGETS, GATEWARE, FRAMES)
    parser.add_argument(
        "--only", action="append", choices=names, help="this target, perhaps with others"
    )
    options = parser.parse_args(argv)
    if not options.seconds > 0:
        parser.error(f"--seconds must be positive, not {options.seconds:g}")
    warnings.simplefilter("error")  # so that a warning is a finding too
    chosen = [name for name in names if not options.only or name in options.only]
    # The gateware, in one bench and in the other, gets as much time as all parsers together.
    parsing = max(sum(name in parsers.TARGETS for name in chosen), 1)
    shares = {name: 1.0 if name in parsers.TARGETS else parsing / 2 for name in chosen}
    tried = dict.fromkeys(chosen, 0)
    link: gateware.Gateware | None = None
    try:
        if GATEWARE in chosen:
            link = gateware.Gateware()
        deadline = time.monotonic() + options.seconds
        seed = options.seed
        while (left := deadline - time.monotonic()) > 0:
            turn = min(left, _ROUND_SECONDS * len(chosen)) / sum(shares.values())
            for name, share in shares.items():
                found = None
                if name == FRAMES:
                    tried[name] += frame_decoder.fuzz(turn * share, seed)
                elif name != GATEWARE:
                    tried[name] += parsers.fuzz(parsers.TARGETS[name], turn * share, seed)
                elif link is not None:
                    frames, found = gateware.fuzz(link, turn * share, seed)
                    tried[name] += frames
                if found is not None:
                    print(f"benchmarks.fuzz: gateware, seed {seed}: {found}", file=sys.stderr)
                    return 1
            seed += _SEEDS
    except SiligradError as error:
        print(f"benchmarks.fuzz: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001  whatever a parser should not have raised
        traceback.print_exc()
        return 1
    finally:
        if link is not None:
            link.close()
        for name, count in tried.items():
            print(f"{name:<12}{count:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
