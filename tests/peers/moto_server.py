"""moto as a server of Kinesis and KMS: prints its address, and ends when standard input does."""

import logging
import sys
import threading

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

app = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def one_at_a_time(environ, start_response):
    """moto's Shard.put_record "is not safe for concurrency": two at once, and it loses one of them."""
    with turn:
        return list(app(environ, start_response))


# A line a request says nothing that a test does not.
logging.getLogger("werkzeug").setLevel(logging.ERROR)
# Threaded all the same: an idle connection must not keep others out.
server = make_server(
    "127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=MotoRequestHandler
)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
# Whoever started us holds the other end: when it is gone, however it went, so are we.
sys.stdin.read()
