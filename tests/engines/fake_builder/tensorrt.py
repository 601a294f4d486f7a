"""A stand-in for the tensorrt module as far as Polygraphy and our builder touch it; the child process imports it.

Its plan is what it was told, as JSON. FAKE_TENSORRT says what goes wrong: "abort", "bad_alloc" and "killed" end the
process in the middle of a build, "hang" builds for ever, "deaf" does so without a look at its monitor, "chatty" prints,
"no profile" takes none, "no plan" says why, "no builder" does not start, and "broken" does not load.
"""

from __future__ import annotations

import json
import os
import signal
import time
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

WRONG = os.environ.get("FAKE_TENSORRT", "")
if WRONG == "broken":
    raise OSError("libnvinfer.so.11: cannot open shared object file")

__version__ = "11.4.0"


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity


Logger = ILogger


def _enum(name: str, *members: str) -> Any:
    return IntEnum(name, {member: index for index, member in enumerate(members)})


BuilderFlag = _enum("BuilderFlag", "TF32", "WEIGHT_STREAMING", "VERSION_COMPATIBLE")
DeviceType = _enum("DeviceType", "GPU", "DLA")
HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", "NONE", "AMPERE_PLUS")
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "DETAILED")


class IProgressMonitor:
    pass


def init_libnvinfer_plugins(log: Any, namespace: str) -> bool:
    return True


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Any, log: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        assert Path(path).is_file()
        names = ("tokens", "position", "text", "pooled", "timestep", "frozen_key.0", "frozen_value.0")
        self.network.inputs += [
            SimpleNamespace(name=name, dtype="float32", shape=(-1,), is_shape_tensor=False) for name in names
        ]
        return True


class Network:
    def __init__(self, flags: int) -> None:
        self.flags, self.inputs = flags, []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    def __iter__(self) -> Any:
        return iter(())


class OptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[Any]] = {}

    def set_shape(self, name: str, low: Any, typical: Any, high: Any) -> None:
        self.shapes[name] = [low, typical, high]


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+"


class Config:
    DLA_core, default_device_type = -1, DeviceType.GPU

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.pools: dict[str, int] = {}
        self.profiles: list[OptimizationProfile] = []

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        if WRONG == "no profile":
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self.flags

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.pools[pool.name] = size

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return b"another GPU" not in cache.content

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class Builder:
    def __init__(self, log: Any) -> None:
        self.log = log
        if WRONG == "no builder":
            self.log.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int = 0) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile()

    def build_serialized_network(self, network: Network, config: Any) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        if WRONG == "chatty":
            os.write(1, b"printed by a library\n")
        if WRONG == "no plan":
            self.log.log(ILogger.Severity.ERROR, "first of all\n  this")
            self.log.log(ILogger.Severity.ERROR, "then that")
            return None
        if WRONG == "bad_alloc":
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
            os.abort()
        if WRONG == "abort":
            os.write(2, b"free(): invalid pointer\n")
            os.abort()
        if WRONG == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        while WRONG == "deaf" or WRONG == "hang":
            time.sleep(0.05)
            if not monitor.step_complete("Building engine", 0) and WRONG == "hang":
                return None
        monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Building engine")
        return json.dumps(self._told(network, config)).encode()

    @staticmethod
    def _told(network: Network, config: Any) -> dict[str, Any]:
        return {
            "strongly typed": bool(network.flags & 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED),
            "flags": sorted(config.flags),
            "pools": config.pools,
            "profiles": [profile.shapes for profile in config.profiles],
            "level": getattr(config, "builder_optimization_level", None),
            "hardware": getattr(config, "hardware_compatibility_level", None),
            "verbosity": config.profiling_verbosity.name,
        }
