"""Opens messages with AWS's Encryption SDK for Python.

In: base64, a message a line. Out: a JSON object for each, with plaintext (base64) and context, or error. A
message that is not bound to the given context is refused. A block, as its context says, is unpacked with the
protobuf classes of aws-kinesis-agg: its records are listed too (base64).
"""

import argparse
import base64
import json
import sys

import aws_encryption_sdk
from aws_encryption_sdk import CommitmentPolicy
from aws_kinesis_agg.deaggregator import messages_pb2

import service


def header_key(header):
    """The name of the first wrapping key, which the message's readers may compare with theirs."""
    first = next(iter(header.encrypted_data_keys))
    return first.key_provider.key_info.decode(errors="replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    service.add_key_arguments(parser)
    parser.add_argument("--allow-uncommitted", action="store_true", help="version 1 too")
    args = parser.parse_args()
    policy = (
        CommitmentPolicy.REQUIRE_ENCRYPT_ALLOW_DECRYPT
        if args.allow_uncommitted
        else CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )
    sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=policy)
    keys = service.keys(args)
    context = service.context(args)
    # Master key providers know no required context.
    required = {} if args.master_key_provider else {"encryption_context": context}
    for line in sys.stdin:
        try:
            plaintext, header = sdk.decrypt(
                source=base64.b64decode(line),
                **keys,
                **required,
            )
            for name, value in context.items():
                if header.encryption_context.get(name) != value:
                    raise ValueError(f"not bound to {name}={value}")
            answer = {
                "plaintext": base64.b64encode(plaintext).decode(),
                "context": header.encryption_context,
                "suite": f"{header.algorithm.algorithm_id:04x}",
                "key": header_key(header),
            }
            if header.encryption_context.get("kinseal-block") == "kpl":
                block = messages_pb2.AggregatedRecord.FromString(plaintext)
                answer["records"] = [
                    base64.b64encode(record.data).decode() for record in block.records
                ]
        except Exception as error:  # which one it is is what the test looks at
            answer = {"error": f"{type(error).__name__}: {error}"}
        json.dump(answer, sys.stdout)
        sys.stdout.write("\n")


main()
