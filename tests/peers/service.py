"""Clients of a stand-in, and the keys that messages are sealed under."""

import aws_encryption_sdk
import boto3
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    AesWrappingAlg,
    CreateAwsKmsKeyringInput,
    CreateRawAesKeyringInput,
)

REGION = "eu-west-1"


def client(service, endpoint):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def add_key_arguments(parser):
    """A key of KMS, or a raw AES one."""
    parser.add_argument("--kms-endpoint")
    parser.add_argument("--kms-key", help="the key's ARN")
    parser.add_argument("--raw-key", metavar="NAMESPACE:NAME:HEX")
    parser.add_argument(
        "--master-key-provider",
        action="store_true",
        help="the way before keyrings: what programs of that time have",
    )
    parser.add_argument("--context", action="append", default=[], metavar="NAME=VALUE")


def keyring(args):
    """Strict: opens only what was sealed under the very key."""
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    if args.kms_key:
        kms = client("kms", args.kms_endpoint)
        return providers.create_aws_kms_keyring(
            CreateAwsKmsKeyringInput(kms_key_id=args.kms_key, kms_client=kms)
        )
    namespace, name, key = args.raw_key.split(":")
    return providers.create_raw_aes_keyring(
        CreateRawAesKeyringInput(
            key_namespace=namespace,
            key_name=name,
            wrapping_key=bytes.fromhex(key),
            wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
        )
    )


class MasterKeyProvider(aws_encryption_sdk.StrictAwsKmsMasterKeyProvider):
    """Makes a client for each Region by itself, which must reach the stand-in all the same."""

    endpoint = None

    def add_regional_client(self, region_name):
        self._regional_clients[region_name] = client("kms", self.endpoint)


def keys(args):
    """What encrypt and decrypt of the SDK take."""
    if not args.master_key_provider:
        return {"keyring": keyring(args)}
    MasterKeyProvider.endpoint = args.kms_endpoint
    return {"key_provider": MasterKeyProvider(key_ids=[args.kms_key])}


def context(args):
    return dict(pair.split("=", 1) for pair in args.context)
