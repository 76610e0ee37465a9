"""What a Hugging Face `config.json` tells of a network's sizes: a foreign file, field by field."""

from collections.abc import Mapping
from typing import Any

from emoconv_jax.errors import EmoconvError

LONGEST_LIST = 16
Limits = tuple[float | int, float | int]


def check_only(hf_config: Any, only: Mapping[str, Any], source: str) -> None:
    """Refuses a configuration that asks for what is not built here.

    Args:
        hf_config: what `json.load` gave.
        only: field -> the one value allowed, which leaving the field out means too.
        source: the file's name, for messages.

    Raises:
        EmoconvError: no object, or another value; by the file's own name for it.
    """
    if not isinstance(hf_config, dict):
        raise EmoconvError(f"{source}: found {type(hf_config).__name__}, expected an object")
    for name, allowed in only.items():
        found = hf_config.get(name, allowed)
        if type(found) is not type(allowed) or found != allowed:
            raise EmoconvError(f"{source}: {name}: found {found!r:.40}, allowed is {allowed!r}")


def fields_of(
    hf_config: Mapping[str, Any],
    sizes: Mapping[str, tuple[str, Any]],
    limits: Mapping[str, Limits],
    source: str,
) -> dict[str, Any]:
    """Returns the fields of one of our configurations.

    Args:
        hf_config: a JSON object.
        sizes: Hugging Face's name -> ours, and the value that leaving the name out means.
        limits: Hugging Face's name -> least and greatest value, of a list those of its entries.
        source: the file's name, for messages.

    Returns:
        Our name -> value, of the type of the value for a name left out.

    Raises:
        EmoconvError: a value of the wrong type or out of range; by the file's own name for it.
    """
    return {
        ours: _value(f"{source}: {name}", hf_config.get(name, default), default, limits.get(name))
        for name, (ours, default) in sizes.items()
    }


def _value(where: str, found: Any, default: Any, limits: Limits | None) -> Any:
    """Returns a field's value in the type of its default, within the limits."""
    if isinstance(default, tuple):
        if not isinstance(found, (list, tuple)) or not 1 <= len(found) <= LONGEST_LIST:
            raise EmoconvError(
                f"{where}: found {found!r:.40}, allowed is a list of 1 to {LONGEST_LIST} numbers"
            )
        return tuple(
            _value(f"{where}[{i}]", entry, default[0], limits) for i, entry in enumerate(found)
        )
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if type(found) not in kinds:
        kind = type(default).__name__
        raise EmoconvError(f"{where}: found {found!r:.40}, expected {kind}")
    if limits and not limits[0] <= found <= limits[1]:
        low, high = limits
        raise EmoconvError(f"{where}: found {found!r:.40}, allowed is {low:g} to {high:g}")
    return type(default)(found)
