"""What runs a built engine: one contract, one executor for each backend (TensorRT's serves two)."""
