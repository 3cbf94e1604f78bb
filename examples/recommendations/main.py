"""Recommendations: a service in Python, behind a sidecar. See README.md beside this file."""

import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import generate

sys.path.insert(0, str(generate.modules()))

from recommendations.v1.recommendations_pb2_grpc import add_RecommendationsServiceServicer_to_server  # noqa: E402

from service import Recommendations  # noqa: E402
from sidecar import end_with_the_sidecar  # noqa: E402
from store import Store  # noqa: E402

# Below the drain_limit of its sidecar.
GRACE = 5.0
CALLS = 32


def main():
    # The sidecar tells both addresses. The lines of the log go to standard error, and its own address to standard output.
    address = os.environ.get("SIDECAR_APP", "127.0.0.1:50058")
    outbound = os.environ.get("SIDECAR_OUTBOUND", "127.0.0.1:7000")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    end_with_the_sidecar(stop.set)

    store = Store(os.environ.get("RECOMMENDATIONS_DATABASE", "data/recommendations.db"))
    recommendations = Recommendations(store, outbound)
    # Two processes at one port would share its calls.
    server = grpc.server(ThreadPoolExecutor(CALLS), options=[("grpc.so_reuseport", 0)])
    add_RecommendationsServiceServicer_to_server(recommendations, server)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port(address)
    server.start()
    for name in ("", "recommendations.v1.RecommendationsService"):
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    print(f"recommendations app listening on {address.rpartition(':')[0]}:{port}", flush=True)

    stop.wait()
    healthy.enter_graceful_shutdown()
    server.stop(GRACE).wait()
    recommendations.close()
    store.close()
    logging.info("stopped")


if __name__ == "__main__":
    main()
