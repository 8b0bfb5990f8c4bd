"""explore: a page on this machine where sliders drive the decoder, and images are seen at their place on a map."""
