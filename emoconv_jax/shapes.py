"""The one legend of array axes, read in every annotation of the package.

Arrays are batch first and channels last. Annotations use jaxtyping's long form, for example
`Float[Array, "b f m"]`; the tests check them with beartype, at run time they cost nothing.

    b   batch: utterances
    f   frames of the log-mel (hop 256 samples at 22 050 Hz = 11.6 ms)
    m   mel bins
    n   samples of a waveform
    c   channels
    d   width of an embedding
    k   conditions of an emotion plan
    s   steps of a solver

A mask is 1.0 on real frames and 0.0 on padding, shape `b f`. `t` is diffusion time in [0, 1]
(0 = data, 1 = noise) and nothing else.
"""

from jaxtyping import Array, Bool, Float, Int, Key, Shaped

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Shaped"]
