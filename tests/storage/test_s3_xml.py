"""The documents of S3 servers, those of careless ones too."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime

import pytest

from athens_tx.interfaces import StoredObject
from athens_tx.storage.s3_xml import Upload, completion, error_region, is_from_minio, listing, location, uploads
from athens_tx.storage.xml_documents import BadDocument, parse, text

NOW = datetime(2024, 1, 1, 12, 0, 10, tzinfo=UTC)
SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def contents(key: str, more: str = "<ETag>&quot;tag&quot;</ETag><Size>5</Size>") -> str:
    return f"<Contents><Key>{key}</Key><LastModified>2024-01-01T12:00:00.000Z</LastModified>{more}</Contents>"


def listed(inner: str, space: str = SPACE) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {space}>{inner}</ListBucketResult>'.encode()


@pytest.mark.parametrize("space", [SPACE, ""])
def test_a_listing_with_and_without_its_namespace(space: str) -> None:
    found = listing(listed(f"<IsTruncated>false</IsTruncated>{contents('a/b')}", space), NOW)
    assert found.objects == [StoredObject("a/b", '"tag"', 5, 10.0)]
    assert not found.cut


@pytest.mark.parametrize(
    ("encoding", "written", "key"),
    [
        ("url", "a%2Bb+c%20%C3%A9/%25", "a+b+c é/%"),
        (None, "a%2Bb+c &amp; é", "a%2Bb+c & é"),
    ],
)
def test_keys_are_decoded_only_where_the_server_says_that_it_encoded_them(
    encoding: str | None, written: str, key: str
) -> None:
    said = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    assert [found.key for found in listing(listed(said + contents(written)), NOW).objects] == [key]


def test_what_a_listing_may_leave_out() -> None:
    assert listing(listed(contents("a", "")), NOW).objects == [StoredObject("a", "", 0, 10.0)]
    assert listing(listed(""), NOW).objects == []


def test_what_was_written_after_the_answer_by_another_clock_is_new() -> None:
    assert listing(listed(contents("a")), datetime(2023, 1, 1, tzinfo=UTC)).objects[0].age == 0.0


def test_a_listing_that_is_cut() -> None:
    cut = "<IsTruncated>true</IsTruncated>"
    found = listing(listed(f"{cut}<NextContinuationToken>next</NextContinuationToken>{contents('a')}"), NOW)
    assert (found.cut, found.token) == (True, "next")
    found = listing(listed(f"{cut}<NextContinuationToken>next</NextContinuationToken>"), NOW)
    assert (found.cut, found.objects, found.token) == (True, [], "next")
    with pytest.raises(BadDocument, match="without objects"):
        listing(listed(cut), NOW)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"<html></html>",
        b"<Error><Code>x</Code></Error>",
        listed(contents("a").replace("Z<", "<")),
        listed(contents("a").replace("2024", "soon")),
        listed(contents("a", "<Size>much</Size>")),
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + each, b"&%c;" % (97 + each) * 10) for each in range(12))
        + b"]><ListBucketResult><Key>&m;</Key></ListBucketResult>",
    ],
)
def test_what_is_no_listing_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        listing(document, NOW)


def test_minio_is_known_by_its_tokens() -> None:
    assert is_from_minio(b64encode(b"a/b[minio_cache:v2,id:x,return:]").decode())
    for token in ("", "a", "a/b", "é", b64encode(b"a/b").decode()):
        assert not is_from_minio(token)


def test_unfinished_uploads_and_where_there_are_more() -> None:
    one = "<Upload><Key>a%2Bb</Key><UploadId>1</UploadId><Initiated>2024-01-01T12:00:00Z</Initiated></Upload>"
    document = "<ListMultipartUploadsResult><EncodingType>url</EncodingType>{}{}</ListMultipartUploadsResult>"
    found = [Upload("a+b", "1", datetime(2024, 1, 1, 12, tzinfo=UTC))]
    assert uploads(document.format(one, "").encode()) == (found, None)
    more = (
        "<IsTruncated>true</IsTruncated><NextKeyMarker>a%2Bb</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>"
    )
    assert uploads(document.format(one, more).encode()) == (found, ("a+b", "1"))
    with pytest.raises(BadDocument, match="does not say where"):
        uploads(document.format(one, "<IsTruncated>true</IsTruncated>").encode())


def test_an_error_may_name_a_region() -> None:
    assert error_region(b"<Error><Code>Wrong</Code><Region>eu</Region></Error>") == "eu"
    assert error_region(b"<html/>") == ""


def test_what_finishes_an_upload() -> None:
    root = parse(completion(['"one"', '"<&>"']), "CompleteMultipartUpload")
    assert [(text(part, "PartNumber"), text(part, "ETag")) for part in root] == [("1", '"one"'), ("2", '"<&>"')]


def test_what_asks_for_a_region() -> None:
    assert location("") == location("us-east-1") == b""
    assert text(parse(location("eu-<1>"), "CreateBucketConfiguration"), "LocationConstraint") == "eu-<1>"
