# The walkthrough with its kernel, ready to open:
#
#     docker build --tag wearable_demo .
#     docker run --rm --init -p 127.0.0.1:8888:8888 wearable_demo
#
# A bundle that lies in the clone (`./justw offline-bundle --toolchain`) saves the half hour of compiling.
ARG BASE=debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f

# What the compiled dependencies depend on. Where a layer is kept by what it is made from, an edit of
# the library or of a notebook leaves this one as it was, and polars is not compiled again.
FROM ${BASE} AS manifests
COPY . /repository
WORKDIR /repository
RUN find crates -name '*.rs' -exec sh -c 'echo "fn main() { }" > "$1"' sh {} ';' \
    && rm -rf notebooks/*.ipynb notebooks/expected notebooks/tools/tests README.md DESIGN.md \
    && find . -exec touch --date=@0 {} +

FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        build-essential ca-certificates git python3 python3-pip rustup zstd \
    && rm -rf /var/lib/apt/lists/*

# As the Jupyter images and Binder have it.
ARG NB_USER=jovyan
ARG NB_UID=1000
ENV NB_USER=${NB_USER} NB_UID=${NB_UID} HOME=/home/${NB_USER}
RUN useradd --create-home --shell /bin/bash --uid ${NB_UID} ${NB_USER}
USER ${NB_UID}
WORKDIR ${HOME}/wearable_demo

# Deleted in the same layer: it is in the cache now, and a bundle would be in the image twice.
COPY --from=manifests --chown=${NB_UID} /repository .
RUN ./justw setup --dependencies && rm -f wearable-environment-*.tar.zst

COPY --chown=${NB_UID} . .
RUN rm -f wearable-environment-*.tar.zst && ./justw setup && ./justw install-kernel

# For terminals and editors inside: just, jupyter and the tools.
ENV PATH=${HOME}/wearable_demo/.venv/bin:${PATH}
EXPOSE 8888
# Jupyter prints its address with a token; JUPYTER_TOKEN sets one.
CMD ["./justw", "lab", "--ip=0.0.0.0", "--no-browser"]
