"""benchmark: every model on data with known factors, over several seeds, in one table that can be made again."""

from ngvae_tools.workflows.benchmark.run import benchmark

__all__ = ["benchmark"]
