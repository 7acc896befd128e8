# The gateway as a container image: two stages, of which the second holds a Python and one virtual environment.
#
#   docker build -t llm-gateway:0.1.0 .
#   docker run --read-only --cap-drop ALL -v "$PWD/config:/etc/llm-gateway:ro" llm-gateway:0.1.0 check
#
# --build-arg LOCK=requirements-vision.lock brings what reads documents and pictures: some 330 MB more.
#
# PYTHON_IMAGE may name a mirror or a digest. Both stages must use the same one: the environment points at its python.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# No pip in the environments: an image that serves has no use for an installer.
RUN python3 -m venv --without-pip /opt/llm-gateway && python3 -m venv --without-pip /opt/build

# Dependencies before sources, so that a change of code does not install them again.
COPY requirements.lock requirements-vision.lock requirements-dev.lock ./
ARG LOCK=requirements.lock
RUN python3 -m pip --python /opt/llm-gateway/bin/python install --no-compile \
      --require-hashes --only-binary :all: -r ${LOCK}
# The build backend, with its hashes, is cut out of the development lock: a package missing here stops pip.
RUN awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' \
      requirements-dev.lock > build.lock && \
    python3 -m pip --python /opt/build/bin/python install --require-hashes --only-binary :all: -r build.lock

COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
# --no-index, and the backend is called directly: nothing but the two locks above comes from a network.
RUN /opt/build/bin/hatchling build --target wheel --directory dist && \
    python3 -m pip --python /opt/llm-gateway/bin/python install --no-compile --no-index --no-deps dist/*.whl
# Compiled here once, since the root may be read-only later. Unchecked hashes: reproducible, and no stat per import.
RUN /opt/llm-gateway/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/llm-gateway/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llm-gateway" \
      org.opencontainers.image.description="A token-budget gateway for LLM applications: counts, compacts, forwards and accounts for every request." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/llm-gateway /opt/llm-gateway
# server.host and server.admin_host are left at 127.0.0.1 on purpose: beside an application (one pod, one network)
# that is right, and elsewhere opening the port is the operator's word to give, in gateway.yaml or by
# GATEWAY__SERVER__HOST and GATEWAY__SERVER__ADMIN_HOST, because whoever reaches it may spend the provider key.
ENV PATH=/opt/llm-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LLM_GATEWAY_CONFIG=/etc/llm-gateway/gateway.yaml
# A number, because Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["llm-gateway"]
CMD ["serve"]
