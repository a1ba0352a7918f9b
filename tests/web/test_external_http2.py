"""External storage over HTTP/2: streams have their backpressure too, and bodies are judged before they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater

from athens_tx.storage.sink import FileSink
from tests.support.external import ExternalServer
from tests.web.test_external import AT, FILES, FOO, TYPE, form, stored
from tests.web.test_http2 import Client, Stream

reactor: Any = _reactor
SAVE = f"{AT}/v1.0.0-RC1.save"


class Uploader(Client):
    """Sends bodies as fast as the server lets it."""

    async def send(self, stream: Stream, data: bytes, end: bool = True) -> None:
        number = next(key for key, value in self.streams.items() if value is stream)
        while data and not stream.ended and not stream.reset:
            size = min(len(data), self.conn.local_flow_control_window(number), self.conn.max_outbound_frame_size)
            if size <= 0:
                await deferLater(reactor, 0, lambda: None)
                continue
            self.conn.send_data(number, data[:size])
            data = data[size:]
            self.flush()
        if end and not stream.ended and not stream.reset:
            self.conn.end_stream(number)
            self.flush()

    def leave(self, stream: Stream) -> None:
        self.conn.reset_stream(next(key for key, value in self.streams.items() if value is stream))
        self.flush()


@pytest_twisted.async_yield_fixture
async def secure(tmp_path: Path) -> Any:
    """A function that starts a server behind TLS, and connects to it."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    (tmp_path / "root").mkdir()
    (tmp_path / "staging").mkdir()
    made: list[Any] = []

    async def start(**settings: Any) -> tuple[ExternalServer, Uploader]:
        server = ExternalServer(reactor, tmp_path / "root", tmp_path / "staging", **settings)
        await server.start(PrivateCertificate.loadPEM(pem).options())
        trust = trustRootFromCertificates([Certificate(load_certificate(FILETYPE_PEM, authority.cert_pem.bytes()))])
        options = optionsForClientTLS("localhost", trust, acceptableProtocols=[b"h2"])
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", server.number)
        client = await connectProtocol(wrapClientTLS(options, endpoint), Uploader(True))
        made.extend((server, client))
        return server, client

    yield start
    for thing in made[1::2]:
        thing.transport.abortConnection()
        await thing.until(lambda: False)
    for thing in made[::2]:
        await thing.stop()
    await turns(lambda: not os.listdir(tmp_path / "staging"))


async def turns(condition: Callable[[], Any]) -> None:
    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("it did not come to that")


def ask(client: Uploader, path: str = SAVE, *more: tuple[str, str]) -> Stream:
    return client.ask(path, "POST", ("content-type", TYPE), *more, end=False)


@pytest.mark.parametrize("announced", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_version_is_saved(secure: Any, announced: bool) -> None:
    server, client = await secure()
    files = {**FILES, "mod.zip": os.urandom(3 << 20)}
    body = form(files)
    stream = ask(client, SAVE, *([("content-length", str(len(body)))] if announced else []))
    await client.send(stream, body)
    await client.until(lambda: stream.ended)
    assert stream.headers[":status"] == "200"
    assert await stored(server.storage) == files
    assert (await client.get(f"{AT}/list")).body == b"v1.0.0-RC1"


@pytest_twisted.ensureDeferred
async def test_without_credentials_nothing_is_read_and_the_connection_goes_on(secure: Any) -> None:
    server, client = await secure(basic_auth_user="u", basic_auth_pass="p")
    for number in range(3):
        stream = ask(client, SAVE, ("expect", "100-continue"))
        if number:
            await client.send(stream, bytes(1 << 20), end=number == 2)
        await client.until(lambda stream=stream: stream.ended)
        assert stream.headers[":status"] == "401"
        assert stream.reset or number == 2
    answer = await client.get(f"{AT}/list", "GET", ("authorization", "Basic dTpw"))
    assert (answer.headers[":status"], answer.body) == ("200", b"")
    assert not server.site.in_flight


@pytest_twisted.ensureDeferred
async def test_who_asks_first_is_told_to_go_on(secure: Any) -> None:
    _, client = await secure()
    stream = ask(client, SAVE, ("expect", "100-continue"))
    told: Deferred[None] = Deferred()
    original = client.conn.receive_data

    def receive(data: bytes) -> Any:
        events = original(data)
        if any(type(event).__name__ == "InformationalResponseReceived" for event in events) and not told.called:
            reactor.callLater(0, told.callback, None)
        return events

    client.conn.receive_data = receive
    await told
    await client.send(stream, form(FILES))
    await client.until(lambda: stream.ended)
    assert stream.headers[":status"] == "200"


@pytest_twisted.ensureDeferred
async def test_other_bodies_have_the_rules_of_everywhere(secure: Any) -> None:
    _, client = await secure()
    stream = ask(client, f"{AT}/v1.0.0.info", ("expect", "100-continue"))
    await client.send(stream, bytes(100))
    await client.until(lambda: stream.ended)
    assert stream.headers[":status"] == "405"


@pytest_twisted.ensureDeferred
async def test_a_form_that_is_none_is_refused_in_the_middle(secure: Any) -> None:
    _, client = await secure()
    stream = ask(client)
    await client.send(stream, b"nonsense" * 500_000)
    await client.until(lambda: stream.ended or stream.reset)
    assert stream.headers[":status"] == "400"
    assert (await client.get(f"{AT}/list")).headers[":status"] == "200"


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_leaves_nothing(secure: Any) -> None:
    server, client = await secure()
    for _ in range(3):
        stream = ask(client)
        await client.send(stream, form({**FILES, "mod.zip": os.urandom(1 << 20)})[:-100], end=False)
        await turns(lambda: server.site.in_flight)
        client.leave(stream)
        await turns(lambda: not server.site.in_flight and not os.listdir(server.staging))
    assert not await server.storage.exists(FOO)
    assert (await client.get(f"{AT}/list")).body == b""


@pytest_twisted.ensureDeferred
async def test_a_client_that_says_nothing_any_more_is_given_up(secure: Any) -> None:
    _, client = await secure(idle_timeout=0.3)
    stream = ask(client)
    await client.send(stream, form(FILES)[:50], end=False)
    await client.until(lambda: stream.ended or stream.reset)
    assert stream.headers[":status"] == "400"


@pytest_twisted.ensureDeferred
async def test_a_slow_disk_slows_the_stream_down(secure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = await secure()
    held: list[Any] = []
    original = FileSink._drain
    monkeypatch.setattr(FileSink, "_drain", lambda sink: held.append(sink))
    files = {**FILES, "mod.zip": os.urandom(5 << 20)}
    stream = ask(client)
    sending = Deferred.fromCoroutine(client.send(stream, form(files)))
    await turns(lambda: held and held[-1]._paused)
    for _ in range(50):
        await deferLater(reactor, 0, lambda: None)
    assert held[0]._waiting < 1 << 20
    monkeypatch.setattr(FileSink, "_drain", original)
    original(held[0])
    await sending
    await client.until(lambda: stream.ended)
    assert stream.headers[":status"] == "200"
    assert await stored(server.storage) == files
