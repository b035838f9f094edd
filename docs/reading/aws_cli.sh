#!/bin/sh
# Prints what the first page of each shard holds: aws_cli.sh STREAM [OPTIONS OF kinseal decrypt]
#
#     sh aws_cli.sh shop-logs --kms-key alias/shop --context app=shop
#
# Region, credentials and endpoints are found as every AWS tool finds them. A page is 10 MiB or 10,000 Kinesis records at
# most; for all of a stream take `kinseal consume`.
set -eu
stream=$1
shift
refused=0
for shard in $(aws kinesis list-shards --stream-name "$stream" --query 'Shards[].ShardId' --output text); do
    iterator=$(aws kinesis get-shard-iterator --stream-name "$stream" --shard-id "$shard" \
        --shard-iterator-type TRIM_HORIZON --query ShardIterator --output text)
    aws kinesis get-records --shard-iterator "$iterator" --output json | kinseal decrypt --format get-records "$@" \
        || refused=1
done
exit $refused
