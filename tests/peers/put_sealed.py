"""Puts records as another producer would: sealed by AWS's Encryption SDK, packed by aws-kinesis-agg.

In: a plaintext a line. Every --per-aggregate lines are one Kinesis record; the last one may stay alone.
"""

import argparse
import sys

import aws_encryption_sdk
from aws_encryption_sdk import CommitmentPolicy
from aws_kinesis_agg.aggregator import RecordAggregator

import service


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    service.add_key_arguments(parser)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--per-aggregate", type=int, default=10)
    args = parser.parse_args()
    kinesis = service.client("kinesis", args.endpoint)
    sdk = aws_encryption_sdk.EncryptionSDKClient(
        commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )
    keyring = service.keyring(args)
    aggregator = RecordAggregator()

    def put():
        partition_key, hash_key, data = aggregator.clear_and_get().get_contents()
        entry = {"StreamName": args.stream, "PartitionKey": partition_key, "Data": data}
        if hash_key:
            entry["ExplicitHashKey"] = hash_key
        kinesis.put_record(**entry)

    for number, line in enumerate(sys.stdin):
        message, _ = sdk.encrypt(
            source=line.rstrip("\n").encode(),
            keyring=keyring,
            encryption_context=service.context(args),
            frame_length=4096,
        )
        # One key: an aggregate must stay on one shard.
        if aggregator.add_user_record("python", message) is not None:
            sys.exit("the lines do not fit into one aggregate; use a smaller --per-aggregate")
        if (number + 1) % args.per_aggregate == 0:
            put()
    if aggregator.get_num_user_records():
        put()


main()
