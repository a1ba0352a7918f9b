"""What documents of XML have in common, those of careless servers too."""

from __future__ import annotations

import pytest

from athens_tx.storage.xml_documents import BadDocument, error_code, error_field, parse, text


@pytest.mark.parametrize("space", ["", 'xmlns="urn:one"', 'xmlns:a="urn:two"'])
def test_the_namespace_does_not_matter(space: str) -> None:
    name = "a:x" if ":a" in space else "x"
    root = parse(f"<{name} {space}><{name}>1</{name}></{name}>".encode(), "x")
    assert (text(root, "x"), text(root, "y")) == ("1", "")


def test_a_long_document_is_the_same_in_pieces() -> None:
    words = [f"{number} é" for number in range(20_000)]
    root = parse(f"<x>{''.join(f'<a>{word}</a>' for word in words)}</x>".encode(), "x")
    assert [entry.text for entry in root] == words


@pytest.mark.parametrize("document", [b"", b"<x>", b"<y></y>", b"<x></x><x></x>", b"no xml", b"<x>\xff</x>"])
def test_what_is_not_the_document_is_refused(document: bytes) -> None:
    with pytest.raises(BadDocument):
        parse(document, "x")


def test_an_error_is_read_on_one_line() -> None:
    document = b"<Error><Code>Wrong</Code><Message>two\n  lines</Message><Region>eu</Region></Error>"
    assert error_code(document) == ("Wrong", "two lines")
    assert error_field(document, "Region") == "eu"
    for other in (b"", b"<html/>", b"no xml"):
        assert error_code(other) == ("", "")
