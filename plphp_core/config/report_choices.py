"""What a report takes of the finished cells, and how it counts what the paper leaves open."""

from __future__ import annotations

from dataclasses import dataclass, field

RESAMPLES = 2000
CONFIDENCE = 0.95
ANY = "any"  # of Filters.limit, where None means the whole benchmarks


@dataclass(frozen=True)
class Filters:
    """Which finished cells; None leaves a field open (of `limit`: ANY). Applied by `analysis.comparable.admits`.

    limit: samples per benchmark, None: all; params: (method, parameter) → value as text; exclude: patterns of names of
    cell files to leave out.
    """

    model: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    protocol: str | None = None
    prompts: str | None = None
    engine: str | None = None
    limit: int | str | None = ANY
    limit_seed: int | None = None
    params: dict[tuple[str, str], str] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()

    def given(self, name: str) -> bool:
        """Whether the user chose this field."""
        return bool(getattr(self, name) != ANY if name == "limit" else getattr(self, name) is not None)


@dataclass(frozen=True)
class Options:
    """Choices the paper leaves open.

    rank: mark the best among "compressed" rows or among "all"; average: over the score "columns", or over "benchmarks"
    (C and M of a benchmark averaged first); gains: PLPHP's gain as "relative" change in percent, or in "points" of the
    printed score.
    """

    rank: str = "compressed"
    average: str = "columns"
    gains: str = "relative"
    resamples: int = RESAMPLES
    confidence: float = CONFIDENCE
    seed: int = 0
