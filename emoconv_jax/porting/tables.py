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
        EmoconvError: names that are missing, unexpected, doubled or misshaped.
    """
    leaves: Any = flatten_dict(template)
    wanted = {"/".join(path): leaf for path, leaf in leaves.items()}
    filled: dict[str, np.ndarray] = {}
    unexpected, doubled, misshaped = [], [], []
    for name, tensor in tensors.items():
        target, array = _apply(rules, name, tensor)
        if target not in wanted:
            unexpected.append(name)
        elif target in filled:
            doubled.append(name)
        elif tuple(array.shape) != tuple(wanted[target].shape):
            misshaped.append(f"{name} {array.shape}, expected {tuple(wanted[target].shape)}")
        else:
            filled[target] = np.ascontiguousarray(array, dtype=np.float32)
    missing = [name for name in wanted if name not in filled]
    faults = {
        "unexpected": unexpected,
        "used twice": doubled,
        "wrong shape": misshaped,
        "missing": [] if misshaped or doubled else missing,
    }
    if any(faults.values()):
        raise EmoconvError(f"{source}: " + "; ".join(_list(k, v) for k, v in faults.items() if v))
    return unflatten_dict({tuple(path.split("/")): array for path, array in filled.items()})


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
