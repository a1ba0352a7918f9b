"""The measuring measures: figures come out, and a server that answers wrongly gives none."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.load import LoadError, has_wrk, measure, parse_wrk
from bench.modules import MODULE, TARGETS, VERSIONS, ZIP_SIZE, fill
from bench.reference import answers
from bench.servers import reference

WRK = """\
Running 5s test @ http://127.0.0.1:3000/x
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.10ms  305.50us  12.00ms   88.00%
    Req/Sec    58.20k     3.10k   64.00k    70.00%
  Latency Distribution
     50%    1.05ms
     75%    1.20ms
     90%  950.00us
     99%    2.50s
  289000 requests in 5.00s, 60.00MB read
Requests/sec:  57800.12
Transfer/sec:     12.00MB
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A reference that runs: its URL."""
    work = tmp_path_factory.mktemp("bench")
    fill(work / "storage")
    with reference(work / "storage", work) as url:
        yield url


def test_made_modules_are_laid_out_as_on_disk_and_the_same_each_time(tmp_path):
    for root in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        fill(root)
    place = Path(MODULE) / VERSIONS[3]
    files = {path.name: path.read_bytes() for path in (tmp_path / "a" / place).iterdir()}
    assert set(files) == {f"{VERSIONS[3]}.info", "go.mod", "source.zip"}
    assert all((tmp_path / "b" / place / name).read_bytes() == content for name, content in files.items())
    assert abs(len(files["source.zip"]) - ZIP_SIZE) < 200
    with zipfile.ZipFile(tmp_path / "a" / place / "source.zip") as archive:
        assert all(name.startswith(f"{MODULE}@{VERSIONS[3]}/") for name in archive.namelist())
    assert json.loads(files[f"{VERSIONS[3]}.info"])["Version"] == VERSIONS[3]


def test_the_reference_has_an_answer_for_each_target(tmp_path):
    fill(tmp_path)
    assert {path.encode() for _, path in TARGETS} < set(answers(tmp_path))


def test_what_wrk_prints_is_understood():
    figure = parse_wrk(WRK, "http://x")
    assert (figure.rate, figure.median_ms, figure.p99_ms) == (57800.12, 1.05, 2500.0)


@pytest.mark.parametrize(
    ("printed", "trouble"),
    [
        (WRK + "  Non-2xx or 3xx responses: 12\n", "Non-2xx or 3xx responses: 12"),
        (WRK + "  Socket errors: connect 0, read 1, write 0, timeout 0\n", "read 1"),
        ("unable to connect", "no rate"),
        ("Requests/sec: 1.0", "no latencies"),
    ],
)
def test_a_measurement_with_errors_gives_no_figure(printed, trouble):
    with pytest.raises(LoadError, match=trouble):
        parse_wrk(printed, "http://x")


@pytest.mark.parametrize("wrk", [False, pytest.param(True, marks=pytest.mark.skipif(not has_wrk(), reason="no wrk"))])
def test_a_server_is_measured(server, wrk):
    figure = measure(server + TARGETS[0][1], connections=4, seconds=0.2, wrk=wrk)
    assert figure.rate > 50
    assert 0 < figure.median_ms <= figure.p99_ms


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "https://127.0.0.1:1/x"])
def test_without_a_server_there_is_no_figure(url):
    with pytest.raises(LoadError):
        measure(url, connections=2, seconds=0.1, wrk=False)


def test_proxies_are_measured_in_turn_and_compared(server, capsys):
    assert main([server, server, "--seconds", "0.1", "--rounds", "2", "--target", "info", "--built-in", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["servers"] == [server, f"{server} (2)"]
    assert [len(each["rounds"]) for each in report["targets"]["info"].values()] == [2, 2]
    assert report["targets"]["info"][f"{server} (2)"]["ratio"] == 1.0
    order = [line.split(": ")[1].rsplit(" ", 1)[0] for line in err.splitlines() if line.startswith("info round")]
    assert order == report["servers"] * 2


def test_the_table_has_a_line_for_each_target_and_server(server, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main([server, "--seconds", "0.1", "--rounds", "1"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(" | ")[0] for line in out.splitlines()[4:]] == [f"| {name}" for name, _ in TARGETS]
    assert "wrk is not installed" in err


def test_a_proxy_that_does_not_have_the_modules_is_not_measured(capsys):
    assert main(["http://127.0.0.1:1", "--seconds", "0.1"]) == 1
    assert "--fill" in capsys.readouterr().err


def test_filling_is_all_that_fill_does(tmp_path, capsys):
    assert main(["--fill", str(tmp_path)]) == 0
    assert MODULE in capsys.readouterr().out
    assert (tmp_path / MODULE / VERSIONS[0] / "go.mod").is_file()
