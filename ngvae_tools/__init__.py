"""ngvae-tools: which latent dimensions of a trained variational auto-encoder carry information."""

__version__ = "0.1.0"
