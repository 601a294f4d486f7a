"""What was measured, as pictures. Needs matplotlib (`pip install hybridstitch-trt[evaluation]`)."""
