# The container image: the Debian package on Debian. docs/deploy.md says how it is run, compose.yaml runs it.
#
#   docker build --tag framepipe .
#
# Takes a package that lies in out/ already instead of building one in a container (scripts/image does):
#
#   docker build --tag framepipe --build-context package=out .

ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm
ARG DEBIAN_IMAGE=docker.io/library/debian:bookworm-slim

# What scripts/setup would install, and then everything as on any machine: scripts/package.
FROM ${RUST_IMAGE} AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake dpkg-dev g++ make nasm npm python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN scripts/package --out /out

FROM scratch AS package
COPY --from=builder /out/*.deb /

FROM ${DEBIAN_IMAGE}
# The user's number is fixed, so that it can be named where volumes are made; the package finds the user there. Of systemd
# the package needs here only what makes users and folders. A tmpfs that is mounted on /run/framepipe gets its mode from there.
RUN --mount=type=bind,from=package,target=/package \
    groupadd --system --gid 10001 framepipe \
    && useradd --system --uid 10001 --gid framepipe --home-dir /var/lib/framepipe --shell /usr/sbin/nologin framepipe \
    && apt-get update \
    && apt-get install --yes --no-install-recommends \
        /package/framepipe_*.deb systemd-standalone-sysusers systemd-standalone-tmpfiles \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=framepipe --group=framepipe --mode=1777 /run/framepipe \
    && install --directory --owner=framepipe --group=framepipe --mode=0700 /var/lib/framepipe
USER 10001:10001
# Unread results, the quarantine, optimised graphs: what must outlive a container.
VOLUME /var/lib/framepipe
# From outside, a container's own loopback is out of reach.
ENV FRAMEPIPE_SERVER__TCP=0.0.0.0:50051 \
    FRAMEPIPE_SERVER__HTTP=0.0.0.0:9464
EXPOSE 50051 9464
# What was accepted is finished first: give it time (--stop-timeout, stop_grace_period).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s --retries=2 \
    CMD ["framepipe", "status", "--ready", "--config", "/etc/framepipe/street.toml"]
ENTRYPOINT ["framepipe"]
CMD ["up", "--config", "/etc/framepipe/street.toml"]
