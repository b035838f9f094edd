"""Reads a stream to its tip with boto3 and de-aggregates it with aws-kinesis-agg.

A JSON object for each user record: shard, sequence, partition_key, aggregated, data (base64).
"""

import argparse
import base64
import json
import sys

from aws_kinesis_agg.deaggregator import iter_deaggregate_records

from service import client


def records(kinesis, stream, shard):
    """Every Kinesis record of a shard."""
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    # Closed shards end without an iterator, open ones at their tip. Empty pages in between are allowed.
    while iterator:
        page = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
        yield from page["Records"]
        if not page["Records"] and page["MillisBehindLatest"] == 0:
            return
        iterator = page.get("NextShardIterator")


def user_records(kinesis, stream):
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        raw = records(kinesis, stream, shard["ShardId"])
        for record in iter_deaggregate_records(raw, data_format="Boto3"):
            inner = record["kinesis"]
            aggregated = inner.get("aggregated", False)
            # What comes out of an aggregate is base64, as Lambda hands it over.
            data = inner["data"] if aggregated else base64.b64encode(inner["data"])
            yield {
                "shard": shard["ShardId"],
                "sequence": inner["sequenceNumber"],
                "partition_key": inner["partitionKey"],
                "aggregated": aggregated,
                "data": data.decode(),
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--stream", required=True)
    args = parser.parse_args()
    for record in user_records(client("kinesis", args.endpoint), args.stream):
        json.dump(record, sys.stdout)
        sys.stdout.write("\n")


main()
