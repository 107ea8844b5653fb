"""The online part: Feast's Python server, Asof, and a bare handler with the same bytes, under wrk on one machine."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ENTITIES = 10_000
# 50 features over three views.
VIEWS = {"v0": 17, "v1": 17, "v2": 16}
SERVICE = "fifty"
OBSERVED = 1_772_000_000_000_000  # 2026-02-25 UTC in microseconds.


def kind(number: int) -> str:
    return "string" if number % 10 == 9 else "int64" if number % 2 else "float64"


def make_data(folder: Path) -> None:
    """One file per view: every entity once, a tenth of the columns text, the rest whole and real numbers."""
    for view, count in VIEWS.items():
        path = folder / f"{view}.parquet"
        if path.exists():
            continue
        random = np.random.default_rng(7)
        columns = {
            "entity_id": np.arange(ENTITIES),
            "event_timestamp": pa.array(np.full(ENTITIES, OBSERVED), pa.timestamp("us", tz="UTC")),
        }
        for number in range(count):
            columns[f"{view}_f{number}"] = {
                "string": lambda: pa.array([f"cat_{word:03d}" for word in random.integers(0, 200, ENTITIES)]),
                "int64": lambda: random.integers(0, 100_000, ENTITIES),
                "float64": lambda: random.normal(100, 30, ENTITIES),
            }[kind(number)]()
        pq.write_table(pa.table(columns), path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list, folder: Path, url: str) -> Iterator[float]:
    """A server that answers at `url`, stopped at the end; gives the seconds until it answered."""
    begun = time.perf_counter()
    with open(folder / "server.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            while True:
                if process.poll() is not None:
                    raise RuntimeError(f"{command[0]} ended: {(folder / 'server.log').read_text()[-2000:]}")
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.005)
                if time.perf_counter() - begun > 120:
                    raise RuntimeError(f"{command[0]} did not answer at {url}")
            yield time.perf_counter() - begun
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def feast_folder(data: Path, work: Path, store: str, redis: int) -> Path:
    """A Feast repository with the same views, materialised."""
    from datetime import datetime, timedelta, timezone

    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType

    folder = work / f"feast_{store}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    online = {"sqlite": "  type: sqlite\n  path: online.db",
              "redis": f'  type: redis\n  connection_string: "127.0.0.1:{redis}"'}[store]
    (folder / "feature_store.yaml").write_text(
        f"project: bench\nprovider: local\nregistry: registry.db\nonline_store:\n{online}\n"
        "offline_store:\n  type: duckdb\nentity_key_serialization_version: 3\n"
    )
    entity = Entity(name="entity_id", join_keys=["entity_id"], value_type=ValueType.INT64)
    kinds = {"string": String, "int64": Int64, "float64": Float64}
    views = [
        FeatureView(
            name=view, entities=[entity], ttl=timedelta(days=3650), online=True,
            schema=[Field(name="entity_id", dtype=Int64)]
            + [Field(name=f"{view}_f{number}", dtype=kinds[kind(number)]) for number in range(count)],
            source=FileSource(name=f"{view}_source", path=str(data / f"{view}.parquet"),
                              timestamp_field="event_timestamp"),
        )
        for view, count in VIEWS.items()
    ]
    opened = FeatureStore(repo_path=str(folder))
    opened.apply([entity, *views, FeatureService(name=SERVICE, features=views)])
    opened.materialize(datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 12, 1, tzinfo=timezone.utc))
    return folder


def asof_folder(binary: Path, data: Path, work: Path, port: int) -> Path:
    """An Asof project with the same views, applied and materialised."""
    folder = work / "asof_online"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "features").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "asof.yaml").write_text(f"project: bench\nlisten: 127.0.0.1:{port}\n")
    text = "entity: thing\nkeys: {entity_id: int64}\n"
    for view in VIEWS:
        os.link(data / f"{view}.parquet", folder / "data" / f"{view}.parquet")
        text += (f"---\nsource: {view}\npath: data/{view}.parquet\nevent_time: event_timestamp\n"
                 f"---\nview: {view}\nentity: thing\nsource: {view}\nttl: 3650d\nfeatures: \"*\"\n")
    picks = "".join(f"  - {view}.*\n" for view in VIEWS)
    (folder / "features" / "all.yaml").write_text(f"{text}---\nservice: {SERVICE}\nfeatures:\n{picks}")
    subprocess.run([binary, "apply", "--yes"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([binary, "materialize"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def post(url: str, field: str, entities: list[int]) -> bytes:
    body = json.dumps({field: SERVICE, "entities": {"entity_id": entities}}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def load(url: str, field: str, batch: int, connections: int, seconds: int) -> dict:
    """wrk with one thread; its figures."""
    host, _, path = url.partition("://")[2].partition("/")
    environment = dict(os.environ, SERVICE=SERVICE, BATCH=str(batch), ENTITIES=str(ENTITIES), URLPATH=f"/{path}",
                       FIELD=field)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s",
         HERE / "features.lua", f"http://{host}"],
        env=environment, capture_output=True, text=True, check=True,
    )
    return json.loads(re.search(r"JSON (.*)", done.stdout).group(1))


def values_of(answer: bytes, feast: bool) -> dict[str, object]:
    """Name to the first entity's value, of either server, so that the answers can be compared."""
    parsed = json.loads(answer)
    if feast:
        names = parsed["metadata"]["feature_names"]
        return {name: result["values"][0] for name, result in zip(names, parsed["results"]) if name != "entity_id"}
    return {column["name"]: column["values"][0] for column in parsed["columns"]}


