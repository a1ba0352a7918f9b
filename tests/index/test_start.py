"""An SQL index that can't be used says at start which setting to look at; and how the settings are understood."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor as _reactor

from athens_tx.config.backends import MySQL
from athens_tx.config.backends import Postgres as PostgresTable
from athens_tx.errors import ConfigError
from athens_tx.index import sql
from athens_tx.index.mysql import MySqlDialect
from athens_tx.index.postgres import PostgresDialect
from athens_tx.module.version import ModuleVersion as MV
from tests.contract.index_backends import BACKENDS
from tests.support import servers
from tests.support.daemon import free_port
from tests.support.faults import FaultProxy
from tests.support.servers_sql import PASSWORD, USER

reactor: Any = _reactor
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away is waited for less long."""
    monkeypatch.setattr(sql, "START_LIMIT", 3.0)
    monkeypatch.setattr(sql, "START_PAUSE", 0.1)


only_mysql = pytest.mark.parametrize("backend", ["mysql"], indirect=True)
only_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


async def refusal(index: Any) -> str:
    """@return: the one line with which it does not start."""
    before = reactor.seconds()
    index.startService()
    with pytest.raises(ConfigError) as caught:
        await index.ready
    assert reactor.seconds() - before < 11
    await index.stopService()
    [problem] = caught.value.problems
    assert "\n" not in problem
    assert PASSWORD not in problem
    assert USER not in problem
    return problem


async def works(index: Any) -> None:
    index.startService()
    await index.ready
    await index.add(MV("example.com/a", "v1.0.0"))
    lines = [line async for page in index.lines(None, 10) for line in page]
    assert [line.version for line in lines] == ["v1.0.0"]


def table(backend: Any) -> str:
    return str(backend.dialect().table)


@pytest_twisted.ensureDeferred
async def test_a_wrong_password(indexes: Make, backend: Any) -> None:
    assert (
        await refusal(indexes(password="wrong")) == f"{table(backend)}.User, Password: the server does not accept them"
    )


@pytest_twisted.ensureDeferred
async def test_an_empty_password_swallows_nothing(indexes: Make, backend: Any) -> None:
    assert "Password: the server" in await refusal(indexes(password=""))


@pytest_twisted.ensureDeferred
async def test_no_such_database(indexes: Make, backend: Any) -> None:
    said = await refusal(indexes(database="absent"))
    assert said == f"{table(backend)}.Database: there is no such database; it has to be made"


@pytest_twisted.ensureDeferred
async def test_nobody_listens(indexes: Make, backend: Any) -> None:
    said = await refusal(indexes(port=free_port()))
    assert said.startswith(f"{table(backend)}.Host, Port: ")
    assert "refused" in said


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_for_a_moment_is_waited_for(
    indexes: Make, backend: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "START_LIMIT", 10.0)
    proxy.refuse()
    reactor.callLater(1.0, proxy.accept)
    before = reactor.seconds()
    await works(indexes())
    assert 1.0 <= reactor.seconds() - before < 5


@pytest_twisted.ensureDeferred
async def test_a_refusal_ends_the_start_at_once(indexes: Make, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "START_LIMIT", 10.0)
    before = reactor.seconds()
    for settings in ({"password": "wrong"}, {"database": "absent"}):
        await refusal(indexes(**settings))
    assert reactor.seconds() - before < 3


@only_mysql
@pytest_twisted.ensureDeferred
async def test_mysql_settings_that_name_a_postgres(indexes: Make, backend: Any) -> None:
    assert (await refusal(indexes(port=servers.postgres().port))).startswith("Index.MySQL.Host, Port: ")
    lost = pymysql.OperationalError(2013, "Lost connection to MySQL server during query")
    assert "is it MySQL" in backend.dialect().problem(lost)


@pytest_twisted.ensureDeferred
async def test_a_user_who_may_only_read(indexes: Make, backend: Any) -> None:
    index = backend.index()
    index.startService()
    await index.ready
    await index.stopService()
    name = f"guest_{os.urandom(3).hex()}"
    if backend.server.name == "mariadb":
        backend.database.execute(f"CREATE USER {name}@'%' IDENTIFIED BY 'x'")
        backend.database.execute(f"GRANT SELECT ON {backend.database.name}.* TO {name}@'%'")
    else:
        backend.database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        backend.database.execute(f"GRANT SELECT ON indexes TO {name}")
    assert (await refusal(indexes(user=name, password="x"))).startswith(f"{table(backend)}.User: may not ")
    if backend.server.name == "postgres":
        backend.database.execute(f"GRANT INSERT ON indexes TO {name}")
        assert (await refusal(indexes(user=name, password="x"))).startswith(f"{table(backend)}.User: may not ")


