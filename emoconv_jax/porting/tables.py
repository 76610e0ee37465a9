"""Porting as a table: rules that move named foreign tensors into a Linen parameter tree.

A rule is a regular expression over the foreign name, the target path it expands to, and the layout
change between the two frameworks. Every foreign tensor must be used exactly once and every target
leaf filled exactly once; otherwise the port fails with the lists of what is missing, unexpected
and misshaped.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from emoconv_jax.errors import EmoconvError

# PyTorch axes -> ours, as the argument of numpy's transpose.
LAYOUTS = {
    "keep": None,
    "linear": (1, 0),  # [out, in] -> [in, out]
    "conv1d": (2, 1, 0),  # [out, in, k] -> [k, in, out]
    "conv2d": (2, 3, 1, 0),  # [out, in, h, w] -> [h, w, in, out]
    "transposed1d": (2, 0, 1),  # [in, out, k] -> [k, in, out]
    "transposed2d": (2, 3, 0, 1),  # [in, out, h, w] -> [h, w, in, out]
}
# How g and v are called by torch.nn.utils.weight_norm, and by the parametrization that follows it
NORMALISED = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)
LISTED = 8  # names shown of a long list


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of a porting table.

    Attributes:
        pattern: regular expression that must match the whole foreign name.
        target: '/'-separated path in the parameter tree; may use the pattern's groups (`\\1`).
        layout: a key of LAYOUTS.
    """

    pattern: str
    target: str
    layout: str = "keep"


def layer(pattern: str, target: str, layout: str) -> tuple[Rule, Rule]:
    """Returns the rows of a layer's weight and bias.

    Args:
        pattern: of the layer's own name; its dots are escaped.
        target: path of the layer.
        layout: of the weight.
    """
    return (
        Rule(pattern + r"\.weight", target + "/kernel", layout),
        Rule(pattern + r"\.bias", target + "/bias"),
    )


def norm(
    pattern: str, target: str, scale: str = "weight", offset: str = "bias"
) -> tuple[Rule, Rule]:
    """Returns the rows of a normalisation's scale and offset.

    Args:
        pattern: of its own name; its dots are escaped.
        target: its path.
        scale: what the foreign side calls the scale.
        offset: what it calls the offset.
    """
    return (
        Rule(rf"{pattern}\.{scale}", target + "/scale"),
        Rule(rf"{pattern}\.{offset}", target + "/bias"),
    )


def port(
    tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], template: Any, source: str
) -> dict[str, Any]:
    """Returns a parameter tree shaped like `template`, filled from `tensors`.

    Args:
        tensors: foreign name -> array; all of them must be used.
        rules: the first rule that matches a name is applied.
        template: nested dict of arrays or `jax.ShapeDtypeStruct`, as `jax.eval_shape` gives it.
        source: what the tensors come from, for messages.

    Returns:
        The nested dict, float32.

    Raises:
        EmoconvError: names that are missing, unexpected, doubled or misshaped, or values that
            float32 cannot hold.
    """
    leaves: Any = flatten_dict(template)
    wanted = {"/".join(path): leaf for path, leaf in leaves.items()}
    filled: dict[str, np.ndarray] = {}
    unexpected, doubled, misshaped, endless = [], [], [], []
    for name, tensor in tensors.items():
        target, array = _apply(rules, name, tensor)
        if target not in wanted:
            unexpected.append(shown(name))
        elif target in filled:
            doubled.append(shown(name))
        elif tuple(array.shape) != tuple(wanted[target].shape):
            found, needed = tuple(array.shape), tuple(wanted[target].shape)
            misshaped.append(f"{shown(name)} {found!r:.80}, expected {needed}")
        else:
            with np.errstate(over="ignore"):
                filled[target] = np.ascontiguousarray(array, dtype=np.float32)
            if not np.isfinite(filled[target]).all():
                endless.append(shown(name))
    missing = [name for name in wanted if name not in filled]
    faults = {
        "unexpected": unexpected,
        "used twice": doubled,
        "wrong shape": misshaped,
        "not finite in float32": endless,
        "missing": [] if misshaped or doubled else missing,
    }
    if any(faults.values()):
        raise EmoconvError(f"{source}: " + "; ".join(_list(k, v) for k, v in faults.items() if v))
    return unflatten_dict({tuple(path.split("/")): array for path, array in filled.items()})


