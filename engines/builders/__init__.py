"""ONNX -> engines, in a folder that needs nothing else to run."""
