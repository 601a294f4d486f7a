"""Stable Diffusion 3: its components in token space, what its checkpoints hold, and which two of them form a pair."""
