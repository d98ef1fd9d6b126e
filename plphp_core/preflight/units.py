"""Amounts for people, in about three digits."""

KIB, MIB, GIB = 2**10, 2**20, 2**30


def gib(amount: float) -> str:
    """Bytes: "15.0 GiB", "310 MiB", "74 KiB"."""
    unit, name = next(((unit, name) for unit, name in ((GIB, "GiB"), (MIB, "MiB")) if amount >= unit), (KIB, "KiB"))
    return f"{amount / unit:.0f} {name}" if amount >= 100 * unit else f"{amount / unit:.1f} {name}"


def plural(number: int, name: str) -> str:
    """ "1 file", "2 files"."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def count(number: int) -> str:
    """ "8.03 billion", "2.44 million"."""
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"
