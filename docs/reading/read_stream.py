"""Reads a stream from its oldest record to where it ends now, and prints its records, a line each.

    python3 read_stream.py shop-logs --key-arn arn:aws:kms:eu-west-1:111122223333:key/… --context app=shop

Region, credentials and endpoints are found as boto3 finds them. It shows how records are opened; for a service that
reads for ever, on many hosts, take the KCL (`kinseal multilang`), or Lambda.
"""

import argparse
import sys

import boto3
from aws_encryption_sdk import CommitmentPolicy

from kinseal_reader import Opener, user_records


def kinesis_records(kinesis, stream, shard):
    """All of a shard, page by page."""
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    # A closed shard ends without an iterator, an open one where it is not behind. Pages in between may be empty.
    while iterator:
        page = kinesis.get_records(ShardIterator=iterator)
        yield from page["Records"]
        if not page["Records"] and page["MillisBehindLatest"] == 0:
            return
        iterator = page.get("NextShardIterator")


def shards(kinesis, stream):
    for page in kinesis.get_paginator("list_shards").paginate(StreamName=stream):
        for shard in page["Shards"]:
            yield shard["ShardId"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stream")
    parser.add_argument("--key-arn", action="append", help="repeatable; without: nothing is encrypted")
    parser.add_argument("--context", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--allow-uncommitted", action="store_true", help="suites of version 1 too")
    args = parser.parse_args()
    context = dict(pair.split("=", 1) for pair in args.context)
    policy = (
        CommitmentPolicy.REQUIRE_ENCRYPT_ALLOW_DECRYPT
        if args.allow_uncommitted
        else CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )
    opener = Opener(args.key_arn, context, policy) if args.key_arn else None

    kinesis = boto3.client("kinesis")
    refused = 0

    def report(error):
        nonlocal refused
        refused += 1
        place = f"{error.sequence_number}/{error.sub_sequence_number}"
        print(f"{shard} {place}: {error}", file=sys.stderr)

    for shard in shards(kinesis, args.stream):
        records = kinesis_records(kinesis, args.stream, shard)
        for user_record in user_records(records, opener, data_format="Boto3", on_refused=report):
            sys.stdout.buffer.write(user_record.data + b"\n")
    sys.exit(1 if refused else 0)


main()
