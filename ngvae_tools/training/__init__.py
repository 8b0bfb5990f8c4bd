"""Training of variational auto-encoders: networks, objectives, gradients, loop; alone here to use torch."""
