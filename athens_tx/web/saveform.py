"""The form that a version is saved with: C{multipart/form-data} with the three files of it, read as it comes."""

from __future__ import annotations

from collections.abc import Callable

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from athens_tx.errors import InvalidRequest, RequestTooLarge
from athens_tx.storage.layout import INFO_LIMIT, MOD_LIMIT

INFO, MOD, ZIP = "mod.info", "mod.mod", "mod.zip"

#: What the form itself may cost beyond its files, in bytes: boundaries, headers, fields that nobody wants.
OVERHEAD = 1 << 20

#: How many parts a form may have; a version has three.
MAX_PARTS = 16

#: How long a boundary may be; RFC 2046 allows 70.
_MAX_BOUNDARY = 200

_LIMITS = {INFO: INFO_LIMIT, MOD: MOD_LIMIT}


class SaveForm:
    """
    Takes the pieces of a form, cut anywhere, and finds the files in it, in any order. Parts that are none of them are
    passed over.
    """

    def __init__(self, content_type: str, zip_piece: Callable[[bytes], None]) -> None:
        """
        @param content_type: of the request.
        @param zip_piece: given the module zip, piece by piece.
        @raise InvalidRequest: it is no form.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not 0 < len(boundary) <= _MAX_BOUNDARY:
            raise InvalidRequest("a version is saved with a multipart/form-data body that has a boundary")
        try:
            self._parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)
        except MultipartError as error:
            raise InvalidRequest(f"the form can't be read: {error}") from error
        self._zip_piece = zip_piece
        self._pieces: dict[str, list[bytes]] = {}
        self._sizes = {INFO: 0, MOD: 0, ZIP: 0}
        self._part = ""

    def write(self, data: bytes) -> None:
        """
        Take a piece.

        @raise InvalidRequest: it is no form, or has a file twice.
        @raise RequestTooLarge: a small file in it is too large.
        """
        if not data:
            return  # to the parser it would be the end
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is not None and self._part:
                    self._take(event)
        except ParserLimitReached as error:
            raise RequestTooLarge(f"the form can't be read: {error}") from error
        except MultipartError as error:
            raise InvalidRequest(f"the form can't be read: {error}") from error

    def _begin(self, segment: MultipartSegment) -> None:
        names = [name for name in (segment.name, segment.filename) if name in self._sizes]
        self._part = names[0] if names else ""
        if self._part in self._pieces:
            raise InvalidRequest(f"the form has {self._part} twice")
        if self._part:
            self._pieces[self._part] = []

    def _take(self, data: bytes) -> None:
        self._sizes[self._part] += len(data)
        if self._part == ZIP:
            self._zip_piece(data)
            return
        if self._sizes[self._part] > _LIMITS[self._part]:
            raise RequestTooLarge(f"{self._part} has more than {_LIMITS[self._part]} bytes")
        self._pieces[self._part].append(data)

    def end(self) -> tuple[bytes, bytes]:
        """
        All has come.

        @return: info and go.mod.
        @raise InvalidRequest: the form is cut short, or lacks a file.
        """
        try:
            self._parser.close()
        except MultipartError as error:
            raise InvalidRequest("the form is cut short") from error
        missing = [name for name in (INFO, MOD, ZIP) if name not in self._pieces]
        if missing:
            raise InvalidRequest(f"the form lacks {', '.join(missing)}")
        return b"".join(self._pieces[INFO]), b"".join(self._pieces[MOD])
