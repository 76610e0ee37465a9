"""Types of a request's fields, checked and made plain."""

import numbers
import operator
from typing import Any

import numpy as np

from emoconv_jax.errors import UsageError


def number_of(value: Any, field: str) -> float | int:
    """Returns a plain number, still whole where it was written so.

    Args:
        value: of the field.
        field: its name.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise other_type(field, value, "a number")
    return value if isinstance(value, int) else float(value)


def whole_of(value: Any, field: str) -> int:
    """Returns a plain whole number.

    Args:
        value: of the field.
        field: its name.

    Raises:
        UsageError: it is none.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise other_type(field, value, "a whole number") from None


def check_type(value: Any, kind: type | tuple[type, ...], field: str, allowed: str) -> None:
    """Refuses a value of another type.

    Args:
        value: of the field.
        kind: allowed.
        field: its name.
        allowed: the kind in words.

    Raises:
        UsageError: it is of another.
    """
    if not isinstance(value, kind):
        raise other_type(field, value, allowed)


def other_type(field: str, value: Any, allowed: str) -> UsageError:
    """Returns what says that a field has another type.

    Args:
        field: its name.
        value: found.
        allowed: in words.
    """
    return UsageError(
        f"{field}: found {' '.join(repr(value).split()):.80} ({type(value).__name__}), "
        f"allowed is {allowed}"
    )


def real(value: float | int | None, default: float | None = None) -> float | None:
    """Returns a plain number, which JSON can write.

    Args:
        value: a number or None.
        default: for None.
    """
    return default if value is None else float(value)
