"""From audio to audio: encoders by role, sampling, the converter."""
