"""The front for NVIDIA Triton: what its Python backend loads, and the model repository around it."""