def run(release: Path, work: Path, seconds: int, rounds: int) -> list[dict]:
    """All targets in turn; one record per target, batch and round."""
    data = work / "online"
    data.mkdir(parents=True, exist_ok=True)
    make_data(data)
    results: list[dict] = []
    redis = free_port()
    redis_folder = work / "redis"
    redis_folder.mkdir(exist_ok=True)
    server = subprocess.Popen(
        ["redis-server", "--port", str(redis), "--save", "", "--appendonly", "no"], cwd=redis_folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)
        folders = {store: feast_folder(data, work, store, redis) for store in ("sqlite", "redis")}
        port = free_port()
        ours = asof_folder(release / "asof", data, work, port)
        results += measure_targets(release, folders, ours, port, seconds, rounds)
    finally:
        server.terminate()
        server.wait()
    return results


def measure_targets(
    release: Path, folders: dict[str, Path], ours: Path, port: int, seconds: int, rounds: int
) -> list[dict]:
    """Servers run one at a time, so that none waits for another's idle work."""
    results: list[dict] = []
    feast = str(Path(sys.executable).parent / "feast")
    samples: dict[int, bytes] = {}
    for turn in range(rounds):
        for store, folder in folders.items():
            feast_port = free_port()
            command = [feast, "serve", "-h", "127.0.0.1", "-p", str(feast_port), "--no-access-log", "-w", "1",
                       "--max-requests", "0"]
            with running(command, folder, f"http://127.0.0.1:{feast_port}/health"):
                url = f"http://127.0.0.1:{feast_port}/get-online-features"
                if turn == 0:
                    expected = values_of(post(url, "feature_service", [4_711]), True)
                results += points(f"feast-{store}", url, "feature_service", seconds, turn)
        command = [release / "asof", "up"]
        with running(command, ours, f"http://127.0.0.1:{port}/ready") as started:
            results.append({"bench": "start", "target": "asof", "seconds": round(started, 3)})
            url = f"http://127.0.0.1:{port}/v1/features"
            samples = {batch: post(url, "service", list(range(batch))) for batch in (1, 100)}
            if turn == 0 and values_of(post(url, "service", [4_711]), False) != expected:
                raise RuntimeError("Asof and Feast answer differently: a bench of different work would be none")
            results += points("asof", url, "service", seconds, turn)
        for batch, sample in samples.items():
            body = ours / f"answer_{batch}.json"
            body.write_bytes(sample)
            floor_port = free_port()
            command = [release.parent / "floor" / "release" / "floor", f"127.0.0.1:{floor_port}", body]
            with running(command, ours, f"http://127.0.0.1:{floor_port}/health"):
                url = f"http://127.0.0.1:{floor_port}/v1/features"
                results += points("bare axum handler", url, "service", seconds, turn, batches=(batch,))
    return results


def points(
    target: str, url: str, field: str, seconds: int, turn: int, batches: tuple[int, ...] = (1, 100)
) -> list[dict]:
    found = []
    for batch in batches:
        load(url, field, batch, 1, 1)  # Warm-up.
        values = load(url, field, batch, 4, seconds)
        values |= {"bench": "http", "target": target, "batch": batch, "round": turn, "load": os.getloadavg()[0]}
        found.append(values)
        print(target, batch, values, flush=True)
    return found
