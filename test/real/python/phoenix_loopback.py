"""Starts Phoenix with its gRPC port on loopback.

The server binds that port to every interface, and no setting changes it: the address is replaced before it starts.
"""

import sys

import grpc.aio

make_server = grpc.aio.server


def on_loopback(*args, **kwargs):
    server = make_server(*args, **kwargs)
    bind = server.add_insecure_port
    server.add_insecure_port = lambda address: bind(address.replace("[::]", "127.0.0.1"))
    return server


grpc.aio.server = on_loopback
sys.argv = ["phoenix", "serve"]

from phoenix.server.main import main  # noqa: E402

main()
