"""
PostgreSQL and MariaDB as Debian has them, and databases of their own for the tests, past athens-tx.

Neither runs as root: started by root, they run as the users of their packages, who must be able to reach their data; so
these lie in the system's temporary directory and not below that of the tests.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import trustme

from tests.support.servers_process import HOST, NotReady, Server, connects

USER = "athens"
PASSWORD = "it's a \\ pass word"
_numbers = itertools.count(1)


class Packaged:
    """
    A program of a Debian package: found, not installed by us, for that wants root.

    @ivar name: the package.
    @ivar commands: what it must have brought, each a command or a pattern of paths, of which the last counts.
    """

    version = "of Debian"

    def __init__(self, name: str, *commands: str) -> None:
        self.name = name
        self.commands = commands
        self.folder = f"the package {name}"

    def lacking(self) -> str | None:
        """@return: why it can't be run, or nothing."""
        if all(self.find(command) for command in self.commands):
            return None
        return f"{self.name} is not installed: apt-get install {self.name}"

    def find(self, command: str) -> str | None:
        """@return: the path of one of the commands."""
        if "/" in command:
            found = sorted(map(str, Path("/").glob(command)))
            return found[-1] if found else None
        return shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")

    def install(self, limit: float) -> None:
        """Install the package, if we are root."""
        from tests.support.servers_install import NotInstalled

        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise NotInstalled(f"apt-get install {self.name} is for root to do")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", self.name]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=max(1.0, limit), check=False)
        if done.returncode:
            raise NotInstalled(f"apt-get: exit status {done.returncode}: {done.stderr.strip()[-300:]}")


