"""HTTP/2 on one connection: Twisted's, with limits, and without its trouble with streams that are closed meanwhile."""

from __future__ import annotations

from typing import Any

from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web._http2 import H2Connection

from athens_tx.web.request import LINGER

#: The size of what comes before the payload of a frame, in bytes.
_FRAME_HEAD = 9

_log = Logger(namespace="athens_tx.web")


class Http2(H2Connection):
    """HTTP/2 that does not take a request that needs long for an idle connection."""

    site: Any
    streams: dict[int, Any]
    transport: Any

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._late: dict[int, IDelayedCall] = {}

    def timeoutConnection(self) -> None:
        """Nothing moved for C{idle_timeout} seconds: go on only if nothing but our own answers is waited for."""
        stuck = self._consumerBlocked is not None or any(self._outboundStreamQueues.values())
        if not stuck and any(not stream._request.startedWriting for stream in self._answered()):
            self.setTimeout(self.site.idle_timeout)
        elif self.streams:
            _log.info("gave up a client that takes or sends nothing: {peer}", peer=str(self.transport.getPeer()))
            self.transport.abortConnection()
        else:
            self.transport.unregisterProducer()  # TLS does not close under a producer, and we are one
            super().timeoutConnection()

    def remainingOutboundWindow(self, streamID: int) -> int:
        """
        How much a stream may be given. Twisted asks after each piece that it sent, and would go on trying at full speed
        where the client takes nothing at all: such a stream waits for the client.
        """
        if not self._open(streamID):
            return 0
        if self._outboundStreamQueues[streamID] and not self._sendable(streamID):
            self.priority.block(streamID)
        return int(super().remainingOutboundWindow(streamID))

    def _sendable(self, stream_id: int) -> bool:
        """Whether something can be sent now: there is, and the client takes it (the end it takes always)."""
        queue = self._outboundStreamQueues[stream_id]
        if not queue:
            return False
        return not isinstance(queue[0], bytes) or self.conn.local_flow_control_window(stream_id) > 0

    def dataReceived(self, data: bytes) -> None:
        """Frames: some of them may have made room for what waits to be sent."""
        if self._finished:
            return
        super().dataReceived(data)
        if not self._finished and len(self.conn.incoming_buffer._data) > self.conn.max_inbound_frame_size + _FRAME_HEAD:
            # h2 would look at the length of a frame, of up to 16 MiB, when it has all of it.
            self.conn.close_connection(ErrorCodes.FRAME_SIZE_ERROR)
            self._terminate(Failure(ConnectionLost("a frame is too long")))
        if self._finished:
            self._close()
            return
        if self._sendingDeferred is None:
            return
        for stream_id, stream in tuple(self.streams.items()):
            if stream_id in self.streams:  # one that goes on may end another
                stream.windowUpdated()
            if stream_id in self.streams and self._sendable(stream_id):
                self.priority.unblock(stream_id)
                waiting, self._sendingDeferred = self._sendingDeferred, None
                if waiting is not None:
                    waiting.callback(None)

    def _answered(self) -> list[Any]:
        return [stream for stream in self.streams.values() if stream._request.started]

    # h2 takes all frames of a segment before Twisted hears of the first: by then their stream, or the connection, may
    # be closed by a later one. Nothing is begun for such a stream, and nothing sent; its end comes in turn.

    @property
    def _finished(self) -> bool:
        """Whether an error, or either side's GOAWAY, has ended the connection."""
        return not self._stillProducing or self.conn.state_machine.state is ConnectionState.CLOSED

    def _open(self, stream_id: int) -> bool:
        stream = self.conn.streams.get(stream_id)
        return stream is not None and not stream.closed and not self._finished

    def _close(self) -> None:
        """Close at last: the client has said, or has been told, that this is the end."""
        self.setTimeout(None)
        self.transport.unregisterProducer()  # as above
        self.transport.loseConnection()
        if self._abortingCall is None:
            self._abortingCall = self.callLater(LINGER, self.forceAbortClient)

    def _requestReceived(self, event: Any) -> None:
        if self._finished:
            return
        super()._requestReceived(event)
        stream_id = event.stream_id
        stream = self.streams[stream_id]
        stream.refuse = lambda *_: self._reset_in(0.0, stream_id)
        if stream.path is None:  # CONNECT
            self._reset_in(0.0, stream_id)
        elif event.stream_ended is None:
            self._body_follows(stream_id, stream)

    def _body_follows(self, stream_id: int, stream: Any) -> None:
        request = stream._request
        limit = self.site.upload_limit(stream.command, stream.path)
        if limit:
            stream.go_on = lambda: self._send100Continue(stream_id)
            request.expect_upload(stream, limit, b"HTTP/2")
            request.headers_received(stream.command, stream.path, b"HTTP/2")
            return
        self._reset_in(self.site.idle_timeout, stream_id)
        if request.requestHeaders.getRawHeaders(b"Expect", [b""])[0].lower() == b"100-continue":
            self._send100Continue(stream_id)

    def _requestDataReceived(self, event: Any) -> None:
        if self._finished:
            return
        if event.stream_id in self.streams:
            super()._requestDataReceived(event)
        else:  # it was answered before it was complete
            self.openStreamWindow(event.stream_id, event.flow_controlled_length)

    def openStreamWindow(self, streamID: int, increment: int) -> None:
        """Let the client send more."""
        if increment and not self._finished:
            super().openStreamWindow(streamID, increment)

    def _requestEnded(self, event: Any) -> None:
        if self._open(event.stream_id) and self.streams[event.stream_id].path is not None:
            super()._requestEnded(event)

    def _requestAborted(self, event: Any) -> None:
        if not self._finished:
            super()._requestAborted(event)

    def _handleWindowUpdate(self, event: Any) -> None:
        if not self._finished:
            super()._handleWindowUpdate(event)

    def _send100Continue(self, streamID: int) -> None:
        # Twisted would say so before the request is looked at; its stream is not known then.
        if streamID in self.streams and self._open(streamID):
            super()._send100Continue(streamID)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any, streamID: int) -> None:
        """The head of an answer."""
        if self._open(streamID):
            super().writeHeaders(version, code, reason, headers, streamID)

    def writeDataToStream(self, streamID: int, data: bytes) -> None:
        """A piece of an answer."""
        if self._open(streamID):
            super().writeDataToStream(streamID, data)

    def endRequest(self, streamID: int) -> None:
        """The end of an answer."""
        if self._open(streamID):
            super().endRequest(streamID)

    def abortRequest(self, streamID: int) -> None:
        """Reset a stream."""
        if self._open(streamID):
            super().abortRequest(streamID)

    def _reset_in(self, seconds: float, stream_id: int) -> None:
        """Reset a stream whose request is not complete by then. Never at once: events may wait for the stream."""
        late = self._late.pop(stream_id, None)
        if late is not None:
            late.cancel()
        self._late[stream_id] = self._reactor.callLater(seconds, self._reset, stream_id)

    def _reset(self, stream_id: int) -> None:
        del self._late[stream_id]
        stream = self.streams[stream_id]
        if not stream._request.started:
            stream.abortConnection()

    def _requestDone(self, streamID: int) -> None:
        late = self._late.pop(streamID, None)
        if late is not None:
            late.cancel()
        upload = self.streams[streamID]._request.upload
        if upload is not None and not upload.complete and self._open(streamID):
            self.conn.reset_stream(streamID, ErrorCodes.NO_ERROR)  # nobody wants the rest of the body
            self._tryToWriteControlData()
        super()._requestDone(streamID)
        if self.site.draining and self._stillProducing:
            self.retire()

    def retire(self) -> None:
        """Close as soon as nothing is being answered."""
        if not self.streams:
            self.transport.unregisterProducer()  # as above
            self.transport.loseConnection()
