"""What produces the figures in the documents: run from the checkout's root, as `python -m benchmarks.serving`."""
