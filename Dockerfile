# The HTTP front in a container; docs/serving.md says how to build engines and run it.
# Another release of CUDA, or another system with Python 3.11 or later and apt: --build-arg BASE=...
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04
FROM ${BASE}

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# torch and TensorRT for RTX bring their CUDA libraries along; of the base only the driver's interface is needed.
# `--build-arg EXTRAS=serve,tensorrt` for data-center GPUs.
ARG EXTRAS=serve,rtx
WORKDIR /opt/hybridstitch
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY hybridstitch ./hybridstitch
COPY models ./models
COPY export ./export
COPY engines ./engines
COPY runtime ./runtime
COPY verify ./verify
COPY evaluation ./evaluation
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"
ENV PATH=/opt/venv/bin:$PATH

# Engines are read from, and built into, /srv/build: mount a folder there.
RUN useradd --create-home hybridstitch && mkdir /srv/build && chown hybridstitch /srv/build
USER hybridstitch
WORKDIR /srv
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["hybridstitch-trt"]
CMD ["serve", "--pair", "demo", "--host", "0.0.0.0"]
