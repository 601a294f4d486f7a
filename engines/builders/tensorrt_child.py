"""The child process that builds one TensorRT plan, with Polygraphy.

    POLYGRAPHY_USE_TENSORRT_RTX=1 python -m hybridstitch.engines.builders.tensorrt_child

reads a `Job` from stdin and writes lines of JSON to stdout: {"progress": [what, done, total]} while it builds, and at
the end one of {"built": file}, {"refused": line} and {"errors": what the builder said}. Polygraphy reads the variable
when it is imported: it chooses between TensorRT and TensorRT for RTX for the whole process.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/polygraphy/index.html
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from polygraphy.backend.tensorrt_rtx.config import CreateConfigRTX
from polygraphy.backend.trt.config import CreateConfig
from polygraphy.backend.trt.loader import BaseNetworkFromOnnx, EngineBytesFromNetwork
from polygraphy.backend.trt.profile import Profile
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

from hybridstitch.method.errors import HybridStitchError

from ..store.disk import remove, writing
from .child import GRACE_SECONDS
from .tensorrt_job import Job, Shapes

Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Build the plan that stdin asks for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to the parent too, which closes stdin
    tell = _speak()
    job = Job.from_line(sys.stdin.readline())
    cancelled = threading.Event()
    threading.Thread(target=_end_with_parent, args=(cancelled,), daemon=True).start()
    try:
        tell(build(job, tell, cancelled))
    except HybridStitchError as error:
        tell({"refused": str(error)})


def build(job: Job, tell: Tell, cancelled: threading.Event) -> dict[str, Any]:
    """Build a plan and write it; returns what to tell at the end.

    Raises:
        HybridStitchError: TensorRT does not load or does not start, a node or an option that it does not support, a
            timing cache that cannot be read, or a plan that cannot be written.
    """
    trt = _load(job)
    errors = keep_errors()
    tell({"progress": ["parsing", 0, 0]})
    try:
        network = NetworkFromOnnxFile(trt, job, errors)()
        config = configure(trt, job, make_monitor(trt, tell, cancelled), errors, *network[:2])
    except PolygraphyException as error:
        raise HybridStitchError(f"{job.backend} {job.version} cannot build {job.component}: {_line(error)}") from None
    try:
        plan = EngineBytesFromNetwork(network, config)()
    except PolygraphyException:  # "Invalid Engine": the reason is in the log
        return {"errors": list(errors)}
    file = Path(job.plan_file)
    with writing(file.parents[1]):
        file.write_bytes(memoryview(plan))
    if job.timing_cache is not None:
        keep_timing_cache(config, Path(job.timing_cache), tell)
    return {"built": job.plan_file}


class NetworkFromOnnxFile(BaseNetworkFromOnnx):
    """Polygraphy's `NetworkFromOnnxPath` of a strongly typed network (precision lives in the graph, as exported), with
    an error that names node and module; Polygraphy logs the parser's errors and forgets them."""

    def __init__(self, trt: Any, job: Job, errors: deque[str]) -> None:
        super().__init__(strongly_typed=True)
        self._trt, self._job, self._errors = trt, job, errors

    def call_impl(self) -> tuple[Any, Any, Any]:
        """(builder, network, parser); the network needs the parser for as long as it lives."""
        try:
            builder, network, parser = super().call_impl()
        except TypeError:  # "factory function returned nullptr": the reason is in the log
            raise HybridStitchError(f"{self._job.backend} cannot start its builder: {_first(self._errors)}") from None
        if not parser.parse_from_file(self._job.onnx_file):
            raise HybridStitchError(_parser_trouble(self._job, parser, self._errors))
        return builder, network, parser


def configure(trt: Any, job: Job, monitor: Any, errors: deque[str], builder: Any, network: Any) -> Any:
    """An IBuilderConfig. What Polygraphy would turn on or off by itself stays at TensorRT's default."""
    pool = trt.MemoryPoolType.WORKSPACE
    options = {
        "profiles": [_profile(shapes) for shapes in job.profiles.values()],
        "memory_pool_limits": {pool: job.workspace} if job.workspace is not None else None,
        "builder_optimization_level": job.optimization_level,
        "weight_streaming": job.weight_streaming,
        "version_compatible": job.version_compatible,
        "hardware_compatibility_level": _hardware_level(trt, job),
        "profiling_verbosity": trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
        "progress_monitor": monitor,
    }
    if job.backend == "tensorrt_rtx":
        config = CreateConfigRTX(**_targets(job), **options)(builder, network)
        _check_targets(trt, job, config)
    else:
        config = CreateConfig(tf32=True, **options)(builder, network)
    if config.num_optimization_profiles != len(job.profiles):
        raise HybridStitchError(f"{job.backend} does not take the profiles of {job.component}: {_first(errors)}")
    if job.timing_cache is not None:
        _use_timing_cache(job, config, Path(job.timing_cache))
    return config


