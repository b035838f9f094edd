"""Sends a file's lines to a stream as a Python program of today would: AWS's Encryption SDK with its cache of data
keys, aws-kinesis-agg, boto3.

Region, credentials, endpoints and whom to trust are found as boto3 finds them. At the end it says what that took, on one
line of JSON: from when its clients are made until the last line is stored, so without the interpreter's start and its
imports, which a program that goes on for days has once.
"""

import argparse
import json
import os
import resource
import sys
import threading
import time
import uuid

import aws_encryption_sdk
import boto3
from aws_kinesis_agg.aggregator import AggRecord

AGGREGATE_BYTES = 50 << 10
# Of PutRecords.
CALL_ENTRIES = 500
CALL_BYTES = 5_000_000
# As kinseal's.
MAX_AGE = 300.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--stream", required=True)
    parser.add_argument("--kms-key", help="encrypt each line under it")
    parser.add_argument("--max-messages", type=int, default=1 << 32, help="for each data key")
    parser.add_argument("--single", action="store_true", help="do not aggregate")
    args = parser.parse_args()
    threading.Thread(target=end_with_parent, daemon=True).start()

    seal = Sealer(args.kms_key, args.max_messages) if args.kms_key else None
    sender = Sender(args.stream)
    began, cpu_before = time.monotonic(), cpu_seconds()
    lines = 0

    def records():
        nonlocal lines
        with open(args.file, "rb") as file:
            for line in file:
                lines += 1
                line = line.rstrip(b"\n")
                yield seal(line) if seal else line

    for entry in single(records()) if args.single else aggregated(records()):
        sender.add(entry)
    sender.send()
    said = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": cpu_seconds() - cpu_before,
        "peak_memory": peak_memory(),
        "lines": lines,
        "data_keys": seal.data_keys if seal else 0,
    }
    print(json.dumps(said | sender.counts))


class Sealer:
    """Encrypts messages. The cache takes the older master key providers only, not keyrings."""

    def __init__(self, kms_key, max_messages):
        self.client = aws_encryption_sdk.EncryptionSDKClient()
        self.materials = aws_encryption_sdk.CachingCryptoMaterialsManager(
            master_key_provider=aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[kms_key]),
            cache=aws_encryption_sdk.LocalCryptoMaterialsCache(capacity=10),
            max_age=MAX_AGE,
            max_messages_encrypted=max_messages,
        )
        self.suite = aws_encryption_sdk.Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
        self.data_keys, self.last = 0, None

    def __call__(self, line):
        message, header = self.client.encrypt(
            source=line,
            materials_manager=self.materials,
            algorithm=self.suite,
            encryption_context={"app": "loadtest"},
        )
        if header.encrypted_data_keys != self.last:
            self.data_keys, self.last = self.data_keys + 1, header.encrypted_data_keys
        return message


def aggregated(records):
    """Each full aggregate under a key of its own. RecordAggregator would make a deep copy of it before."""
    aggregate, key = AggRecord(AGGREGATE_BYTES), str(uuid.uuid4())
    for record in records:
        if not aggregate.add_user_record(key, record):
            yield key, aggregate.get_contents()[2]
            aggregate, key = AggRecord(AGGREGATE_BYTES), str(uuid.uuid4())
            aggregate.add_user_record(key, record)
    if aggregate.get_num_user_records():
        yield key, aggregate.get_contents()[2]


def single(records):
    for record in records:
        yield str(uuid.uuid4()), record


class Sender:
    """Puts entries, as many together as a call takes."""

    def __init__(self, stream):
        self.kinesis = boto3.client("kinesis")
        self.stream = stream
        self.entries, self.bytes = [], 0
        self.counts = {"entries": 0, "entries_retried": 0, "bytes": 0, "calls": 0}

    def add(self, entry):
        key, data = entry
        size = len(key) + len(data)
        if len(self.entries) == CALL_ENTRIES or self.bytes + size > CALL_BYTES:
            self.send()
        self.entries.append({"PartitionKey": key, "Data": data})
        self.bytes += size

    def send(self):
        """Until all are stored: those that are refused once more, and no others."""
        entries, wait = self.entries, 0.1
        self.counts["entries"] += len(entries)
        self.counts["bytes"] += self.bytes
        while entries:
            answer = self.kinesis.put_records(StreamName=self.stream, Records=entries)
            self.counts["calls"] += 1
            answers = answer["Records"]
            entries = [entry for entry, said in zip(entries, answers) if "ErrorCode" in said]
            if entries:
                self.counts["entries_retried"] += len(entries)
                time.sleep(wait)
                wait = min(2 * wait, 5.0)
        self.entries, self.bytes = [], 0


def end_with_parent():
    """Whoever started this program holds the other end of standard input."""
    sys.stdin.read()
    os._exit(1)


def cpu_seconds():
    """Of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_memory():
    """Bytes. Not ru_maxrss, which may be that of whoever started this process."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


main()
