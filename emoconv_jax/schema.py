"""Dataclasses to JSON and back; what a file holds beyond its dataclass is refused by name."""

import dataclasses
import sys
import types
import typing
from typing import Any, TypeVar

from emoconv_jax.errors import EmoconvError

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the configuration as JSON-ready dictionaries and lists."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(kind: type[Config], data: Any, where: str = "config") -> Config:
    """Builds a configuration from JSON data, refusing anything it does not know.

    Args:
        kind: the dataclass to build.
        data: what `json.load` gave.
        where: for messages: the path of `data` within its file, or `FILE:`.

    Returns:
        The configuration; fields that `data` lacks keep their defaults.

    Raises:
        EmoconvError: an unknown field, a required one that is absent, or a value of the wrong type
            (NaN and infinity are no numbers), by name.
    """
    if not isinstance(data, dict):
        named = where.removesuffix(":")
        raise EmoconvError(f"{named}: found {type(data).__name__}, expected an object")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        shown = _below(where, repr(unknown[0])[1:-1][:80])  # the file's author chose it
        raise EmoconvError(f"{shown}: unknown field, allowed are: {', '.join(hints)}")
    for field in dataclasses.fields(typing.cast(Any, kind)):
        optional = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if field.name not in data and not optional:
            raise EmoconvError(f"{_below(where, field.name)}: missing, a value is needed")
    return kind(**{name: _typed(hints[name], data[name], _below(where, name)) for name in data})


def _below(where: str, name: str) -> str:
    """Returns the name of a field for messages: `config.mel.mels`, `config.json: mel.mels`."""
    return f"{where} {name}" if where.endswith(":") else f"{where}.{name}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    """Returns `value` as the type `hint` asks for, or raises naming `where`."""
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if isinstance(hint, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _typed(next(kind for kind in options if kind is not type(None)), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise EmoconvError(f"{where}: found {type(value).__name__}, expected a list")
        item = typing.get_args(hint)[0]
        return tuple(_typed(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if hint is float and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:  # NaN, infinity, an integer beyond any float
            raise EmoconvError(f"{where}: found {value!r:.40}, expected a finite number")
        return float(value)
    if type(value) is not hint:
        raise EmoconvError(
            f"{where}: found {type(value).__name__} {value!r:.40}, expected {hint.__name__}"
        )
    return value
