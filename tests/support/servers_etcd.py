"""etcd as Debian has it, one server of its own cluster, asked through the JSON gateway past athens-tx."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import trustme

from tests.support.daemon import free_port
from tests.support.servers_process import HOST, Server, status
from tests.support.servers_sql import Packaged

#: The user of a server with L{Etcd.guard}: he may do everything.
USER, PASSWORD = "root", "s@cret/of: etcd"

_numbers = itertools.count(1)


def name() -> str:
    """@return: C{path@version} that no other test uses."""
    return f"example.com/lock{next(_numbers)}-{os.urandom(3).hex()}@v1.0.0"


def coded(text: str) -> str:
    """@return: a key as the gateway has it."""
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    """@return: a key as it is."""
    return base64.b64decode(text).decode()


class RawError(Exception):
    """The server says no."""


class Etcd(Server):
    """
    One server, with TLS on a port of its own. Its data are kept when it is killed.

    @ivar tls_port: where it speaks TLS.
    @ivar more: options of its command line.
    """

    name = "etcd"
    program: ClassVar[Any] = Packaged("etcd-server", "etcd")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.tls_port = free_port()
        self.authority = trustme.CA()
        self._peer_port = free_port()
        self._token = ""
        self.more: dict[str, str] = {}

    @property
    def authority_file(self) -> Path:
        """The certificate of its authority, PEM."""
        return self.directory / "ca.pem"

    @property
    def tls_endpoint(self) -> str:
        """Its URL with TLS."""
        return f"https://localhost:{self.tls_port}"

    def _certificate(self) -> None:
        made = self.authority.issue_cert("localhost", HOST)
        self.authority.cert_pem.write_to_path(str(self.authority_file))
        made.private_key_and_cert_chain_pem.write_to_path(str(self.directory / "server.pem"))

    def command(self) -> Sequence[str]:
        if not self.authority_file.exists():
            self._certificate()
        clients = f"{self.endpoint},https://{HOST}:{self.tls_port}"
        peer = f"http://{HOST}:{self._peer_port}"
        options = {
            "name": "one",
            "data-dir": str(self.data / "etcd"),
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"one={peer}",
            "cert-file": str(self.directory / "server.pem"),
            "key-file": str(self.directory / "server.pem"),
            "log-level": "warn",
            **self.more,
        }
        return ["etcd", "--unsafe-no-fsync", *(f"--{option}={value}" for option, value in options.items())]

    def answers(self) -> bool:
        return status(self.port, "/health") == 200

    def access(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint, "tls": self.tls_endpoint}

    # -- past athens-tx

    def ask(self, path: str, message: Mapping[str, Any]) -> Any:
        """@return: the answer to one message, of a stream the first."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        headers = {"Authorization": self._token} if self._token else {}
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(message), headers)
            answer = json.loads(connection.getresponse().readline())
        finally:
            connection.close()
        if "error" in answer:
            raise RawError(answer["error"])
        return answer.get("result", answer)

    def guard(self) -> None:
        """Let in nobody but L{USER}."""
        self.ask("auth/user/add", {"name": USER, "password": PASSWORD})
        self.ask("auth/role/add", {"name": "root"})
        self.ask("auth/user/grant", {"user": USER, "role": "root"})
        self.ask("auth/enable", {})
        self.login()

    def login(self) -> None:
        """Be L{USER} from now on."""
        self._token = ""
        self._token = self.ask("auth/authenticate", {"name": USER, "password": PASSWORD})["token"]

    def keys(self, name: str) -> list[str]:
        """@return: the queue of a lock, who came first first."""
        found = self.ask(
            "kv/range", {"key": coded(f"{name}/"), "range_end": coded(f"{name}0"), "sort_target": "CREATE"}
        )
        return [decoded(each["key"]) for each in found.get("kvs", ())]

    def lease_of(self, key: str) -> int:
        """@return: the lease that a key is bound to."""
        return int(self.ask("kv/range", {"key": coded(key)})["kvs"][0]["lease"])

    def life(self, lease: int) -> int:
        """@return: the seconds that a lease has left, -1 if it is gone."""
        return int(self.ask("lease/timetolive", {"ID": str(lease)}).get("TTL", "0"))

    def drop(self, key: str) -> bool:
        """@return: whether there was such a key to delete."""
        return bool(self.ask("kv/deleterange", {"key": coded(key)}).get("deleted"))


class Peer:
    """
    One who wants a lock, step by step as Athens' library does it.

    @ivar key: its place in the queue.
    """

    def __init__(self, server: Etcd, name: str, seconds: int = 60) -> None:
        self._server = server
        self._name = name
        self._lease = int(server.ask("lease/grant", {"TTL": str(seconds)})["ID"])
        self.key = f"{name}/{self._lease:x}"
        self._revision = 0

    def enter(self) -> bool:
        """Take a place in the queue; @return: whether the lock is ours at once."""
        first = {
            "requestRange": {
                "key": coded(f"{self._name}/"),
                "range_end": coded(f"{self._name}0"),
                "sort_order": "ASCEND",
                "sort_target": "CREATE",
                "limit": "1",
            }
        }
        answer = self._server.ask(
            "kv/txn",
            {
                "compare": [
                    {"key": coded(self.key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"},
                ],
                "success": [{"requestPut": {"key": coded(self.key), "lease": str(self._lease)}}, first],
                "failure": [{"requestRange": {"key": coded(self.key)}}, first],
            },
        )
        own, oldest = answer["responses"]
        if answer.get("succeeded"):
            self._revision = int(answer["header"]["revision"])
        else:
            self._revision = int(own["response_range"]["kvs"][0]["create_revision"])
        return bool(oldest["response_range"]["kvs"][0]["create_revision"] == str(self._revision))

    def waits_for(self) -> str | None:
        """@return: the youngest key before ours, which Athens watches."""
        found = self._server.ask(
            "kv/range",
            {
                "key": coded(f"{self._name}/"),
                "range_end": coded(f"{self._name}0"),
                "sort_order": "DESCEND",
                "sort_target": "CREATE",
                "max_create_revision": str(self._revision - 1),
                "limit": "1",
            },
        )
        return decoded(found["kvs"][0]["key"]) if found.get("kvs") else None

    def leave(self) -> bool:
        """Unlock, or leave the queue; @return: whether the key was still there."""
        there = self._server.drop(self.key)
        self._server.ask("lease/revoke", {"ID": str(self._lease)})
        return there
