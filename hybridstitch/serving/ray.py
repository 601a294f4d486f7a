"""Serve on Ray: one replica for each GPU (or share of a CPU) behind the HTTP front.

serve run --name hybridstitch hybridstitch.serving.ray:app pair=demo max_replicas=2
"""

from hybridstitch.runtime.serving.ray.application import app, connect
from hybridstitch.runtime.serving.ray.handle import RayService
from hybridstitch.runtime.serving.ray.options import ApplicationOptions

__all__ = ["ApplicationOptions", "RayService", "app", "connect"]
