"""moto as a server of Kinesis and KMS: prints its address, and ends when standard input does."""

import logging
import sys

from moto.moto_server.threaded_moto_server import ThreadedMotoServer

# A line a request says nothing that a test does not.
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(f"http://{host}:{port}", flush=True)
# Whoever started us holds the other end: when it is gone, however it went, so are we.
sys.stdin.read()
