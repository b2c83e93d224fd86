# syntax=docker/dockerfile:1
# Build: everything that compiles or is only needed to install.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY setup/llama.cmake setup/llama.cmake
COPY constraints.txt ./
RUN python -m venv /opt/mynah
ENV PATH=/opt/mynah/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The image may run on another processor than the one that builds it: a fixed baseline (x86-64-v3),
# not GGML_NATIVE. Override with --build-arg CPU_ARGS=... (for CUDA: -DGGML_CUDA=ON on a CUDA base).
ARG CPU_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
RUN CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
      -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF \
      -DCMAKE_PROJECT_llama_cpp_INCLUDE=/src/setup/llama.cmake ${CPU_ARGS}" \
    SKBUILD_BUILD_TARGETS=llama \
    pip install --constraint constraints.txt --no-binary llama-cpp-python llama-cpp-python
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY ingest ingest
COPY index index
COPY models models
RUN pip install --constraint constraints.txt .

# Run: the environment alone, as a user without rights, with nothing to download.
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 10001 mynah \
    && install -d -o mynah -g mynah /data
COPY --from=build /opt/mynah /opt/mynah
ENV PATH=/opt/mynah/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    MYNAH_DATA_DIR=/data
USER mynah
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# Inside a container the server must listen on every address, so it asks for API keys: see README.
ENTRYPOINT ["mynah"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
