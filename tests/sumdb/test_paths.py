"""What a checksum database may be asked, and by which name the answer is kept."""

from __future__ import annotations

import pytest

from athens_tx.errors import InvalidModule
from athens_tx.module.tlog import Tile
from athens_tx.module.version import ModuleVersion
from athens_tx.sumdb.paths import Question


@pytest.mark.parametrize(
    ("path", "kept_as"),
    [
        ("latest", None),
        ("lookup/github.com/!burnt!sushi/toml@v1.4.0", "lookup/github.com/!burnt!sushi/toml@v1.4.0"),
        ("lookup/a.b/c@v2.0.0+incompatible", "lookup/a.b/c@v2.0.0+incompatible"),
        ("tile/8/0/x001/234", "tile/8/0/x001/234"),
        ("tile/8/0/x001/234.p/5", "tile/8/0/x001/234"),
        ("tile/8/1/000.p/255", "tile/8/1/000"),
        ("tile/8/data/x001/234", None),
        ("tile/8/data/000.p/17", None),
        ("tile/4/0/000.p/15", None),
        ("tile/8/99/000", None),
    ],
)
def test_questions(path: str, kept_as: str | None) -> None:
    question = Question.parse(path)
    assert question is not None
    assert (question.path, question.kept_as) == (path, kept_as)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "supported/",
        "latest/",
        "latest?x",
        "lookup/",
        "lookup/a.b/c",
        "lookup/@v1.0.0",
        "lookup/a.b/c@",
        "lookup/a.b/C@v1.0.0",
        "lookup/a.b/../c@v1.0.0",
        "lookup/nodot@v1.0.0",
        "lookup/a.b/c@v1.0.0/x",
        "lookup//a.b/c@v1.0.0",
        "lookup/a.b/c@v1@v2/..",
        "lookup/a.b/c@-x",
        "lookup/a.b/c@v1.0.0\n",
        "lookup/a.b/%63@v1",
        "tile/8/0",
        "tile/8/0/1",
        "tile/8/0/000.p/256",
        "tile/8/0/000.p/0",
        "tile/31/0/000",
        "tile/0/0/000",
        "tile/8/-1/000",
        "tile/8/0/000/001",
        "tile/8/0/x001",
        "tile/8/0/000.p/1/2",
        "tile/8/0/000\n",
        "../latest",
        "etc",
    ],
)
def test_nothing_else_is_asked(path: str) -> None:
    assert Question.parse(path) is None


def test_questions_of_our_own_are_those_of_clients() -> None:
    mv = ModuleVersion("github.com/BurntSushi/toml", "v1.4.0-RC1")
    assert Question.lookup(mv) == Question.parse("lookup/github.com/!burnt!sushi/toml@v1.4.0-!r!c1")
    assert Question.of_tile(Tile(0, 1234, 5)) == Question.parse("tile/8/0/x001/234.p/5")
    with pytest.raises(InvalidModule):
        Question.lookup(ModuleVersion("a.b/é", "v1.0.0"))
