"""The stand-in for MongoDB and its databases, past athens-tx."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from typing import Any

import gridfs
import pymongo

from tests.support.servers_install import Program
from tests.support.servers_process import HOST, Server, connects

_MAIN = """
import de.bwaldvogel.mongo.MongoBackend;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.ServerVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;

class Main {
    public static void main(String[] arguments) {
        MongoBackend backend = new MemoryBackend().version(ServerVersion.MONGO_5_0);
        new MongoServer(backend).bind(arguments[0], Integer.parseInt(arguments[1]));
    }
}
"""
_numbers = itertools.count(1)


class MongoDatabase:
    """
    A database of one test's own.

    @ivar database: pymongo's, blocking; its collections are made when something is put into them.
    """

    def __init__(self, server: MongoJava) -> None:
        self.server = server
        self.name = f"database-{next(_numbers)}-{os.urandom(3).hex()}"
        self.database: Any = server.client[self.name]

    def files(self, prefix: str = "fs") -> gridfs.GridFS:
        """@return: the GridFS whose collections begin with C{prefix}."""
        return gridfs.GridFS(self.database, prefix)

    def drop(self) -> None:
        """Free its memory."""
        self.server.client.drop_database(self.name)


class MongoJava(Server):
    """mongo-java-server, with its data in memory: no sessions, no logins, no TLS."""

    name = "mongo"
    program = Program("mongo-java-server", "1.47.0", "mvn", "de.bwaldvogel:mongo-java-server", "javac")

    def command(self) -> Sequence[str]:
        main = self.data / "Main.java"
        main.write_text(_MAIN)
        jars = f"{self.program.folder}/*"
        return ["java", "-Xmx2g", "-XX:TieredStopAtLevel=1", "-cp", jars, str(main), HOST, str(self.port)]

    def answers(self) -> bool:
        return connects(self.port)

    @property
    def endpoint(self) -> str:
        """Its URL, without a database."""
        return f"mongodb://{HOST}:{self.port}"

    @functools.cached_property
    def client(self) -> Any:
        """pymongo's client, blocking."""
        return pymongo.MongoClient(self.endpoint, serverSelectionTimeoutMS=5000)

    def bucket(self) -> MongoDatabase:
        """@return: a new, empty database."""
        return MongoDatabase(self)

    def kill(self) -> None:
        """Its threads would go on asking."""
        if "client" in self.__dict__:
            self.__dict__.pop("client").close()
        super().kill()
