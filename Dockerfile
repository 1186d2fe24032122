# An image with the walkthrough and its compiled kernel. Build and start it:
#
#     docker build --tag wearable_demo .
#     docker run --rm --init -p 127.0.0.1:8888:8888 wearable_demo
#
# An offline bundle in the clone (`./justw offline-bundle --toolchain`) saves 20 minutes of compiling.
ARG BASE=debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f

# Only the files that determine the compiled dependencies: sources are emptied, and timestamps fixed.
# An edit of the library or of a notebook leaves this stage unchanged, so the build cache still
# contains the compiled polars.
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

# The user name and id of the Jupyter images and Binder.
ARG NB_USER=jovyan
ARG NB_UID=1000
ENV NB_USER=${NB_USER} NB_UID=${NB_UID} HOME=/home/${NB_USER}
RUN useradd --create-home --shell /bin/bash --uid ${NB_UID} ${NB_USER}
USER ${NB_UID}
WORKDIR ${HOME}/wearable_demo

# Setup unpacks the bundle into the cache. Delete it in the same layer, so that the image does not
# contain it twice.
COPY --from=manifests --chown=${NB_UID} /repository .
RUN ./justw setup --dependencies && rm -f wearable-environment-*.tar.zst

COPY --chown=${NB_UID} . .
RUN rm -f wearable-environment-*.tar.zst && ./justw setup && ./justw install-kernel

# Makes just, jupyter and the tools available to terminals and editors in the container.
ENV PATH=${HOME}/wearable_demo/.venv/bin:${PATH}
EXPOSE 8888
# Jupyter prints its URL with a random token. Set JUPYTER_TOKEN to choose the token.
CMD ["./justw", "lab", "--ip=0.0.0.0", "--no-browser"]
