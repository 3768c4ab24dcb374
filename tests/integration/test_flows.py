"""The flows on a real Prefect server, started for them."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

from slf_store.explorer.flow_runs import runs_in_store
from slf_store.store import Store

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
from pathlib import Path
from flows.runtime import prepare
if __name__ == "__main__":
    home, sample = Path(sys.argv[1]), Path(sys.argv[2])
    prepare(home)
    from flows.extract import run_extract
    from flows.ingest import run_ingest
    print(json.dumps(run_ingest(home, sample)))
    print(json.dumps(run_extract(home, ["image_guide"])))
    from flows.verify import verify_flow
    print(json.dumps([verify_flow(home)["values"]]))
    shard = next((home / "shards").rglob("*.h5"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    print(json.dumps([verify_flow(home, return_state=True).is_failed()]))
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(limit=10, sort="START_TIME_ASC")
        print(json.dumps(sorted(run.state.name for run in runs)))
        print(json.dumps([run.parameters for run in runs], default=str))
"""


def test_ingest_extract_and_verify_run_as_flows_and_tell_prefect_no_secret(
    store: Store, sample: Path, tmp_path: Path
) -> None:
    import json

    program = tmp_path / "job.py"
    program.write_text(SCRIPT)
    home = store.settings.home
    done = subprocess.run(
        [sys.executable, program, home, sample / "test"],
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ingested, extracted, values, damage_fails, states, parameters = [
        json.loads(line) for line in done.stdout.splitlines()
    ]
    assert (ingested["new"], extracted["done"]) == (6, {"image_guide": 6})
    assert (values, damage_fails) == ([6], [True])
    assert states == ["Completed", "Completed", "Completed", "Failed"]
    told = [(run["flow"], run["state"]) for run in runs_in_store(tmp_path)]
    assert told == [("verify", "Failed"), ("verify", "Completed"), ("extract", "Completed"), ("ingest", "Completed")]
    assert store.settings.database_url is not None
    password = store.settings.database_url.get_secret_value().split(":")[2].split("@")[0]
    assert password not in json.dumps(parameters) + done.stderr


def test_prefect_yaml_and_serve_flows_say_the_same() -> None:
    import importlib

    from prefect import Flow

    from flows.deployments import PLANS, deployments

    served = {made.name: made for made in deployments(Path("/data/store"), schedules=True, timezone="UTC")}
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [deployment["name"] for deployment in written] == [plan.name for plan in PLANS] == list(served)
    for deployment, plan in zip(written, PLANS, strict=True):
        path, _, name = deployment["entrypoint"].partition(":")
        found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(found, Flow)
        found.validate_parameters(deployment["parameters"])
        same = served[deployment["name"]]
        assert [s["cron"] for s in deployment["schedules"]] == [s.schedule.cron for s in same.schedules or []]
        assert deployment["parameters"] == same.parameters
        assert deployment["tags"] == same.tags
        assert deployment["concurrency_limit"]["collision_strategy"] == plan.collision


def test_the_flow_evaluate_takes_what_the_verb_takes_and_hands_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import evaluate as module
    from slf_store.cli.evaluate import evaluate as verb
    from slf_store.evaluation import evaluate

    flow, function, command = (
        {name: given.default for name, given in inspect.signature(taker).parameters.items()}
        for taker in (module.evaluate_flow.fn, evaluate, verb)
    )
    shown = {"store", "workers", "progress"}  # what the flow opens, takes from the settings, shows itself
    named = {"gallery": "on", "model": "models"}
    assert set(flow) - {"home"} == {named.get(name, name) for name in set(function) - shown}
    both = flow.keys() & function.keys() - {"scales"}
    assert {name: flow[name] for name in both} == {name: function[name] for name in both}
    named = {"scale": "scales", "model": "models"}
    assert set(flow) - {"home"} == {named.get(name, name) for name in set(command) - {"ctx", "workers"}}

    calls: list[dict[str, object]] = []
    monkeypatch.setattr("slf_store.evaluation.evaluate", lambda *place, **given: calls.append(given) or [])
    for name in ("Store", "load_settings", "ProgressPage", "create_table_artifact", "get_run_logger"):
        monkeypatch.setattr(module, name, MagicMock())
    given = {"seed": 3, "steps": 7, "part": "train", "distance": "cosine"}
    given |= dict.fromkeys(("attributes", "fid", "baselines"), False)
    module.evaluate_flow.fn(Path(), "r", "test", scales=[1.0, 2.0], models=["Dlib", "Facenet512"], **given)
    assert [call["model"] for call in calls] == ["Dlib", "Facenet512"]
    assert all(call.items() >= {"scales": [1.0, 2.0], **given}.items() for call in calls)
    module.evaluate_flow.fn(Path(), "r", "test")
    assert [call["scales"] for call in calls[2:]] == [None]  # all there are, with the settings' model


def test_the_compose_file_names_what_there_is() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"postgres", "prefect", "worker"}
    assert all("healthcheck" in service for service in services.values())
    databases = (
        services["worker"]["environment"]["SLF_DATABASE_URL"],
        services["prefect"]["environment"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"],
    )
    assert [url.rpartition("/")[2] for url in databases] == ["slf", "prefect"]
    assert all(":${SLF_DB_PASSWORD:?set SLF_DB_PASSWORD}@postgres:5432" in url for url in databases)
    assert "CREATE DATABASE prefect;" in compose["configs"]["prefect-database"]["content"]
    pool = {d["work_pool"]["name"] for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert pool == {"slf"}
    assert "prefect worker start --pool slf" in services["worker"]["command"][2]
    for service in services.values():  # what is waited for, mounted and configured is there
        assert set(service.get("depends_on", {})) <= set(services)
        assert {name["source"] for name in service.get("configs", [])} <= set(compose["configs"])
