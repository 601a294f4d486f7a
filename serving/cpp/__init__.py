"""The C++ library that embeds this runtime: its sources, and the Python that it calls."""
