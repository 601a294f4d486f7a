"""The model that Triton's Python backend loads: the pair that config.pbtxt names, served by hybridstitch-trt.

This file stands in the repository as it is in the package; all that differs between models is in config.pbtxt.
"""

import sys

try:
    from hybridstitch.serving.triton.backend import TritonPythonModel
except ModuleNotFoundError as error:
    raise ImportError(
        f"the Python of this model, in {sys.prefix}, has no {error.name}: install hybridstitch-trt into it, or let "
        "EXECUTION_ENV_PATH in config.pbtxt name a virtual environment of the same Python version that has it"
    ) from None

__all__ = ["TritonPythonModel"]
