"""C{twistd athens}."""

from twisted.application.service import ServiceMaker

athens = ServiceMaker("athens", "athens_tx.twistd", "A Go module proxy, a drop-in for Athens.", "athens")
