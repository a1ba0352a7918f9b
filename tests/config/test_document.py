"""The file as a document: encodings, versions of TOML, what can't be read."""

from __future__ import annotations

import pytest

from athens_tx.config.document import BadDocument, read_document


def read(tmp_path, data):
    path = tmp_path / "a.toml"
    path.write_bytes(data)
    return read_document(path)


@pytest.mark.parametrize(
    "data",
    [b'A = "x"\nB = 2\n', b'\xef\xbb\xbfA = "x"\nB = 2', b'A = "x"\r\nB = 2\r\n', b'\xef\xbb\xbfA = "x"\r\nB = 2'],
)
def test_marks_and_line_ends_do_not_matter(tmp_path, data):
    document = read(tmp_path, data)
    assert document.values == {"A": "x", "B": 2}
    assert document.lines == {("A",): 1, ("B",): 2}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"A = 1\nB = \xff\n", ":2: is not UTF-8"),
        (b'A = 1\nB = "x', ":2: is not TOML 1.0: "),
        (b"A = 1\nB\n", ":2: is not TOML 1.0: "),
        (b"A = 1\nA = 2\n", ":2: is not TOML 1.0: Cannot overwrite a value"),
        (b"[A]\n[A]\n", ":2: is not TOML 1.0: Cannot declare"),
        (b"A = [" + b"[" * 100_000, ": is not a sensible TOML 1.0 file: RecursionError"),
        (b"A = " + b"9" * 5000, ": is not a sensible TOML 1.0 file: ValueError"),
    ],
)
def test_what_is_no_document(tmp_path, data, said):
    with pytest.raises(BadDocument) as caught:
        read(tmp_path, data)
    assert str(caught.value).startswith(f"{tmp_path}/a.toml{said}")
    assert len(str(caught.value).splitlines()) == 1
    assert "1.1" not in str(caught.value)


@pytest.mark.parametrize("data", [b"A = {\n b = 1 }", b"A = { b = 1, }", b'A = "\\e"', b'A = "\\x41"'])
def test_what_is_toml_1_1_is_called_so(tmp_path, data):
    with pytest.raises(BadDocument, match=r"is not TOML 1\.0: .*are of TOML 1\.1"):
        read(tmp_path, data)


def test_what_can_not_be_read(tmp_path):
    with pytest.raises(BadDocument, match="can't be read: No such file"):
        read_document(tmp_path / "none.toml")
    with pytest.raises(BadDocument, match="can't be read: Is a directory"):
        read_document(tmp_path)
