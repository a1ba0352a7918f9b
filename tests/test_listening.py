"""Where the daemon listens."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from athens_tx.errors import ConfigError
from athens_tx.listening import Listening, ServerCertificate, split_port


class Greeting(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(b"hello")
        self.transport.loseConnection()


FACTORY = Factory.forProtocol(Greeting)


class Open:
    """Listens for the length of a C{with} block, and says hello to who connects."""

    def __init__(self, listening: Listening, environ: dict[str, str] | None = None) -> None:
        self.listening, self.environ = listening, environ or {}

    async def __aenter__(self) -> Any:
        self.ports = await self.listening.listen(reactor, FACTORY, self.environ)  # type: ignore[arg-type]
        return self.ports[0].getHost()

    async def __aexit__(self, *_: object) -> None:
        for port in self.ports:
            await port.stopListening()


def greeting(address: Any, context: ssl.SSLContext | None = None) -> tuple[bytes, str]:
    """What a client reads, and the serial number of the certificate it was shown."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(10)
        client.connect(address)
        if context is None:
            return client.recv(100), ""
        with context.wrap_socket(client, server_hostname="localhost") as wrapped:
            certificate: Any = wrapped.getpeercert()
            return wrapped.recv(100), certificate["serialNumber"]


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (":3000", ("", 3000)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("[::]:0", ("::", 0)),
        (":http", ("", 80)),
        ("localhost:3000", ("127.0.0.1", 3000)),
    ],
)
def test_ports_as_go_takes_them(port: str, expected: tuple[str, int]) -> None:
    assert split_port(port) == expected


@pytest.mark.parametrize(
    "port", ["3000", "", "a:b:c", "::1:80", ":65536", ":no-such-service", "no-such-host.invalid:1"]
)
def test_ports_that_mean_nothing(port: str) -> None:
    with pytest.raises(ConfigError, match="Port"):
        split_port(port)


@pytest.mark.parametrize("port", ["127.0.0.1:0", "localhost:0"])
@pytest_twisted.ensureDeferred
async def test_tcp(port: str) -> None:
    async with Open(Listening(port, "", None)) as host:
        assert (await deferToThread(greeting, ("127.0.0.1", host.port)))[0] == b"hello"


@pytest_twisted.ensureDeferred
async def test_without_a_host_on_all_interfaces() -> None:
    async with Open(Listening(":0", "", None)) as host:
        assert (await deferToThread(greeting, ("127.0.0.1", host.port)))[0] == b"hello"


@pytest_twisted.ensureDeferred
async def test_a_machine_without_ipv6_still_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    from twisted.internet import endpoints

    async def refuse(self: object, factory: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(endpoints.TCP6ServerEndpoint, "listen", refuse)
    async with Open(Listening(":0", "", None)) as host:
        assert (await deferToThread(greeting, ("127.0.0.1", host.port)))[0] == b"hello"


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken_is_named() -> None:
    async with Open(Listening("127.0.0.1:0", "", None)) as host:
        with pytest.raises(
            ConfigError, match=f"Port 127.0.0.1:{host.port}: can't listen there: Address already in use"
        ):
            await Listening(f"127.0.0.1:{host.port}", "", None).listen(reactor, FACTORY, {})  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with Open(Listening(":0", str(path), None)):
        assert (await deferToThread(greeting, str(path)))[0] == b"hello"
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_a_socket_that_a_killed_daemon_left_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with Open(Listening(":0", str(path), None)):
        assert (await deferToThread(greeting, str(path)))[0] == b"hello"


@pytest_twisted.ensureDeferred
async def test_what_is_not_ours_is_not_removed(tmp_path: Path) -> None:
    file, alive, deep = tmp_path / "file", tmp_path / "alive", tmp_path / "file" / "s"
    file.write_text("mine")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(alive))
        other.listen()
        for path, reason in ((file, "no socket"), (alive, "another process"), (deep, "Not a directory")):
            with pytest.raises(ConfigError, match=reason):
                await Listening(":0", str(path), None).listen(reactor, FACTORY, {})  # type: ignore[arg-type]
    assert file.read_text() == "mine"


class Authority:
    """A test authority that writes certificates."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.folder = trustme.CA(), folder
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.issue()

    def issue(self) -> None:
        issued = self.authority.issue_cert("localhost")
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest_twisted.ensureDeferred
async def test_tls_and_a_new_certificate_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = ServerCertificate(authority.certificate, authority.key)
    async with Open(Listening("127.0.0.1:0", "", certificate)) as host:
        ask = ("127.0.0.1", host.port)
        said, first = await deferToThread(greeting, ask, authority.context())
        assert said == b"hello"
        authority.issue()
        certificate.reload()
        _, second = await deferToThread(greeting, ask, authority.context())
        assert second != first
        authority.certificate.write_text("nonsense")
        with pytest.raises(ConfigError):
            certificate.reload()
        _, third = await deferToThread(greeting, ask, authority.context())
        assert third == second


def plain(address: tuple[str, int], request: bytes) -> bytes:
    """Speak without TLS; @return: all that comes."""
    with socket.create_connection(address, 10) as client:
        client.sendall(request)
        received = b""
        while piece := client.recv(4096):
            received += piece
    return received


@pytest_twisted.ensureDeferred
async def test_plain_http_to_a_port_with_tls_is_told_so(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = ServerCertificate(authority.certificate, authority.key)
    async with Open(Listening("127.0.0.1:0", "", certificate)) as host:
        ask = ("127.0.0.1", host.port)
        got = await deferToThread(plain, ask, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400 Bad Request\r\n")
        assert body == b"Client sent an HTTP request to an HTTPS server.\n"
        assert b"400" not in await deferToThread(plain, ask, b"\x00\x01\x02\x03\x04\x05")
        assert (await deferToThread(greeting, ask, authority.context()))[0] == b"hello"


def in_pieces(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    """Shake hands byte by byte; @return: what a TLS client reads."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(address, 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                return tls.read(100)
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    client.sendall(bytes([byte]))
                incoming.write(client.recv(4096))


@pytest_twisted.ensureDeferred
async def test_a_handshake_may_come_byte_by_byte(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = ServerCertificate(authority.certificate, authority.key)
    async with Open(Listening("127.0.0.1:0", "", certificate)) as host:
        assert await deferToThread(in_pieces, ("127.0.0.1", host.port), authority.context()) == b"hello"


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("cert.pem", None, r"TLSCertFile .*No such file"),
        ("cert.pem", "", "holds no certificate"),
        ("cert.pem", "x\n-----END CERTIFICATE-----", "TLSCertFile"),
        ("key.pem", None, r"TLSKeyFile .*No such file"),
        ("key.pem", "x", "TLSKeyFile"),
    ],
)
def test_bad_tls_files_are_named(tmp_path: Path, file: str, text: str | None, reason: str) -> None:
    authority = Authority(tmp_path)
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=reason):
        ServerCertificate(authority.certificate, authority.key)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.key.write_bytes(authority.authority.issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(ConfigError, match="is not the key of"):
        ServerCertificate(authority.certificate, authority.key)


@pytest_twisted.ensureDeferred
async def test_systemd_without_sockets_is_an_error() -> None:
    with pytest.raises(ConfigError, match="passed no socket"):
        await Listening("systemd:domain=INET:index=0", "", None).listen(
            reactor,  # type: ignore[arg-type]
            FACTORY,
            {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"},
        )
