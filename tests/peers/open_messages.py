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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    service.add_key_arguments(parser)
    args = parser.parse_args()
    sdk = aws_encryption_sdk.EncryptionSDKClient(
        commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )
    keyring = service.keyring(args)
    for line in sys.stdin:
        try:
            plaintext, header = sdk.decrypt(
                source=base64.b64decode(line),
                keyring=keyring,
                encryption_context=service.context(args),
            )
            answer = {
                "plaintext": base64.b64encode(plaintext).decode(),
                "context": header.encryption_context,
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
