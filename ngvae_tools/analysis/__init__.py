"""What the latents of a data set say: moments, covariance metrics, selection; numpy and scipy only."""
