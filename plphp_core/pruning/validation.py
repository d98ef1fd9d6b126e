"""Checks of what callers and authors of methods hand in: ValueError with the value and what is allowed."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def fraction(owner: str, name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number in [0, 1]."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    require(fits, f"{owner}: {name} = {value!r}, but must be a number in [0, 1]")


def depth(owner: str, value: object) -> None:
    """Raise ValueError unless `value` can be K, a number of layers."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(fits, f"{owner}: K = {value!r}, but must be an integer ≥ 1")
