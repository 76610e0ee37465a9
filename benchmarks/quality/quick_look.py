"""The quick look, for choosing: 12 neutral clips of validation voices, seed 0; some five minutes.

usage: python -m benchmarks.quality.quick_look BUNDLE [--corpora DIR] [--kokoro DIR] [--out FILE]

Converts clips of RAVDESS 15-16, nEMO TP0 and held-out Kokoro voices to arousal 1, 4 and 7, happy,
angry and sad. It chooses by the bundle's own emotion head, words, OVRL and own voice; the judges
are printed, never used to choose. Every waveform is heard at one level. A row is added to the table
of trials; real clips stand beside every figure.

prosody alone   --null_emotion
e alone         --request prosody=0
"""

import sys

from benchmarks.quality.clips import KOKORO
from benchmarks.quality.command import Kind, run

QUICK = Kind("quick", "validation", {"ravdess": 4, "nemo": 4, KOKORO: 4}, (0,))

if __name__ == "__main__":
    sys.exit(run(QUICK, __doc__))
