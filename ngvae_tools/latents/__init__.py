"""The compressed latent file."""
