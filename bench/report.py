"""The figures side by side, as a table for people and as JSON for scripts."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

import attrs

from bench.load import Figure


@attrs.define
class Report:
    """
    All that was measured.

    @ivar servers: names in the order of measuring; ratios are to the last one.
    @ivar figures: by target, then by server, one for each round.
    """

    servers: list[str]
    tool: str
    connections: int
    seconds: float
    figures: dict[str, dict[str, list[Figure]]] = attrs.Factory(dict)

    def add(self, target: str, server: str, figure: Figure) -> None:
        """Keep a figure."""
        self.figures.setdefault(target, {}).setdefault(server, []).append(figure)

    def rate(self, target: str, server: str) -> float:
        """@return: the median over the rounds of the requests a second."""
        return statistics.median(figure.rate for figure in self.figures[target][server])

    def ratio(self, target: str, server: str) -> float:
        """@return: how fast C{server} is, compared with the last one."""
        return self.rate(target, server) / self.rate(target, self.servers[-1])

    def table(self) -> str:
        """@return: one line for each target and server, in Markdown."""
        rounds = len(next(iter(next(iter(self.figures.values())).values())))
        lines = [
            f"Requests a second, median of {rounds} rounds of {self.seconds:g} s, {self.connections} connections, "
            f"load by {self.tool}, Python {platform.python_version()}, {os.cpu_count()} cores.",
            "",
            "| target | server | requests/s | lowest | highest | median ms | 99 % ms | ratio |",
            "|---|---|--:|--:|--:|--:|--:|--:|",
        ]
        for target in self.figures:
            lines.extend(self._line(target, server) for server in self.servers)
        return "\n".join(lines)

    def _line(self, target: str, server: str) -> str:
        rounds = self.figures[target][server]
        rates = [figure.rate for figure in rounds]
        middle = statistics.median(figure.median_ms for figure in rounds)
        late = statistics.median(figure.p99_ms for figure in rounds)
        return (
            f"| {target} | {server} | {self.rate(target, server):.0f} | {min(rates):.0f} | {max(rates):.0f} "
            f"| {middle:.2f} | {late:.2f} | {self.ratio(target, server):.2f} |"
        )

    def data(self) -> dict[str, Any]:
        """@return: everything, for JSON."""
        return {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "tool": self.tool,
            "connections": self.connections,
            "seconds": self.seconds,
            "servers": self.servers,
            "targets": {
                target: {
                    server: {
                        "rate": self.rate(target, server),
                        "ratio": self.ratio(target, server),
                        "rounds": [attrs.asdict(figure) for figure in rounds],
                    }
                    for server, rounds in by_server.items()
                }
                for target, by_server in self.figures.items()
            },
        }
