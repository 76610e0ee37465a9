"""The few lengths that utterances are padded to, because every new shape is compiled anew.

It imports nothing: training reads it on machines without audio libraries.
"""

SMALLEST_BUCKET = 32  # frames


def bucket(frames: int) -> int:
    """Returns the padded length for a number of frames: four sizes per octave from 128 on.

    Args:
        frames: 1 or more.

    Returns:
        A multiple of 32, less than a quarter longer beyond 128 frames: 32, 64, 96, 128, 160, 192,
        224, 256, 320, 384, 448, 512, 640 ...
    """
    octave = 1 << max(frames - 1, 1).bit_length() - 1  # greatest power of two below `frames`
    step = max(SMALLEST_BUCKET, octave // 4)
    return -(-frames // step) * step
