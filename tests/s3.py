"""A local S3 server on loopback, by moto."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def s3_server(bucket: str) -> Iterator[tuple[Any, str]]:
    """A client with an empty bucket, and the options by which URIs name the server."""
    import boto3
    from moto.server import ThreadedMotoServer

    before = dict(os.environ)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = f"127.0.0.1:{server.get_host_and_port()[1]}"
    client = boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    yield client, f"?scheme=http&endpoint_override={endpoint}&region=us-east-1"
    server.stop()
    os.environ.clear()
    os.environ.update(before)
