"""Running an encoder file over a data set with onnxruntime."""
