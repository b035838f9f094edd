"""Opens what kinseal stored on a Kinesis data stream, in Python.

    pip install boto3 aws-kinesis-agg aws-encryption-sdk
    pip install zstandard                                   # for compressed blocks

Kinesis records in, user records out: aggregates are taken apart, messages are decrypted under the expected key and
context, and blocks become their records. `read_stream.py` and `lambda_function.py` beside this file are built on it.
"""

import base64
import logging
from typing import NamedTuple

import aws_encryption_sdk
from aws_encryption_sdk import CommitmentPolicy
from aws_kinesis_agg.deaggregator import iter_deaggregate_records, messages_pb2
from google.protobuf.message import DecodeError

# How messages begin: in binary by suites of version 1 and 2, and in base64 (`encoding = "base64"`).
BINARY = (b"\x01\x80", b"\x02\x04\x78", b"\x02\x05\x78")
BASE64 = (b"AYA", b"AgR4", b"AgV4")

# It would write a traceback of each message that it refuses; the reason is in the exception.
logging.getLogger("aws_encryption_sdk").setLevel(logging.CRITICAL)


class Refused(Exception):
    """A record is not what was expected: not encrypted, or under another key or context, or damaged.

    Nor is one whose key KMS does not unwrap now: the SDK does not tell an outage from a denial.
    """


class UserRecord(NamedTuple):
    data: bytes
    partition_key: str
    # Of the Kinesis record that it came in; where that holds several, they share it.
    sequence_number: str
    # Its place in an aggregate; the records of a block share it.
    sub_sequence_number: int


class Opener:
    """Opens messages of these KMS keys alone, named by ARN, that are bound to these pairs."""

    def __init__(
        self,
        key_arns,
        context,
        commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT,
    ):
        self.context = context
        self.sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=commitment_policy)
        # The SDK's cache stands before master key providers; it has none for keyrings. Without it each record is a
        # call to KMS, with it each data key is, once in five minutes.
        self.materials = aws_encryption_sdk.CachingCryptoMaterialsManager(
            master_key_provider=aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=key_arns),
            cache=aws_encryption_sdk.LocalCryptoMaterialsCache(capacity=1000),
            max_age=300.0,
        )

    def open(self, data, partition_key):
        """(plaintext, partition key) of each record that a message holds: one, or those of a block."""
        message = data
        if data.startswith(BASE64):
            try:
                message = base64.b64decode(data)
            except ValueError:  # Text that only begins alike.
                pass
        if not message.startswith(BINARY):
            # Who may write to the stream, and not use the key, must not pass off records of their own.
            raise Refused("it is not encrypted")
        try:
            plaintext, header = self.sdk.decrypt(source=message, materials_manager=self.materials)
        except Exception as error:  # For damaged bytes the SDK raises whatever its parts do.
            raise Refused(f"{type(error).__name__}: {error}") from error
        # Authenticated, but only whoever reads knows what it has to be.
        found = header.encryption_context
        for name, value in self.context.items():
            if found.get(name) != value:
                raise Refused(f"it is not bound to {name}={value}")
        packing = found.get("kinseal-block")
        return [(plaintext, partition_key)] if packing is None else unpack(packing, plaintext)


def unpack(packing, block):
    """The records of a block: the KPL's protobuf without its magic number and MD5, perhaps compressed."""
    if packing == "kpl+zstd":
        # Only who has compressed blocks needs it.
        import zstandard

        # A small message must not claim much memory.
        if not 0 <= zstandard.frame_content_size(block) <= 32 << 20:
            raise Refused("a block that is no zstd frame, or too large a one")
        try:
            block = zstandard.ZstdDecompressor().decompress(block)
        except zstandard.ZstdError as error:
            raise Refused(f"a block whose compressed bytes are damaged: {error}") from error
    elif packing != "kpl":
        raise Refused(f"a block packed as {packing!r}")
    try:
        packed = messages_pb2.AggregatedRecord.FromString(block)
        keys = packed.partition_key_table
        return [(record.data, keys[record.partition_key_index]) for record in packed.records]
    except (DecodeError, IndexError) as error:
        raise Refused(f"a block that holds no records: {error}") from error


def user_records(records, opener, data_format=None, on_refused=None):
    """The user records of Kinesis records, in their order; `data_format` is "Boto3" for those of GetRecords, and nothing
    for those of a Lambda event. Without an opener (`scope = "off"`) they are given out as they are.

    Refused has the sequence and sub-sequence number of the record that it is about. It is raised, which is the end: a
    generator that has raised gives out nothing more. With `on_refused` that is called with it instead, and the rest
    goes on, in the same aggregate too.
    """
    for record in iter_deaggregate_records(records, data_format=data_format):
        kinesis = record["kinesis"]
        sequence, key = kinesis["sequenceNumber"], kinesis["partitionKey"]
        sub_sequence = kinesis.get("subSequenceNumber", 0)
        data = kinesis["data"]
        # aws-kinesis-agg hands out base64, as Lambda does, unless boto3 had given bytes that are no aggregate.
        if data_format != "Boto3" or kinesis.get("aggregated"):
            data = base64.b64decode(data)
        try:
            opened = [(data, key)] if opener is None else opener.open(data, key)
        except Refused as error:
            error.sequence_number, error.sub_sequence_number = sequence, sub_sequence
            if on_refused is None:
                raise
            on_refused(error)
            continue
        for plaintext, partition_key in opened:
            yield UserRecord(plaintext, partition_key, sequence, sub_sequence)