def shown(name: str) -> str:
    """Returns a foreign name as a message may print it: escaped, at most 80 characters."""
    return repr(name)[1:-1][:80]


def shape_of(
    tensors: Mapping[str, np.ndarray], name: str, axes: int, source: str
) -> tuple[int, ...]:
    """Returns the shape of a tensor that sizes are read off.

    Args:
        tensors: foreign name -> array.
        name: of the tensor.
        axes: how many it must have.
        source: what the tensors come from, for messages.

    Raises:
        EmoconvError: it is missing, or of another number of axes, or empty.
    """
    if name not in tensors:
        raise EmoconvError(f"{source}: missing: {name}; this is another kind of checkpoint")
    shape = tensors[name].shape
    if len(shape) != axes or 0 in shape:
        raise EmoconvError(f"{source}: {name} has shape {shape!r:.80}, expected {axes} axes")
    return shape


def count_of(tensors: Mapping[str, np.ndarray], stem: str) -> int:
    """Returns how many different numbers follow a stem in the tensors' names.

    Args:
        tensors: foreign name -> array.
        stem: as "encoder.layers".
    """
    rest = [name.removeprefix(stem + ".") for name in tensors if name.startswith(stem + ".")]
    return len({name.split(".")[0] for name in rest})


def fold_weight_norm(
    tensors: Mapping[str, np.ndarray], source: str = "weights"
) -> dict[str, np.ndarray]:
    """Returns the tensors with every pair (g, v) replaced by the weight w = g v / ||v||.

    The norm is over all axes but the one that g has a number for each index of. It is taken in
    float64.

    Args:
        tensors: foreign name -> array.
        source: what the tensors come from, for messages.

    Returns:
        Tensors named `*.weight` in place of the pairs; all others as they are.

    Raises:
        EmoconvError: a g without its v, the reverse, a g that is not one number per index of one
            axis, or a pair beside a weight of its name.

    Source: Salimans and Kingma 2016 (arXiv 1602.07868), eq. 2.
    """
    folded = dict(tensors)
    for g_suffix, v_suffix in NORMALISED:
        stems = {
            name.removesuffix(suffix)
            for name in tensors
            for suffix in (g_suffix, v_suffix)
            if name.endswith(suffix)
        }
        for stem in sorted(stems):
            g, v = folded.pop(stem + g_suffix, None), folded.pop(stem + v_suffix, None)
            if g is None or v is None:
                lacking = stem + (g_suffix if g is None else v_suffix)
                raise EmoconvError(f"{source}: {shown(lacking)} is missing beside its pair")
            fitting = [axis for axis in range(v.ndim) if g.shape == _kept(v.shape, axis)]
            if not fitting:
                raise EmoconvError(
                    f"{source}: {shown(stem + g_suffix)} {g.shape!r:.80} beside {v.shape!r:.80}"
                )
            if stem + ".weight" in folded:
                raise EmoconvError(f"{source}: {shown(stem)}.weight is there twice, once as a pair")
            folded[stem + ".weight"] = _scaled(g, v, fitting[0])
    return folded


def _kept(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Returns the shape of a norm over all axes but one."""
    return (1,) * axis + shape[axis : axis + 1] + (1,) * (len(shape) - axis - 1)


def _scaled(g: np.ndarray, v: np.ndarray, axis: int) -> np.ndarray:
    wide = v.astype(np.float64)
    others = tuple(other for other in range(v.ndim) if other != axis)
    norm = np.sqrt(np.sum(np.square(wide), axis=others, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # `port` names what is odd
        return (g * (wide / norm)).astype(np.float32)


def _apply(rules: Sequence[Rule], name: str, tensor: np.ndarray) -> tuple[str | None, np.ndarray]:
    """Returns the target path and the array in our layout; (None, tensor) if no rule matches."""
    for rule in rules:
        match = re.fullmatch(rule.pattern, name)
        if match:
            axes = LAYOUTS[rule.layout]
            fits = axes is None or len(axes) == tensor.ndim
            return match.expand(rule.target), tensor.transpose(axes) if axes and fits else tensor
    return None, tensor


def _list(title: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{title}: {', '.join(names[:LISTED])}{more}"
