"""
The daemon with locks that live as long as C{TEST_LOCK_LEASE} says, where no setting says it:
C{python -m tests.support.leases serve}. Azure allows no less than 15 s.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from athens_tx.cli import main
from athens_tx.singleflight import etcd, gcp

#: The variable.
LEASE = "TEST_LOCK_LEASE"

#: The command line of the daemon, for L{tests.support.daemon.Daemon}, and what it needs in its environment.
COMMAND = (sys.executable, "-m", "tests.support.leases", "serve")
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2])}

if __name__ == "__main__":
    etcd.LEASE = gcp.LEASE = float(os.environ[LEASE])
    main(prog_name="athens-tx")
