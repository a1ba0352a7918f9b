"""What the documents of XML that stores answer with have in common."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError, XMLParser

#: Bytes that are parsed at a time: between two of them other threads have their turn.
_PIECE = 32 * 1024


class BadDocument(ValueError):
    """Not the document that was expected."""


def parse(document: bytes, name: str) -> Element:
    """@return: the root, whose name without its namespace must be C{name}; raise L{BadDocument}."""
    parser = XMLParser()  # noqa: S314  expat bounds what entities can become
    try:
        for start in range(0, len(document), _PIECE):
            parser.feed(document[start : start + _PIECE])
        root: Element = parser.close()
    except ParseError as error:
        raise BadDocument(f"no XML: {error}") from None
    if b"xmlns" in document:
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
    if root.tag != name:
        raise BadDocument(f"{root.tag} instead of {name}")
    return root


def text(element: Element, name: str) -> str:
    """@return: what an element below C{element} holds; empty where there is none."""
    return element.findtext(name) or ""


def error_field(document: bytes, name: str) -> str:
    """@return: what an error says of itself in a field, in one line; empty where it is none that can be read."""
    try:
        return " ".join(text(parse(document, "Error"), name).split())
    except BadDocument:
        return ""


def error_code(document: bytes) -> tuple[str, str]:
    """@return: code and message of an error, a line each; empty where it is none that can be read."""
    return error_field(document, "Code"), error_field(document, "Message")
