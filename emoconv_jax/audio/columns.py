"""The columns of the prosody of a frame, for who reads stored ones without the audio libraries."""

LOG2_F0, VOICING, LOG_ENERGY = range(3)
