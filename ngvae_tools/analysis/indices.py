"""How a list of dimensions is written; stdlib only."""

from __future__ import annotations

from collections.abc import Iterable


def indices(values: Iterable[int]) -> str:
    """Indices with runs of three or more drawn together: `0, 2-5, 9`; `none` for no index."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = [f"{r[0]}-{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs]
    return ", ".join(parts) or "none"