@only_postgres
@pytest_twisted.ensureDeferred
async def test_postgres_that_takes_no_changes(indexes: Make, backend: Any) -> None:
    backend.database.execute(f"ALTER DATABASE {backend.database.name} SET default_transaction_read_only = on")
    said = await refusal(indexes())
    assert said.startswith("Index.Postgres.")
    assert "read-only" in said


@pytest_twisted.ensureDeferred
async def test_nobody_has_the_name(indexes: Make, backend: Any) -> None:
    assert (await refusal(indexes(host="db.invalid"))).startswith(f"{table(backend)}.Host")


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_black_hole(indexes: Make, backend: Any, proxy: FaultProxy) -> None:
    proxy.frozen = True
    assert (await refusal(indexes())).startswith(f"{table(backend)}.Host, Port: ")


@pytest_twisted.ensureDeferred
async def test_a_user_who_may_not_make_the_table(indexes: Make, backend: Any) -> None:
    name = f"guest_{os.urandom(3).hex()}"
    if backend.server.name == "mariadb":
        backend.database.execute(f"CREATE USER {name}@'%' IDENTIFIED BY 'x'")
        backend.database.execute(f"GRANT SELECT ON {backend.database.name}.* TO {name}@'%'")
    else:
        backend.database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    said = await refusal(indexes(user=name, password="x"))
    assert said.startswith(f"{table(backend)}.User: may not ")
    index = backend.index()
    index.startService()
    await index.ready
    await index.stopService()
    if backend.server.name == "mariadb":  # where the table is, nothing more is wanted
        backend.database.execute(f"GRANT INSERT ON {backend.database.name}.* TO {name}@'%'")
    else:
        backend.database.execute(f"GRANT SELECT, INSERT ON indexes TO {name}")
        backend.database.execute(f"GRANT USAGE ON SEQUENCE indexes_id_seq TO {name}")
    await works(indexes(user=name, password="x"))


@pytest_twisted.ensureDeferred
async def test_a_journal_that_can_not_be_made(indexes: Make, backend: Any) -> None:
    backend.journal.write_text("in the way")
    assert (await refusal(indexes())).startswith("IndexJournal (ATHENS_INDEX_JOURNAL): ")


@only_mysql
@pytest_twisted.ensureDeferred
async def test_mysql_in_a_collation_without_case(indexes: Make, backend: Any, logged: list[dict[str, Any]]) -> None:
    for statement in backend.athens:
        backend.database.execute(statement)
    await works(indexes())
    [event] = [event for event in logged if event["log_level"].name == "warn"]
    assert "_general_ci" in event["warning"]
    assert "case" in event["warning"]


