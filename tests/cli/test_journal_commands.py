"""`walras journal`: proving, copying and restoring, by directory and by URL, beside an engine that runs."""

from __future__ import annotations

import re
from pathlib import Path

from engine.cli.server_process import server_process
from tests.cli.conftest import Walras, fleet_frame, node
from tests.postgres import Cluster


def said(out: str, what: str) -> str:
    found = re.search(rf"{what}\s+(\S+)", out)
    assert found is not None, out
    return found[1]


def test_a_copy_of_a_running_engine_serves_the_same_leases(
    walras: Walras, tmp_path: Path, postgres: Cluster
) -> None:
    """From a running engine on SQLite into PostgreSQL, and from there into a directory: the same state hash."""
    fleet, copy, again = tmp_path / "fleet.parquet", tmp_path / "copy", tmp_path / "again"
    fleet_frame([node(f"n{number}") for number in range(4)]).write_parquet(fleet)
    data_dir, url, other = tmp_path / "data", postgres.new_url(), tmp_path / "other"
    with server_process(data_dir, tmp_path / "log") as server:
        target = server.target()
        assert walras("fleet", "load", fleet, "--target", target).code == 0
        assert walras("deploy", "--gpu-count", 16, "--target", target).code == 0
        backup = walras("journal", "backup", copy, "--data-dir", data_dir)
        assert backup.code == 0, backup.err
        verified = walras("journal", "verify", "--data-dir", data_dir)
    assert walras("journal", "restore", copy, "--database-url", url).code == 0
    assert walras("journal", "backup", again, "--database-url", url).code == 0
    assert walras("journal", "restore", again, "--data-dir", other).code == 0
    assert copy.read_bytes() == again.read_bytes()
    for where in (("--database-url", url), ("--data-dir", other)):
        proven = walras("journal", "verify", *where)
        assert proven.code == 0
        for fact in ("chain hash", "state hash", "GPUs leased"):
            assert said(proven.out, fact) == said(verified.out, fact)


def test_what_cannot_be_copied_or_restored_is_bad_input(walras: Walras, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    assert walras("journal", "backup", tmp_path / "copy", "--data-dir", nothing).code == 2
    assert walras("journal", "restore", nothing, "--data-dir", tmp_path / "data").code == 2
    nothing.write_bytes(b"something else")
    restored = walras("journal", "restore", nothing, "--data-dir", tmp_path / "data")
    assert restored.code == 2 and "not a copy" in restored.err
    assert walras("journal", "verify", "--data-dir", tmp_path / "data").code == 2, "nothing was made"
    assert walras("journal", "backup", nothing, "--data-dir", tmp_path / "data").code == 2, "it is there already"
    for command in ("serve", "journal verify"):
        both = walras(*command.split(), "--data-dir", tmp_path, "--database-url", "postgresql://host/x")
        assert both.code == 2 and "give one of them" in both.err
    for url in ("mysql://host/x", "sqlite:///x", "nonsense"):
        refused = walras("serve", "--database-url", url)
        assert refused.code == 2 and "database-url" in refused.err
