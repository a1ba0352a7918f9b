"""The S3 servers, versitygw and MinIO, which both check signatures and preconditions; and their buckets."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session

from tests.support.servers_install import Program
from tests.support.servers_process import HOST, Server, status

_numbers = itertools.count(1)


class S3Bucket:
    """
    A bucket of one test's own.

    @ivar client: botocore's, blocking.
    """

    def __init__(self, server: S3Server, client: Any) -> None:
        self.server = server
        self.client = client
        self.name = f"bucket-{next(_numbers)}-{os.urandom(3).hex()}"
        client.create_bucket(Bucket=self.name)

    def names(self) -> list[str]:
        """@return: the keys of all objects, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def keys(self) -> dict[str, bytes]:
        """@return: all objects."""
        return {key: self.get(key) for key in self.names()}

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data, ContentType=content_type)

    def drop(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def headers(self, key: str) -> dict[str, str]:
        """@return: the headers of an object, by their names in small letters."""
        answer = self.client.head_object(Bucket=self.name, Key=key)
        return {name.lower(): value for name, value in answer["ResponseMetadata"]["HTTPHeaders"].items()}

    def unfinished(self) -> list[str]:
        """@return: the keys of uploads in parts that were neither finished nor taken back."""
        answer = self.client.list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def spoil(self, key: str) -> None:
        """Make reading an object an error that is not its absence. It is not in lists any more."""
        self.server.spoil(self.name, key)


class S3Server(Server):
    """What the two have in common: the credentials and the client."""

    access_key = "test-key"
    secret_key = "test-secret-key"
    region = "us-east-1"

    @functools.cached_property
    def client(self) -> Any:
        """botocore's client, blocking."""
        session = botocore.session.Session()
        config = botocore.config.Config(
            signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
        )
        return session.create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )

    def access(self) -> Mapping[str, str]:
        keys = {"access key": self.access_key, "secret key": self.secret_key}
        return {"endpoint": self.endpoint, "region": self.region, **keys}

    def bucket(self) -> S3Bucket:
        """@return: a new, empty bucket."""
        return S3Bucket(self, self.client)

    def spoil(self, bucket: str, key: str) -> None:
        """See L{S3Bucket.spoil}."""
        raise NotImplementedError


def loop(path: Path) -> None:
    """Replace a file by a link to itself: nobody can open it, not even root, and yet it isn't absent."""
    path.unlink()
    path.symlink_to(path)


class Versitygw(S3Server):
    """Versity's gateway over a directory: a folder is a bucket, a file an object."""

    name = "s3"
    program = Program("versitygw", "v1.8.0", "go", "github.com/versity/versitygw/cmd/versitygw")

    def command(self) -> Sequence[str]:
        options = [
            "--port",
            f"{HOST}:{self.port}",
            "--region",
            self.region,
            "--health",
            "/health",
            "--quiet",
            "--keep-alive",
        ]
        return [str(self.program.folder / "versitygw"), *options, "posix", *self._metadata(), str(self.data)]

    def _metadata(self) -> Sequence[str]:
        """Where there are no extended attributes, they lie beside the data."""
        beside = self.directory / "metadata"
        try:
            os.setxattr(self.data, "user.athens-tx", b"")
        except OSError:
            beside.mkdir(exist_ok=True)
            return ["--sidecar", str(beside)]
        return []

    def environment(self) -> Mapping[str, str]:
        return {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}

    def answers(self) -> bool:
        return status(self.port, "/health") == 200

    def spoil(self, bucket: str, key: str) -> None:
        loop(self.data / bucket / key)


class Minio(S3Server):
    """MinIO, over one directory."""

    name = "minio"
    program = Program("minio", "v0.0.0-20260212201848-7aac2a2c5b7c", "go", "github.com/minio/minio")

    def command(self) -> Sequence[str]:
        options = ["--quiet", "--address", f"{HOST}:{self.port}", "--certs-dir", str(self.directory / "certs")]
        return [str(self.program.folder / "minio"), "server", *options, str(self.data)]

    def environment(self) -> Mapping[str, str]:
        return {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
        }

    def answers(self) -> bool:
        return status(self.port, "/minio/health/ready") == 200

    def spoil(self, bucket: str, key: str) -> None:
        loop(self.data / bucket / key / "xl.meta")
