"""`python -m hybridstitch.serving.cpp` prints the folder of the C++ library's sources, for `cmake -S`."""

from pathlib import Path

print(Path(__file__).parent)