@pytest.mark.parametrize(
    "params",
    [
        {"tls": "false"},
        {"tls": "skip-verify"},
        {"tls": "preferred"},
        {"tls": "AUTHORITY"},
        {"timeout": "2s", "readTimeout": "1m30s", "writeTimeout": "500ms"},
        {"timeout": "0s", "parseTime": "true", "loc": "Asia%2FTokyo", "interpolateParams": "true", "tls": "false"},
        {"charset": "nonsense,utf8mb4", "collation": "utf8mb4_unicode_ci"},
        {"time_zone": "'+05:00'", "sql_mode": "'ANSI'", "wait_timeout": "100"},
    ],
    ids=str,
)
@only_mysql
@pytest_twisted.ensureDeferred
async def test_mysql_params_that_work(indexes: Make, backend: Any, params: dict[str, str]) -> None:
    params = {name: value.replace("AUTHORITY", str(backend.server.authority_file)) for name, value in params.items()}
    index = indexes(params=params, host="localhost" if "tls" in params else "127.0.0.1")
    await works(index)
    [[wire]] = await index._table._connections.run(
        lambda link: _rows(link, "SELECT variable_value FROM information_schema.session_status WHERE variable_name ="
                                 " 'Ssl_cipher'"), 5.0)  # fmt: skip
    assert bool(wire) is (params.get("tls", "false") != "false")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"tls": "true"}, "Params tls: the certificate of the server is not good: "),
        ({"tls": "OTHER"}, "Params tls: the certificate of the server is not good: "),
        ({"sql_mode": "'NONSENSE'"}, "Params: "),
        ({"no_such_variable": "1"}, "Params: "),
        ({"wait_timeout": "'x"}, "Params: "),
    ],
    ids=str,
)
@only_mysql
@pytest_twisted.ensureDeferred
async def test_mysql_params_that_do_not_work(
    indexes: Make, backend: Any, params: dict[str, str], said: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    params = {name: value.replace("OTHER", str(other)) for name, value in params.items()}
    assert (await refusal(indexes(params=params))).startswith(f"Index.MySQL.{said}")


@only_mysql
@pytest_twisted.ensureDeferred
async def test_mysql_over_a_unix_socket(indexes: Make, backend: Any) -> None:
    await works(indexes(protocol="unix", host=str(backend.server.socket)))


@only_mysql
@pytest_twisted.ensureDeferred
async def test_mysql_certificate_is_for_a_name(indexes: Make, backend: Any) -> None:
    index = indexes(params={"tls": str(backend.server.authority_file)}, host="localhost")
    index._table._dialect._options["host"] = "127.1"  # reaches it, under a name that the certificate has not
    assert "not valid for" in await refusal(index)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"protocol": "pipe"}, "Protocol: pipe: tcp or unix"),
        ({"protocol": "unix"}, "Host: with Protocol unix the path"),
        ({"params": {"tls": "custom"}}, "Params tls: true, false"),
        ({"params": {"tls": "/nowhere.pem"}}, "Params tls: the file can't be read: No such file"),
        ({"params": {"timeout": "soon"}}, "Params timeout: soon: a duration is wanted"),
        ({"params": {"timeout": "-1s"}}, "Params timeout: -1s is below 0"),
        ({"params": {"charset": "nonsense"}}, "Params charset: nonsense"),
        ({"params": {"a b": "1"}}, "Params: 'a b'"),
        ({"params": {"x=1; DROP": "1"}}, "Params: 'x=1; DROP'"),
    ],
    ids=str,
)
def test_mysql_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MySqlDialect(MySQL(**settings))
    assert str(caught.value).startswith(f"Index.MySQL.{said}")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"sslmode": "require"},
        {"sslmode": "verify-full", "sslrootcert": "AUTHORITY"},
        {"connect_timeout": "30s", "sslmode": "disable"},
        {"connect_timeout": "0", "application_name": "it's \\ mine", "binary_parameters": "yes"},
        {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "search_path": "public, pg_catalog", "work_mem": "8MB"},
    ],
    ids=str,
)
@only_postgres
@pytest_twisted.ensureDeferred
async def test_postgres_params_that_work(indexes: Make, backend: Any, params: dict[str, str]) -> None:
    params = {name: value.replace("AUTHORITY", str(backend.server.authority_file)) for name, value in params.items()}
    index = indexes(params=params, host="localhost")
    await works(index)
    [[wire, zone, path]] = await index._table._connections.run(
        lambda link: _rows(
            link,
            "SELECT ssl, current_setting('TimeZone'), current_setting('search_path') FROM pg_stat_ssl"
            " WHERE pid = pg_backend_pid()",
        ),
        5.0,
    )
    assert (zone, path) == ("UTC", params.get("search_path", '"$user", public'))
    assert wire is (params.get("sslmode", "prefer") != "disable")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"sslmode": "verify-full"}, "Params sslmode, sslrootcert: "),
        ({"sslmode": "verify-ca", "sslrootcert": "OTHER"}, "Params sslmode, sslrootcert: "),
        ({"no_such_parameter": "1"}, "Params: "),
        ({"work_mem": "much"}, "Params: "),
    ],
    ids=str,
)
@only_postgres
@pytest_twisted.ensureDeferred
async def test_postgres_params_that_do_not_work(
    indexes: Make, backend: Any, params: dict[str, str], said: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    params = {name: value.replace("OTHER", str(other)) for name, value in params.items()}
    assert (await refusal(indexes(params=params))).startswith(f"Index.Postgres.{said}")


@only_postgres
@pytest_twisted.ensureDeferred
async def test_postgres_variables_fill_in_what_is_not_set(indexes: Make, backend: Any) -> None:
    environ = {"PGPASSWORD": PASSWORD, "PGSSLMODE": "require", "PGHOST": "db.invalid", "PGUSER": "nobody"}
    index = indexes(password="", params={}, environ=environ)
    await works(index)
    rows = await index._table._connections.run(
        lambda link: _rows(link, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), 5.0
    )
    assert rows == [(True,)]


@only_postgres
@pytest_twisted.ensureDeferred
async def test_postgres_over_a_unix_socket(indexes: Make, backend: Any) -> None:
    await works(indexes(host=str(backend.server.home), port=backend.server.port))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"host": "x"}, "Params host: has a setting of its own"),
        ({"password": "x"}, "Params password: has a setting of its own"),
        ({"connect_timeout": "soon"}, "Params connect_timeout: soon: a duration"),
        ({"a b": "1"}, "Params: there is no parameter 'a b'"),
        ({"sslmode": "nonsense"}, "Params sslmode: must be one of disable, allow"),
    ],
    ids=str,
)
def test_postgres_settings_that_make_no_sense(params: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PostgresDialect(PostgresTable(params=params), {})
    assert str(caught.value).startswith(f"Index.Postgres.{said}")


def test_no_representation_shows_a_password() -> None:
    for name in ("mysql", "postgres"):
        backend = BACKENDS[name]
        assert PASSWORD not in repr(backend)
    dialect = MySqlDialect(MySQL(password=PASSWORD))
    assert PASSWORD not in repr(dialect)


def _rows(link: Any, statement: str) -> Any:
    cursor = link.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall())
