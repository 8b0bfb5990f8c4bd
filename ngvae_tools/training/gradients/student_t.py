"""Density and tail of the Student-t law that a Gamma law of the precision gives to z."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class StudentT(nn.Module):
    """The marginal of t where t = lambda^(-1/2) eps and lambda is of Gamma(alpha, alpha): nu = 2 alpha, scale 1.

    density(t) = Gamma(alpha + 1/2) / (Gamma(alpha) sqrt(nu pi)) (1 + t^2 / nu)^(-(nu + 1) / 2).

    The tail has no closed form in torch. As a function of y = t / sqrt(nu + t^2) it is smooth, and is read from a table
    of cubics between its values and slopes (error below 1e-7 for the paper's laws; up to 6e-6 for a shape as low as
    1.2).

    Args:
        alpha: Shape of the Gamma law of the precision.
    """

    NODES = 2049

    def __init__(self, alpha: float) -> None:
        super().__init__()
        from scipy.special import stdtr, stdtrit  # what scipy.stats.t calls, without the second that its import takes

        self.nu = 2 * alpha
        self.log_norm = math.lgamma(alpha + 0.5) - math.lgamma(alpha) - 0.5 * math.log(self.nu * math.pi)
        last = -float(stdtrit(self.nu, 1e-13))
        self.y_max = last / math.sqrt(self.nu + last**2)
        y = torch.linspace(0, self.y_max, self.NODES, dtype=torch.float64)
        t = y * (self.nu / (1 - y**2)).sqrt()
        step = self.y_max / (self.NODES - 1)
        # dS/dy = -f(t) dt/dy, dt/dy = sqrt(nu) (1 - y^2)^(-3/2)
        slope = -self.density(t) * math.sqrt(self.nu) * (1 - y**2) ** -1.5 * step
        value = torch.from_numpy(stdtr(self.nu, -t.numpy()))
        # Hermite's cubic through both values and slopes of an interval, in powers of the position x within it.
        rise, left, right = value.diff(), slope[:-1], slope[1:]
        coefficients = [value[:-1], left, 3 * rise - 2 * left - right, left + right - 2 * rise]
        self.table: Tensor
        self.register_buffer("table", torch.stack(coefficients, dim=1).float(), persistent=False)

    def density(self, t: Tensor) -> Tensor:
        """Density at t."""
        return torch.exp(self.log_norm - (self.nu + 1) / 2 * torch.log1p(t * t / self.nu))

    def tail(self, t: Tensor) -> Tensor:
        """P(T > t) for t >= 0."""
        position = (t * torch.rsqrt(self.nu + t * t)).clamp_max(self.y_max) * ((self.NODES - 1) / self.y_max)
        # Clamped as an integer: where training diverged, a NaN must come out as NaN, not as a bad index.
        node = position.long().clamp(0, self.NODES - 2)
        x = position - node
        a, b, c, d = self.table[node].unbind(-1)
        return (((d * x + c) * x + b) * x + a).clamp_min(0)
