"""One file that scores patches without torch: an ONNX graph with preprocessing and calibration beside it."""