def make_monitor(trt: Any, tell: Tell, cancelled: threading.Event) -> Any:
    """An IProgressMonitor that tells of the outermost phases and ends the build when it is cancelled."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps
                tell({"progress": [phase_name, 0, num_steps]})

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                tell({"progress": [phase_name, step + 1, self.steps[phase_name]]})
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            if steps := self.steps.pop(phase_name, None):
                tell({"progress": [phase_name, steps, steps]})

    return Monitor()


def keep_errors() -> deque[str]:
    """What TensorRT logs as errors from now on, oldest first. Polygraphy's logger, which prints by default, hands them
    to Python's."""
    errors: deque[str] = deque(maxlen=100)

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.ERROR:  # critical is what Polygraphy raises as well
                errors.append(record.getMessage())

    G_LOGGER.module_severity = G_LOGGER.ERROR
    G_LOGGER.letter = G_LOGGER.colors = False
    G_LOGGER.use_python_logging_system = True
    logging.getLogger("Polygraphy").addHandler(Keep())
    return errors


def _load(job: Job) -> Any:
    try:
        return importlib.import_module(job.backend)
    except (ImportError, OSError) as error:
        raise HybridStitchError(f"backend {job.backend}: {job.title} {job.version} does not load: {error}") from None


def _profile(shapes: Shapes) -> Profile:
    profile = Profile()
    for name, (low, typical, high) in shapes.items():
        profile.add(name, tuple(low), tuple(typical), tuple(high))
    return profile


def _hardware_level(trt: Any, job: Job) -> Any:
    if job.hardware_compatible is None:
        return None
    level = getattr(trt.HardwareCompatibilityLevel, job.hardware_compatible.upper(), None)
    if level is None:
        raise HybridStitchError(
            f"{job.backend} {job.version} does not know hardware compatibility {job.hardware_compatible}; "
            "later versions do"
        )
    return level


def _targets(job: Job) -> dict[str, Any]:
    """For the GPU that is here, or for those that were named: then the build needs none."""
    if job.targets == ("CURRENT",):
        return {"use_gpu": True}
    return {"compute_capabilities": [(int(name[2:-1]), int(name[-1])) for name in job.targets]}


def _check_targets(trt: Any, job: Job, config: Any) -> None:
    """Polygraphy does not look whether a target was taken."""
    for index, name in enumerate(job.targets):
        if config.get_compute_capability(index) != getattr(trt.ComputeCapability, name):
            raise HybridStitchError(f"{job.backend} {job.version} does not build for {name}")


def _use_timing_cache(job: Job, config: Any, file: Path) -> None:
    """In place of the empty one of Polygraphy, which would go on without a word where the file is of another GPU."""
    try:
        content = file.read_bytes() if file.is_file() else b""  # nothing before the first build
    except OSError as failure:
        raise HybridStitchError(
            f"timing cache {file} cannot be read: {failure.strerror}; choose another file"
        ) from None
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise HybridStitchError(
            f"timing cache {file} is none of {job.backend} {job.version} on this GPU; choose another file"
        )


def keep_timing_cache(config: Any, file: Path, tell: Tell) -> None:
    """A cache that cannot be written is no reason to lose the plan; Polygraphy would lose it."""
    space = file.with_name(f"{file.name}.new")
    try:
        space.write_bytes(memoryview(config.get_timing_cache().serialize()))
        space.replace(file)
    except OSError as failure:
        tell({"progress": [f"{file} cannot be written: {failure.strerror}", 0, 0]})
        remove([space])


def _parser_trouble(job: Job, parser: Any, errors: deque[str]) -> str:
    """The parser's first error. Nodes are named after the module that they come from."""
    title = f"{job.backend} {job.version} cannot take the {job.component} graph"
    if not parser.num_errors:
        return f"{title}: {_first(errors)}"
    error = parser.get_error(0)
    more = f" ({parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    reason = _line(error.desc()).rstrip(".")
    module = error.node_name().rpartition("/")[0]
    place = f"node {error.node_name()} ({error.node_operator()}" + (f" of module {module})" if module else ")")
    return f"{title}: {place if error.node_name() else 'the model'}: {reason}{more}"


def _first(errors: deque[str]) -> str:
    """The cause of a failed call: what came after follows from it."""
    return _line(errors[0]) if errors else "it gave no reason"


def _line(text: object) -> str:
    return " ".join(str(text).split())


def _speak() -> Tell:
    """A way to the parent of its own: whatever libraries print to stdout goes to stderr from now on."""
    voice = os.dup(1)
    os.dup2(2, 1)

    def tell(event: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # nobody listens any more: `_end_with_parent` knows
            os.write(voice, f"{json.dumps(event)}\n".encode())

    return tell


def _end_with_parent(cancelled: threading.Event) -> None:
    """When stdin closes, cancel; a builder that does not look at its monitor is left behind."""
    while os.read(0, 1):
        pass
    cancelled.set()
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
