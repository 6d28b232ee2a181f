"""The whole way with a real engine in a child process: load, quote, deploy, list, release, refuse, verify."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Walras, fleet_frame, node

TIMEOUT_S = 60


@pytest.fixture
def loaded(walras: Walras, target: str, fleet_file: Path) -> str:
    """The engine with forty nodes of eight H100."""
    run = walras("fleet", "load", fleet_file, "--target", target, "--json")
    assert run.code == 0, run.err
    assert json.loads(run.out)["gpus_registered"] == 320
    return target


def test_load_deploy_list_release(walras: Walras, loaded: str) -> None:
    here = ("--target", loaded, "--tenant", "acme")
    deployed = walras("deploy", "--gpu-model", "H100", "--gpu-count", 64, "--hours", 2, *here, "--json")
    assert deployed.code == 0, deployed.err
    lease = json.loads(deployed.out)
    assert set(lease) >= {"request_id", "lease_id", "total_micro_usd", "placements"}
    assert sum(row["gpus"] for row in lease["placements"]) == 64
    assert set(lease["placements"][0]) == {"node_id", "gpus", "price_micro_usd_per_gpu_hour"}
    rate = sum(row["gpus"] * row["price_micro_usd_per_gpu_hour"] for row in lease["placements"])
    assert lease["total_micro_usd"] == 2 * rate

    listed = json.loads(walras("lease", "list", *here, "--json").out)["leases"]
    assert [each["lease_id"] for each in listed] == [lease["lease_id"]]
    assert json.loads(walras("lease", "list", "--target", loaded, "--json").out)["leases"] == []
    assert json.loads(walras("lease", "get", lease["lease_id"], *here, "--json").out)["placements"]
    assert json.loads(walras("top", *here, "--json").out)["gpus_leased"] == 64

    released = walras("lease", "release", lease["lease_id"], *here, "--json")
    assert released.code == 0 and json.loads(released.out)["state"] == "STATE_ENDED"
    assert json.loads(walras("lease", "list", *here, "--json").out)["leases"] == []


def test_a_lease_is_extended_shrunk_and_paid_back(walras: Walras, loaded: str) -> None:
    here = ("--target", loaded, "--tenant", "longer", "--json")
    asked = ("--gpu-count", 32, "--gpus-per-node", 8, "--hours", 2)
    lease = json.loads(walras("deploy", *asked, "--lock-extension-price", *here).out)
    dear = walras("lease", "extend", lease["lease_id"], "--hours", 1, "--max-amount-micro-usd", 1, *here)
    assert dear.code == 1 and "MAX_AMOUNT_MICRO_USD" in dear.err
    longer = json.loads(walras("lease", "extend", lease["lease_id"], "--duration-s", 3600, *here).out)
    assert longer["total_micro_usd"] * 2 == lease["total_micro_usd"] * 3
    listed = json.loads(walras("lease", "nodes", lease["lease_id"], *here).out)
    assert listed["placements"] == lease["placements"]
    smaller = json.loads(walras("lease", "shrink", lease["lease_id"], "--replicas", 3, *here).out)
    assert smaller["gpu_count"] == 8 and smaller["refund_micro_usd"] > 0
    ended = walras("lease", "release", lease["lease_id"], *here[:-1])
    assert ended.code == 0 and "paid back" in ended.out and "charged" in ended.out
    got = json.loads(walras("lease", "get", lease["lease_id"], *here).out)
    assert got["charged_micro_usd"] == got["total_micro_usd"] - got["refund_micro_usd"]
    for wrong in (("--hours", 1, "--duration-s", 5), ()):
        assert walras("lease", "extend", lease["lease_id"], *wrong, *here).code == 2


def test_a_quote_holds_its_capacity(walras: Walras, loaded: str) -> None:
    here = ("--target", loaded, "--tenant", "holder")
    held = json.loads(walras("quote", "--gpu-count", 8, "--hold", 120, *here, "--json").out)
    assert held["hold"] and held["expire_time_us"] - held["create_time_us"] == 120_000_000
    shown = walras("quote", "--gpu-count", 8, *here, "--hold")
    assert shown.code == 0 and "held" in shown.out
    for wrong in (("--hold", "soon"), ("--hold", 60, "--ttl-s", 60)):
        assert walras("quote", "--gpu-count", 8, *wrong, *here).code == 2


def test_an_indicative_price(walras: Walras, loaded: str) -> None:
    here = ("--target", loaded, "--gpu-model", "H100", "--gpu-count", 8)
    found = json.loads(walras("price", "indicative", *here, "--json").out)
    assert found["evaluated"] and found["schedulable"] and found["price"]["total_micro_usd"] > 0
    least = found["feasible_from_micro_usd_per_gpu_hour"]
    dear = ("--max-price-micro-usd-per-gpu-hour", least - 1)
    refused = walras("price", "indicative", *here, *dear)
    assert refused.code == 0 and "MAX_PRICE" in refused.out and "feasible from" in refused.out
    assert "price lines" in walras("price", "indicative", *here).out


def test_the_same_key_deploys_once(walras: Walras, loaded: str) -> None:
    ask = ("deploy", "--gpu-count", 8, "--target", loaded, "--tenant", "key", "--idempotency-key", "k", "--json")
    first, again = json.loads(walras(*ask).out), json.loads(walras(*ask).out)
    assert first["lease_id"] == again["lease_id"]
    other = walras(*ask, "--gpus-per-node", 8)
    assert other.code == 2 and "IDEMPOTENCY_KEY_REUSED" in other.err
    assert walras("lease", "release", first["lease_id"], "--target", loaded, "--tenant", "key").code == 0


def test_a_quote_is_deployed_at_its_price(walras: Walras, loaded: str) -> None:
    here = ("--target", loaded, "--tenant", "quoted")
    quote = json.loads(walras("quote", "--gpu-count", 16, "--country", "DE", *here, "--json").out)
    lease = json.loads(walras("deploy", "--quote", quote["name"], *here, "--json").out)
    assert lease["total_micro_usd"] == quote["total_micro_usd"] and lease["placements"] == quote["placements"]
    again = walras("deploy", "--quote", quote["name"], *here)
    assert again.code == 1 and "refused" in again.err
    assert walras("lease", "release", lease["name"], *here).code == 0


def test_a_no_is_exit_1_and_explained(walras: Walras, loaded: str, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    near = {"client_latitude": 50.1, "client_longitude": 8.7, "max_client_rtt_ms": 10.0}
    request.write_text(json.dumps({"gpu_models": ["H100"], "gpu_count": 160, **near}))
    run = walras("deploy", "--request", request, "--target", loaded, "--json")
    assert run.code == 1 and run.out == ""
    assert "MAX_CLIENT_RTT_MS" in run.err
    assert re.search(r"raise max_client_rtt_ms from 10\S* to [\d.]+: \$", run.err)
    explained = walras("explain", "--request", request, "--target", loaded, "--json")
    assert explained.code == 0
    explanation = json.loads(explained.out)
    assert explanation["feasible"] is False and explanation["reason"] in run.err


def test_people_can_read_the_answers(walras: Walras, loaded: str) -> None:
    here = ("--target", loaded, "--tenant", "reader")
    quoted = walras("quote", "--gpu-count", 16, *here)
    assert quoted.code == 0 and "placement by region" in quoted.out and "walras deploy --quote" in quoted.out
    deployed = walras("deploy", "--gpu-count", 16, *here)
    assert deployed.code == 0 and "decision" in deployed.out and "proven cheapest" in deployed.out
    lease_id = re.search(r"leases/(\S+):", deployed.out)
    assert lease_id is not None
    for command in ("lease list", "top", "price --gpu-model H100", "explain --gpu-count 8"):
        run = walras(*command.split(), *here)
        assert (run.code == 0 and "H100" in run.out) or lease_id[1] in run.out or "feasible" in run.out, command
    assert "RELEASED" in walras("lease", "release", lease_id[1], *here).out


def test_what_is_not_there_is_a_no(walras: Walras, target: str) -> None:
    for command in ("lease get nothing", "lease release nothing", "deploy --quote quotes/nothing"):
        run = walras(*command.split(), "--target", target)
        assert run.code == 1 and "NOT_FOUND" in run.err, command


def test_violations_that_only_the_engine_sees_are_bad_input(walras: Walras, loaded: str) -> None:
    run = walras("quote", "--gpu-count", 8, "--ttl-s", 0, "--target", loaded)
    assert run.code == 2 and "ttl_s" in run.err


def test_a_fleet_larger_than_one_message(walras: Walras, target: str, tmp_path: Path) -> None:
    fleet = tmp_path / "large.parquet"
    fleet_frame([node(f"large-{number:05}", gpu_model="A100-80GB") for number in range(3_000)]).write_parquet(
        fleet
    )
    run = walras("fleet", "load", fleet, "--target", target, "--json")
    assert run.code == 0 and json.loads(run.out)["nodes_added"] == 3_000


def serve(data_dir: Path, listen: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "engine.cli",
        "serve",
        "--dev",
        "--listen",
        listen,
        "--data-dir",
        str(data_dir),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_line_on_stdout_then_a_clean_end_that_verifies(tmp_path: Path, walras: Walras) -> None:
    data_dir = tmp_path / "data"
    with serve(data_dir, "127.0.0.1:0") as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        rivals = {
            "cannot listen": serve(tmp_path / "other", line.split()[1]),
            "in use": serve(data_dir, "127.0.0.1:0"),
        }
        for why, rival in rivals.items():
            out, err = rival.communicate(timeout=TIMEOUT_S)
            assert rival.returncode == 3 and out == "" and why in err and "Traceback" not in err
        server.send_signal(signal.SIGTERM)
        rest, _ = server.communicate(timeout=TIMEOUT_S)
    assert re.fullmatch(r"listening 127\.0\.0\.1:\d+\n", line) and rest == ""
    assert server.returncode == 0
    verified = walras("journal", "verify", "--data-dir", data_dir)
    assert verified.code == 0 and "chain hash" in verified.out
    assert walras("journal", "verify", "--data-dir", tmp_path / "none").code != 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_quiet(target: str, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "engine.cli", "top", "--watch", "--json", "--target", target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None and top.stdout.readline()
        top.send_signal(number)
        _, err = top.communicate(timeout=TIMEOUT_S)
    assert (top.returncode, err) == (code, "")


def test_nobody_watches_for_a_reader_that_has_gone(target: str) -> None:
    command = [sys.executable, "-m", "engine.cli", "top", "--watch", "--json", "--target", target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None and top.stderr is not None and top.stdout.readline()
        top.stdout.close()
        assert top.wait(TIMEOUT_S) == 0 and top.stderr.read() == ""
