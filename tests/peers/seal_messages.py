"""Seals messages with AWS's Encryption SDK for Python, in the suite asked for.

In: base64, a plaintext a line. Out: base64, a message a line, which with --encrypt-string is the text that the SDK
for Java makes with encryptString, in base64 once more.
"""

import argparse
import base64
import sys

import aws_encryption_sdk
from aws_encryption_sdk import CommitmentPolicy
from aws_encryption_sdk.identifiers import AlgorithmSuite

import service


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    service.add_key_arguments(parser)
    parser.add_argument("--suite", required=True, help="its id, like 0478")
    parser.add_argument("--frame-length", type=int, default=4096)
    parser.add_argument("--encrypt-string", action="store_true")
    args = parser.parse_args()
    suite = AlgorithmSuite.get_by_id(int(args.suite, 16))
    policy = (
        CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        if suite.is_committing()
        else CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
    )
    sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=policy)
    keys = service.keys(args)
    for line in sys.stdin:
        message, _ = sdk.encrypt(
            source=base64.b64decode(line),
            encryption_context=service.context(args),
            algorithm=suite,
            frame_length=args.frame_length,
            **keys,
        )
        if args.encrypt_string:
            message = base64.b64encode(message)
        print(base64.b64encode(message).decode())


main()
