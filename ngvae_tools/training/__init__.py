"""Training variational auto-encoders: networks, objectives, gradients, loop; the only torch in the package."""