class SqlDatabase:
    """
    A database of one test's own, empty.

    @ivar name: what it is called.
    """

    def __init__(self, server: SqlServer) -> None:
        self.server = server
        self.name = f"db_{next(_numbers)}_{os.urandom(3).hex()}"
        server.execute(server.making.format(self.name))

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement; @return: its rows."""
        return self.server.execute(statement, *values, database=self.name)

    def rows(self) -> list[tuple[Any, ...]]:
        """@return: all of the index: path, version and time, in the order of insertion."""
        return self.execute("SELECT path, version, timestamp FROM indexes ORDER BY id")

    def drop(self) -> None:
        """Give the room back."""
        self.server.execute(self.server.dropping.format(self.name))


class SqlServer(Server):
    """
    What both have in common.

    @cvar making: how a database is made.
    @cvar user_name: of whom it runs as, if root starts it.
    @ivar authority: has issued its certificate, for C{localhost} and 127.0.0.1.
    """

    making: str
    dropping: str
    user_name: str
    limit = 60.0

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory)
        self.home = Path(tempfile.mkdtemp(prefix=f"athens-tx-{self.name}-"))
        self.data = self.home / "data"
        self.authority = trustme.CA()
        if os.geteuid() == 0:
            self._give(self.home)

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            user = pwd.getpwnam(self.user_name)
            os.chown(path, user.pw_uid, user.pw_gid)

    def _as_user(self) -> Sequence[str]:
        """@return: what in front of a command lets it run as that user, and end with us."""
        if os.geteuid() != 0:
            return []
        user = pwd.getpwnam(self.user_name)
        ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"]
        return ["setpriv", *ids, "--pdeathsig", "KILL", "--"]

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*self._as_user(), *command], cwd=self.home, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise NotReady(f"{self.name}: {command[0]}: {done.stdout[-500:]}{done.stderr[-500:]}")

    def _certificate(self) -> None:
        """Lay C{ca.pem}, C{server.pem} and C{server.key} into its home."""
        made = self.authority.issue_cert("localhost", HOST)
        self.authority.cert_pem.write_to_path(str(self.home / "ca.pem"))
        (self.home / "ca.pem").chmod(0o644)
        (self.home / "server.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(self.home / "server.key"))
        for name in ("server.pem", "server.key"):
            (self.home / name).chmod(0o600)
            self._give(self.home / name)

    @property
    def authority_file(self) -> Path:
        """The certificate of its authority, PEM."""
        return self.home / "ca.pem"

    def start(self) -> None:
        if not (self.home / "server.pem").exists():
            self._certificate()
        if not self.data.exists():
            self.initialize()
        super().start()

    def initialize(self) -> None:
        """Make its data."""
        raise NotImplementedError

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def end(self) -> None:
        """End it in good order, whoever is connected."""
        if self.running:
            os.kill(self.pid, signal.SIGINT if self.name == "postgres" else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert self._process is not None
                self._process.wait(20)
        self.kill()

    def execute(self, statement: str, *values: Any, database: str = "") -> list[tuple[Any, ...]]:
        """Run a statement as the one who may do everything."""
        raise NotImplementedError

    def database(self) -> SqlDatabase:
        """@return: a new one."""
        return SqlDatabase(self)

    def access(self) -> Mapping[str, str]:
        return {
            "host": HOST,
            "port": str(self.port),
            "user": USER,
            "password": PASSWORD,
            "ca": str(self.authority_file),
        }


class Postgres(SqlServer):
    """PostgreSQL, with passwords and TLS."""

    name = "postgres"
    program: Any = Packaged("postgresql", "usr/lib/postgresql/*/bin/postgres", "usr/lib/postgresql/*/bin/initdb")
    making = 'CREATE DATABASE "{}"'
    dropping = 'DROP DATABASE IF EXISTS "{}" WITH (FORCE)'
    user_name = "postgres"

    def initialize(self) -> None:
        password = self.home / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)
        initdb = self.program.find("usr/lib/postgresql/*/bin/initdb")
        options = ["-U", USER, "--pwfile", str(password), "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8"]
        self._run(initdb, "-D", str(self.data), *options, "--no-sync")

    def command(self) -> Sequence[str]:
        settings = {
            "unix_socket_directories": str(self.home),
            "ssl": "on",
            "ssl_cert_file": str(self.home / "server.pem"),
            "ssl_key_file": str(self.home / "server.key"),
            "fsync": "off",
            "timezone": "Asia/Tokyo",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        postgres = self.program.find("usr/lib/postgresql/*/bin/postgres")
        return [*self._as_user(), postgres, "-D", str(self.data), "-h", HOST, "-p", str(self.port), *options]

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def kill(self) -> None:
        """Its backends are in groups of their own, and hold the memory that the next one wants."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)
                os.kill(self.pid, signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert self._process is not None
                self._process.wait(10)
        super().kill()

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=HOST,
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database or "postgres",
            connect_timeout=5,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement, values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


class MariaDb(SqlServer):
    """MariaDB, which stands for MySQL too, with TLS, in the strict mode it comes with and in a zone far from UTC."""

    name = "mariadb"
    program: Any = Packaged("mariadb-server", "mariadbd", "mariadb-install-db", "mariadb")
    making = "CREATE DATABASE `{}` CHARACTER SET utf8mb4"
    dropping = "DROP DATABASE IF EXISTS `{}`"
    user_name = "mysql"

    @property
    def socket(self) -> Path:
        """Its Unix socket."""
        return self.home / "s.sock"

    def initialize(self) -> None:
        install = self.program.find("mariadb-install-db")
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self._run(install, "--no-defaults", f"--datadir={self.data}", *options)
        secret = PASSWORD.replace("\\", "\\\\").replace("'", "''")
        init = self.home / "init.sql"
        init.write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{secret}';\nGRANT ALL ON *.* TO '{USER}'@'%';\n"
            f"CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED BY '{secret}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'localhost' WITH GRANT OPTION;\n"
        )
        init.chmod(0o644)

    def command(self) -> Sequence[str]:
        mariadbd = self.program.find("mariadbd")
        options = {
            "datadir": self.data,
            "bind-address": HOST,
            "port": self.port,
            "socket": self.socket,
            "pid-file": self.home / "pid",
            "init-file": self.home / "init.sql",
            "ssl-cert": self.home / "server.pem",
            "ssl-key": self.home / "server.key",
            "innodb-flush-log-at-trx-commit": 2,
            "innodb-buffer-pool-size": "64M",
            "default-time-zone": "+09:00",
            "sql-mode": "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        return [*self._as_user(), mariadbd, "--no-defaults", *settings, "--skip-log-bin"]

    def answers(self) -> bool:
        if not connects(self.port):
            return False
        try:
            self.execute("SELECT 1")
        except pymysql.Error:
            return False
        return True

    def execute(self, statement: str, *values: Any, database: str = "") -> list[tuple[Any, ...]]:
        connection = pymysql.connect(
            host=HOST,
            port=self.port,
            user=USER,
            password=PASSWORD,
            database=database or None,
            connect_timeout=5,
            autocommit=True,
            ssl_disabled=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []
