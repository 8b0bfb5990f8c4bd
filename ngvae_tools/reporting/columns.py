"""What a table of dimensions says of each of them, column by column, for the terminal and the page; stdlib only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngvae_tools.reporting.words import ABSENT, decimals, number, span, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from ngvae_tools.record import AnalysisRecord, DimensionStatistics


@dataclass(frozen=True, slots=True)
class Column:
    """A statistic of every dimension.

    Attributes:
        name: Field of `DimensionStatistics` that holds it.
        head: Its name on the page.
        short: Its name in a terminal, lines apart.
        text: What a cell says.
        show: How a number of it is written.
    """

    name: str
    head: str
    short: str
    text: Callable[[DimensionStatistics], str]
    show: Callable[[float | None], str] = number

    def interval(self, row: DimensionStatistics) -> str:
        """The bootstrap interval of the number; empty where there is none."""
        ends = row.intervals.get(self.name)
        return "" if ends is None else f"{self.show(ends[0])} to {self.show(ends[1])}"

    def value(self, row: DimensionStatistics) -> float | None:
        """The number behind the cell; None where it is absent or a word."""
        found = getattr(row, self.name)
        return None if isinstance(found, str) else found


def _of(name: str) -> Callable[[DimensionStatistics], str]:
    return lambda row: number(getattr(row, name))


def _information(row: DimensionStatistics) -> str:
    error = "" if row.information is None or row.information_error is None else f" ± {row.information_error:.1g}"
    return f"{decimals(row.information)}{error}"


P = Column(
    "p_mean",
    "p, mean ± std (near 0 = informative)",
    "p, mean ± std\n(near 0 =\ninformative)",
    lambda row: spread(row.p_mean, row.p_std),
    decimals,
)
POSTERIOR_VARIANCE = Column("posterior_variance", "posterior variance", "post.\nvariance", _of("posterior_variance"))
POSTERIOR_VARIANCE_SPREAD = Column(
    "posterior_variance_std",
    "std over images of the posterior variance",
    "std over\nimages",
    _of("posterior_variance_std"),
)
INFORMATION = Column(
    "information",
    "information ± standard error, nats",
    "information,\nnats",
    _information,
    decimals,
)
RATE = Column("rate", "rate, nats", "rate,\nnats", _of("rate"))
FLOOR = Column("rate_floor", "floor of the rate, nats", "floor", _of("rate_floor"))
SNR = Column("snr", "signal-to-noise ratio (SNR)", "SNR", lambda row: decimals(row.snr), decimals)
TYPE = Column("type", "type", "type", lambda row: row.type or ABSENT)
ENTROPY = Column("posterior_entropy", "posterior entropy, nats", "entropy,\nnats", _of("posterior_entropy"))
MU_MEAN = Column("mu_mean", "mean of mu", "mean\nof mu", _of("mu_mean"))
MU_VARIANCE = Column("mu_variance", "variance of mu", "variance\nof mu", _of("mu_variance"))
MU_RANGE = Column("mu_low", "range of mu", "range of mu", lambda row: span((row.mu_low, row.mu_high)))

_FIRST = (P, POSTERIOR_VARIANCE, INFORMATION, SNR, TYPE)
_MORE = (POSTERIOR_VARIANCE_SPREAD, RATE, FLOOR, ENTROPY, MU_MEAN, MU_VARIANCE, MU_RANGE)

_BARS = "p over images: how many have which p, from 0 at the left to 1 at the right."

_LEGEND = (
    (INFORMATION, "information: nats that the dimension carries about the image"),
    (SNR, "SNR: variance of mu over mean posterior variance"),
    (TYPE, "type: posterior variance near 1 = passive, near 0 = active, both = mixed"),
)


def first(record: AnalysisRecord) -> list[Column]:
    """The columns that a reader needs first; without p, and without a posterior, there is room for more of mu."""
    present = _present(record, _FIRST)
    if P in present:
        return present
    return [*present, MU_VARIANCE] if present else [MU_VARIANCE, MU_MEAN, MU_RANGE]


def more(record: AnalysisRecord) -> list[Column]:
    """The columns that `first` leaves out."""
    shown = first(record)
    return [column for column in _present(record, _MORE) if column not in shown]


def legend(record: AnalysisRecord) -> list[str]:
    """What the columns that need it mean, as sentences."""
    shown = first(record)
    bars = any(row.p_histogram is not None for row in record.dimensions)
    said = "; ".join(text for column, text in _LEGEND if column in shown)
    return [*([_BARS] if bars else []), *([f"{said}."] if said else [])]


def _present(record: AnalysisRecord, columns: tuple[Column, ...]) -> list[Column]:
    """Columns with something to say: a statistic that the family does not have gives no column."""
    always = (MU_MEAN, MU_VARIANCE, MU_RANGE)
    return [c for c in columns if c in always or any(getattr(row, c.name) is not None for row in record.dimensions)]
