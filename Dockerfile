# TwinBridge as images: one target for each role, and for each protocol's driver.
#
#   docker build --target driver-modbus --tag twinbridge-driver-modbus .
#
# Each image holds the command and what its role needs, nothing of other protocols. It runs as a
# user without name or rights, on a read-only root; only /var/lib/twinbridge is written.

FROM python:3.13-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY twinbridge twinbridge
COPY drivers drivers
COPY simulators simulators
COPY examples examples
RUN ["python", "-m", "pip", "wheel", "--no-cache-dir", "--no-deps", "--wheel-dir", "/wheels", "."]

# 32-bit ARM has no wheels of some dependencies: they are built here, and the compiler stays here.
FROM python:3.13-slim AS build
RUN if [ "$(dpkg --print-architecture)" = armhf ]; then \
      apt-get update && apt-get install -y --no-install-recommends \
        gcc libc6-dev libffi-dev make autoconf automake libtool; \
    fi
COPY constraints.txt /constraints.txt
COPY --from=wheel /wheels /wheels
RUN python -m venv --without-pip /opt/twinbridge

# Every pod speaks MQTT, which is the bus.
FROM build AS build-driver-modbus
RUN set -- /wheels/twinbridge-*.whl \
    && pip --python /opt/twinbridge/bin/python install --no-cache-dir -c /constraints.txt "$1[modbus,mqtt]"

FROM build AS build-driver-opcua
RUN set -- /wheels/twinbridge-*.whl \
    && pip --python /opt/twinbridge/bin/python install --no-cache-dir -c /constraints.txt "$1[opcua,mqtt]"

FROM build AS build-driver-mqtt
RUN set -- /wheels/twinbridge-*.whl \
    && pip --python /opt/twinbridge/bin/python install --no-cache-dir -c /constraints.txt "$1[mqtt]"

FROM build AS build-agent
RUN set -- /wheels/twinbridge-*.whl \
    && pip --python /opt/twinbridge/bin/python install --no-cache-dir -c /constraints.txt "$1[mqtt,scada,hub,telemetry]"

FROM build AS build-all
RUN set -- /wheels/twinbridge-*.whl \
    && pip --python /opt/twinbridge/bin/python install --no-cache-dir -c /constraints.txt "$1[all]"

FROM python:3.13-slim AS runtime
LABEL org.opencontainers.image.title="TwinBridge" \
      org.opencontainers.image.description="Industrial machines as device twins, with local rules that can stop them. Not a safety system." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 twinbridge \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/twinbridge --shell /usr/sbin/nologin twinbridge \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/twinbridge \
    && install -d -m 0755 /etc/twinbridge
# Two arenas: a thread for each disk, loop and log would else reserve one of its own.
ENV PATH=/opt/twinbridge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2
USER 10001:10001
WORKDIR /var/lib/twinbridge
VOLUME /var/lib/twinbridge
STOPSIGNAL SIGTERM
ENTRYPOINT ["twinbridge"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['TWINBRIDGE_HEALTH'], timeout=4)"]

FROM runtime AS driver
ENV TWINBRIDGE_HEALTH=http://127.0.0.1:8471/healthz
EXPOSE 8471

FROM driver AS driver-modbus
COPY --from=build-driver-modbus /opt/twinbridge /opt/twinbridge
CMD ["driver", "modbus", "--probes", "0.0.0.0:8471"]

FROM driver AS driver-opcua
COPY --from=build-driver-opcua /opt/twinbridge /opt/twinbridge
CMD ["driver", "opcua", "--probes", "0.0.0.0:8471"]

FROM driver AS driver-mqtt
COPY --from=build-driver-mqtt /opt/twinbridge /opt/twinbridge
CMD ["driver", "mqtt", "--probes", "0.0.0.0:8471"]

FROM runtime AS agent
ENV TWINBRIDGE_HEALTH=http://127.0.0.1:8470/healthz
EXPOSE 8470
COPY --from=build-agent /opt/twinbridge /opt/twinbridge
CMD ["agent", "-f", "/etc/twinbridge"]

FROM runtime AS simulator
ENV TWINBRIDGE_HEALTH=http://127.0.0.1:8479/machines
COPY --from=build-all /opt/twinbridge /opt/twinbridge
CMD ["simulate", "-f", "/etc/twinbridge", "--control", "127.0.0.1:8479"]

# The last one is what `docker build .` makes: all in one process.
FROM runtime AS run
ENV TWINBRIDGE_HEALTH=http://127.0.0.1:8470/healthz
EXPOSE 8470
COPY --from=build-all /opt/twinbridge /opt/twinbridge
CMD ["run", "-f", "/etc/twinbridge"]
