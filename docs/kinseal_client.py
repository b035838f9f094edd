"""A client of the agent's acknowledged socket (framing = "kpl"). No dependencies; Python 3.8 or newer.

    with Client("/run/kinseal/shop.sock", "shop-logs") as client:
        answer = client.put(b"one line", partition_key="order-1")
        print(answer.result())        # Result(success=True, shard_id='shardId-000000000000', ...)

As a program it sends the lines of standard input and prints what became of each:

    printf 'one\\ntwo\\n' | python3 kinseal_client.py /run/kinseal/shop.sock shop-logs
"""

import itertools
import socket
import struct
import sys
import threading
from concurrent.futures import Future
from typing import NamedTuple, Optional


class Result(NamedTuple):
    """What became of a record."""

    success: bool
    shard_id: Optional[str]
    sequence_number: Optional[str]
    error_code: Optional[str]
    error_message: Optional[str]


class Unknown(ConnectionError):
    """The connection ended before the answer came: the record may be stored or not."""


class Client:
    """One connection, for any number of threads."""

    def __init__(self, path, stream):
        self._stream = stream.encode()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
        self._ids = itertools.count(1)
        # Two locks: whoever waits to send must not hold up the answers.
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._waiting = {}
        self._ended = False
        # Answers have to be read while records are sent: else the agent stops reading those.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def put(self, data, partition_key=None, explicit_hash_key=None):
        """Sends a record. Waits while the agent takes no more; its answer comes through the future."""
        record = _field(1, self._stream)
        if partition_key is not None:
            record += _field(2, partition_key.encode())
        if explicit_hash_key is not None:
            record += _field(3, str(explicit_hash_key).encode())
        record += _field(4, data)
        number, answer = next(self._ids), Future()
        with self._lock:
            if self._ended:
                raise Unknown("the connection has ended")
            self._waiting[number] = answer
        self._send(_number(1, number) + _field(3, record))
        return answer

    def flush(self):
        """Asks the agent to wait for no more records before it sends."""
        self._send(_number(1, next(self._ids)) + _field(4, b""))

    def close(self):
        """Waits for all answers, and hangs up."""
        with self._lock:
            waiting = list(self._waiting.values())
        for answer in waiting:
            try:
                answer.result()
            except Unknown:
                pass
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _send(self, message):
        frame = struct.pack(">I", len(message)) + message
        try:
            with self._sending:
                self._socket.sendall(frame)
        except OSError as error:
            raise Unknown(f"the connection broke: {error}") from error

    def _read(self):
        frames = self._socket.makefile("rb")
        try:
            while True:
                head = frames.read(4)
                if len(head) < 4:
                    break
                (length,) = struct.unpack(">I", head)
                body = frames.read(length)
                if len(body) < length:
                    break
                self._answer(dict(_fields(body)))
        except OSError:
            pass
        with self._lock:
            self._ended = True
            waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.set_exception(Unknown("the connection ended before the answer came"))

    def _answer(self, message):
        if 5 not in message:
            return
        result, attempt = {}, {}
        for number, value in _fields(message[5]):
            if number == 1:
                attempt = dict(_fields(value))
            else:
                result[number] = value
        text = lambda value: None if value is None else value.decode()
        with self._lock:
            answer = self._waiting.pop(message[2], None)
        if answer is not None:
            answer.set_result(
                Result(
                    bool(result.get(2)),
                    text(result.get(3)),
                    text(result.get(4)),
                    text(attempt.get(4)),
                    text(attempt.get(5)),
                )
            )


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(number, value):
    return _varint(number << 3) + _varint(value)


def _field(number, value):
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _fields(data):
    """The fields of a protobuf message: numbers as int, all else as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length = varint()
        yield tag >> 3, data[at : at + length]
        at += length


def main():
    path, stream = sys.argv[1:3]
    answers = []
    client = Client(path, stream)
    try:
        for line in sys.stdin.buffer:
            answers.append(client.put(line.rstrip(b"\n")))
        client.flush()
    except Unknown as error:
        print(error, file=sys.stderr)
    failed = 0
    for number, answer in enumerate(answers, 1):
        try:
            result = answer.result()
        except Unknown:
            print(number, "unknown")
            failed += 1
            continue
        if result.success:
            print(number, "ok", result.shard_id or "-", result.sequence_number or "-")
        else:
            print(number, "failed", result.error_code, result.error_message)
            failed += 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
