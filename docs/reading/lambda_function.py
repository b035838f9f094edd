"""An AWS Lambda function on a Kinesis event source.

Its environment: KEY_ARNS, separated by commas, and CONTEXT, like app=shop,team=web. Its role: kms:Decrypt on the keys,
beside what every function on a stream has. Its event source mapping: FunctionResponseTypes = ReportBatchItemFailures.
"""

import os

from kinseal_reader import Opener, Refused, user_records

# Once for each process, not for each event: the data keys that were unwrapped stay with it.
OPENER = Opener(
    key_arns=os.environ["KEY_ARNS"].split(","),
    context=dict(pair.split("=", 1) for pair in os.environ["CONTEXT"].split(",") if pair),
)


def process(record):
    """What the function is for. It may see a record again: Lambda and Kinesis promise at least once."""
    print(record.data.decode())


def lambda_handler(event, context):
    try:
        for record in user_records(event["Records"], OPENER):
            process(record)
    except Refused as error:
        # Lambda sends this Kinesis record, and what is behind it, again; and after as many tries as the mapping says
        # (MaximumRetryAttempts) it goes to the mapping's OnFailure destination, so that it does not hold up the shard.
        print(f"{error.sequence_number}: {error}")
        return {"batchItemFailures": [{"itemIdentifier": error.sequence_number}]}
    return {"batchItemFailures": []}
