"""Asks a Triton server with NVIDIA's own client; runs in the environment that has it.

stdin: {"kind": "http" or "grpc", "url", "model", "requests": [{input: value}]}, all at once, a client for each;
"microseconds", if it is there, is Triton's own timeout of each.
stdout: for each request its outputs (of pictures the SHA-256 of their bytes) or {"error", "status"}; for a decoupled
model (kind "stream") a list of them.
"""

import hashlib
import json
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

TYPES = {str: ("BYTES", np.object_), int: ("INT64", np.int64), float: ("FP64", np.float64)}


def filled(library, given):
    inputs = []
    for name, value in given.items():
        datatype, dtype = TYPES[type(value)]
        tensor = library.InferInput(name, [1], datatype)
        tensor.set_data_from_numpy(np.array([value.encode() if isinstance(value, str) else value], dtype=dtype))
        inputs.append(tensor)
    return inputs


def read(result, names):
    found = {}
    for name in names:
        array = result.as_numpy(name)
        if array is None:
            continue
        pixels = array.dtype == np.uint8
        value: Any = hashlib.sha256(array.tobytes()).hexdigest() if pixels else array.flatten()[0]
        if name == "png":
            value = hashlib.sha256(value).hexdigest()
        found[name] = value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else int(value)
    return found


def ask(asked, given):
    import tritonclient.grpc  # pyright: ignore[reportMissingImports]
    import tritonclient.http  # pyright: ignore[reportMissingImports]
    from tritonclient.utils import InferenceServerException  # pyright: ignore[reportMissingImports]

    library = tritonclient.http if asked["kind"] == "http" else tritonclient.grpc
    limits = {"network_timeout": 120, "connection_timeout": 120} if asked["kind"] == "http" else {}
    client = library.InferenceServerClient(asked["url"], **limits)
    names = ["image", "png", "seed", "method", "timing"]
    try:
        if asked["kind"] == "stream":
            return stream(client, library, asked, given)
        outputs = [library.InferRequestedOutput(name) for name in names]
        result = client.infer(
            asked["model"], filled(library, given), outputs=outputs, timeout=asked.get("microseconds")
        )
        return read(result, names)
    except InferenceServerException as error:
        return {"error": error.message(), "status": str(error.status())}
    finally:
        client.close()


def stream(client, library, asked, given):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer(asked["model"], filled(library, given), enable_empty_final_response=True)
    found = []
    while True:
        result, error = answers.get(timeout=120)
        if error is not None:
            return [*found, {"error": error.message()}]
        found.append(read(result, ["image", "seed", "step", "last_step", "stage", "preview"]))
        if result.get_response().parameters["triton_final_response"].bool_param:
            return [each for each in found if each]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    with ThreadPoolExecutor(len(asked["requests"])) as pool:
        print(json.dumps(list(pool.map(lambda given: ask(asked, given), asked["requests"]))))
