"""The closing look, once per issue of work: 40 neutral clips of test voices, seeds 0 and 1.

usage: python -m benchmarks.quality.closing_look BUNDLE [--corpora DIR] [--kokoro DIR] [--out FILE]

Converts clips of RAVDESS 17-20, nEMO WR0, LJ and held-out Kokoro voices as the quick look does,
heard by both judges. Intervals are clustered by voice.
"""

import sys

from benchmarks.quality.clips import KOKORO
from benchmarks.quality.command import LJ, Kind, run

CLOSING = Kind("closing", "test", {"ravdess": 12, "nemo": 10, LJ: 8, KOKORO: 10}, (0, 1))

if __name__ == "__main__":
    sys.exit(run(CLOSING, __doc__))
