"""Starts Phoenix with its gRPC port on loopback.

The server binds that port to every interface, and no setting changes it: the address is replaced before it starts.

While a file named "hold-queue" is in the working directory, spans that were accepted stay in the server's queue, as they do
when more come than it can write.
"""

import os
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

from phoenix.db.bulk_inserter import BulkInserter  # noqa: E402
from phoenix.server.main import main  # noqa: E402

insert_spans = BulkInserter._insert_spans


async def unless_held(self, count):
    if not os.path.exists(os.path.join(os.environ["PHOENIX_WORKING_DIR"], "hold-queue")):
        await insert_spans(self, count)


BulkInserter._insert_spans = unless_held

main()
