"""The live part: rows pushed over HTTP, windows answered while rows are pushed, and what both take on disk.

A source of events takes batches of 100 rows from 8 clients, each acknowledged when it is on disk; beside it Feast's push
server with Redis, which keeps nothing on disk. Then events are loaded, 1,000 an entity within 30 days, and 20 features over
four windows of one entity are asked for: as fast as they are answered, and at half that rate while 10,000 rows a second are
pushed. A key of a million events is asked beside such of a thousand. Then FEBench's Q0: 17 aggregates over two windows of a
table of 2.6 M rows with few keys.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from online import HERE, free_port, running

BATCH = 100
CLIENTS = 8
ENTITIES = 10_000
LOADED_ENTITIES, EVENTS_AN_ENTITY = 2_000, 1_000
# Rows are pushed to more entities than are asked for, so that those keep about 1,000 events.
PUSHED_BESIDE, PUSHED_ENTITIES = 10_000, 100_000
# The ends of a tail are of so many seconds: p99.99 of fewer requests would be one of them.
TAIL_S = 60
HOT_EVENTS, COLD_ENTITIES = 1_000_000, 500
FEBENCH_ROWS = 2_620_000
DERIVED_MORE = 20
DAY = 86_400_000_000
COLUMNS = "{entity_id: int64, ts: int64, amount: int64, category: int64}"
FEATURES = """features:
  sum: {agg: sum(amount)}
  cnt: {agg: count(amount)}
  avg: {agg: mean(amount)}
  max: {agg: max(amount)}
  dct: {agg: count_distinct(category)}
"""
WINDOW_VIEW = f"view: fv\nentity: thing\nsource: events\nwindows: [1h, 1d, 7d, 30d]\n{FEATURES}"
# As many aggregates over windows of one and of two hours as FEBench's Q0 has.
Q0_VIEW = """view: fv
entity: thing
source: events
features:
  n: {agg: count(*), windows: [1h, 2h]}
  duration_sum: {agg: sum(duration), windows: [1h, 2h]}
  duration_mean: {agg: mean(duration), windows: [1h, 2h]}
  duration_max: {agg: max(duration), windows: [1h, 2h]}
  duration_min: {agg: min(duration), windows: [1h]}
  distance_sum: {agg: sum(distance), windows: [1h, 2h]}
  distance_mean: {agg: mean(distance), windows: [1h, 2h]}
  distance_max: {agg: max(distance), windows: [1h]}
  passengers_sum: {agg: sum(passengers), windows: [1h]}
  passengers_distinct: {agg: count_distinct(passengers), windows: [1h, 2h]}
"""
Q0_COLUMNS = "{entity_id: int64, ts: int64, duration: int64, distance: float64, passengers: int64}"


def now() -> int:
    return int(time.time() * 1e6)


def project(binary: Path, work: Path, name: str, port: int, view: str = "", ids: bool = False,
            columns: str = COLUMNS) -> Path:
    """A project with one source that is pushed to, applied."""
    folder = work / f"live_{name}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "features").mkdir(parents=True)
    (folder / "asof.yaml").write_text(f"project: bench\nlisten: 127.0.0.1:{port}\n")
    schema, own = (columns, "") if not ids else ("{event_id: int64, " + columns[1:], "id: event_id\n")
    text = (f"entity: thing\nkeys: {{entity_id: int64}}\n---\nsource: events\npush: true\nschema: {schema}\n"
            f"event_time: {{column: ts, unit: us}}\n{own}")
    if view:
        text += f"---\n{view}---\nservice: bench\nfeatures: [fv.*]\n"
    (folder / "features" / "all.yaml").write_text(text)
    subprocess.run([binary, "apply", "--yes"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def rows_of(random: np.random.Generator, count: int, entities: int) -> dict[str, np.ndarray]:
    """Rows of the last minute."""
    return {"entity_id": random.integers(0, entities, count), "ts": now() - random.integers(0, 60_000_000, count),
            "amount": random.integers(0, 100_000, count), "category": random.integers(0, 200, count)}


def bodies(folder: Path, kind: str, entities: int, ids: bool = False, present: bool = False) -> Path:
    """Files of batches of rows of so many entities, and a list of them. `present`: they happen as they are sent."""
    folder = folder / f"bodies_{kind}_{entities}{'_ids' * ids}{'_present' * present}"
    folder.mkdir(exist_ok=True)
    random, paths = np.random.default_rng(7), []
    for number in range(128):
        path = folder / f"{number}.body"
        rows = rows_of(random, BATCH, entities)
        if kind == "arrow":
            table = pa.table(rows)
            with pa.ipc.new_stream(path, table.schema) as out:
                out.write_table(table)
        elif kind == "feast":
            columns = {"entity_id": rows["entity_id"].tolist(), "amount": rows["amount"].tolist(),
                       "category": rows["category"].tolist(),
                       "ts": np.datetime_as_string(rows["ts"].astype("datetime64[us]"), timezone="UTC").tolist()}
            path.write_text(json.dumps({"push_source_name": "events", "df": columns, "to": "online"}))
        else:
            names = list(rows)
            if present:
                rows["ts"] = ["#"] * BATCH
            lines = ["{" + '"event_id":@,' * ids + ",".join(f'"{name}":{value}' for name, value in zip(names, row)) + "}"
                     for row in zip(*rows.values())]
            path.write_text("\n".join(lines) + "\n")
        paths.append(path)
    listed = folder / "list"
    listed.write_text("".join(f"{path}\n" for path in paths))
    return listed


def questions(folder: Path, entities: int, first: int = 0, each: bool = False) -> Path:
    """Bodies of requests for one entity each, some or `each` of them, and a list of them."""
    folder = folder / f"questions_{first}_{entities}{'_each' * each}"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, entity in enumerate(first + (np.arange(entities) if each else np.random.default_rng(7).integers(0, entities, 512))):
        path = folder / f"{number}.body"
        path.write_text(json.dumps({"service": "bench", "entities": {"entity_id": [int(entity)]}}))
        paths.append(path)
    listed = folder / "list"
    listed.write_text("".join(f"{path}\n" for path in paths))
    return listed


FIRST_ID = [0]


def load(url: str, listed: Path, content: str, connections: int, seconds: int, rate: float = 0, ids: bool = False) -> dict:
    """wrk with one thread; its figures. `rate`: so many requests a second, none lost to waiting."""
    host, _, path = url.partition("://")[2].partition("/")
    FIRST_ID[0] += 1_000_000_000
    environment = dict(os.environ, URLPATH=f"/{path}", BODIES=str(listed), TYPE=content, RATE=str(rate),
                       IDS=str(int(ids)), FIRST_ID=str(FIRST_ID[0]))
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s",
         HERE / "bodies.lua", f"http://{host}"],
        env=environment, capture_output=True, text=True, check=True,
    )
    return json.loads(re.search(r"JSON (.*)", done.stdout).group(1))


def ask(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


CONTENT = {"ndjson": "application/x-ndjson", "arrow": "application/vnd.apache.arrow.stream", "feast": "application/json"}


def intake(binary: Path, work: Path, seconds: int, turn: int) -> list[dict]:
    """Rows pushed by 8 clients: to a source alone, to one with 20 features over windows, and to one with ids."""
    found = []
    for name, view, kind, ids in [
        ("source alone", "", "ndjson", False), ("source alone", "", "arrow", False),
        ("20 window features", WINDOW_VIEW, "ndjson", False), ("20 window features", WINDOW_VIEW, "arrow", False),
        ("ids", "", "ndjson", True), ("20 window features, ids", WINDOW_VIEW, "ndjson", True),
    ]:
        port = free_port()
        folder = project(binary, work, "intake", port, view, ids)
        listed = bodies(folder, kind, ENTITIES, ids)
        with running([binary, "up"], folder, f"http://127.0.0.1:{port}/ready"):
            url = f"http://127.0.0.1:{port}/v1/push/events"
            load(url, listed, CONTENT[kind], CLIENTS, 1, ids=ids)
            values = load(url, listed, CONTENT[kind], CLIENTS, seconds, ids=ids)
        values |= {"bench": "intake", "target": "asof", "what": name, "format": kind, "round": turn,
                   "rows_per_second": round(values["per_second"] * BATCH), "load": os.getloadavg()[0]}
        found.append(values)
        print(values, flush=True)
    return found


def feast(work: Path, seconds: int, turn: int) -> list[dict]:
    """The same batches pushed to Feast's server, whose online store is Redis."""
    from datetime import timedelta

    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
    from feast.types import Int64
    from feast.value_type import ValueType

    folder = work / "live_feast"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    redis, port = free_port(), free_port()
    (folder / "feature_store.yaml").write_text(
        "project: bench\nprovider: local\nregistry: registry.db\nonline_store:\n  type: redis\n"
        f'  connection_string: "127.0.0.1:{redis}"\noffline_store:\n  type: duckdb\nentity_key_serialization_version: 3\n')
    pq.write_table(pa.table({
        "entity_id": pa.array([0]), "amount": pa.array([0]), "category": pa.array([0]),
        "ts": pa.array([now()], pa.timestamp("us", tz="UTC"))}), folder / "events.parquet")
    entity = Entity(name="entity_id", join_keys=["entity_id"], value_type=ValueType.INT64)
    source = PushSource(name="events", batch_source=FileSource(
        name="batch", path=str(folder / "events.parquet"), timestamp_field="ts"))
    view = FeatureView(name="fv", entities=[entity], ttl=timedelta(days=30), online=True, source=source,
                       schema=[Field(name="entity_id", dtype=Int64), Field(name="amount", dtype=Int64),
                               Field(name="category", dtype=Int64)])
    server = subprocess.Popen(["redis-server", "--port", str(redis), "--save", "", "--appendonly", "no"], cwd=folder,
                              stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        FeatureStore(repo_path=str(folder)).apply([entity, view])
        command = [str(Path(sys.executable).parent / "feast"), "serve", "-h", "127.0.0.1", "-p", str(port),
                   "--no-access-log", "-w", "1", "--max-requests", "0"]
        listed = bodies(folder, "feast", ENTITIES)
        with running(command, folder, f"http://127.0.0.1:{port}/health"):
            url = f"http://127.0.0.1:{port}/push"
            load(url, listed, CONTENT["feast"], CLIENTS, 1)
            values = load(url, listed, CONTENT["feast"], CLIENTS, seconds)
    finally:
        server.terminate()
        server.wait()
    values |= {"bench": "intake", "target": "feast-redis", "what": "latest values, nothing on disk", "format": "json",
               "round": turn, "rows_per_second": round(values["per_second"] * BATCH), "load": os.getloadavg()[0]}
    print(values, flush=True)
    return [values]


def events(folder: Path, entity: np.ndarray) -> tuple[Path, int]:
    """Events of the last 30 days, one of each of these entities, in the order they came, and their bytes as lines of JSON."""
    random = np.random.default_rng(7)
    count = len(entity)
    table = {"entity_id": entity, "ts": now() - random.integers(0, 30 * DAY, count),
             "amount": random.integers(0, 100_000, count), "category": random.integers(0, 200, count)}
    order = np.argsort(table["ts"], kind="stable")
    table = {name: column[order] for name, column in table.items()}
    path = folder / "events.parquet"
    pq.write_table(pa.table(table), path)
    line = sum(len(f'"{name}":') + 1 for name in table) + 2
    digits = sum(np.char.str_len(column[:100_000].astype(str)).mean() for column in table.values())
    return path, int(count * (line + digits))


def disk(folder: Path) -> dict[str, int]:
    """Bytes of files below each folder of a node's data."""
    found = {}
    for below in (folder / ".asof").iterdir():
        files = below.rglob("*") if below.is_dir() else [below]
        found[below.name] = sum(file.stat().st_size for file in files if file.is_file())
    return found


def readable(port: int, rounds: int) -> list[float]:
    """Milliseconds from sending a row until an answer has it: pushed and asked for again and again."""
    url, took = f"http://127.0.0.1:{port}/v1", []
    key = PUSHED_ENTITIES + 7
    for number in range(rounds):
        row = {"entity_id": key, "ts": now() - 1, "amount": 1, "category": 1}
        begun = time.perf_counter()
        ask(f"{url}/push/events", row)
        while True:
            answer = ask(f"{url}/features", {"features": ["fv.cnt_1d"], "entities": {"entity_id": [key]}})
            if answer["columns"][0]["values"][0] == number + 1:
                break
        took.append((time.perf_counter() - begun) * 1e3)
        time.sleep(0.02)
    return took


def answered(binary: Path, work: Path, seconds: int, turn: int) -> list[dict]:
    """20 features over four windows of 1,000 events."""
    port, found = free_port(), []
    folder = project(binary, work, "windows", port, WINDOW_VIEW)
    path, raw = events(folder, np.repeat(np.arange(LOADED_ENTITIES), EVENTS_AN_ENTITY))
    count = LOADED_ENTITIES * EVENTS_AN_ENTITY
    with running([binary, "up"], folder, f"http://127.0.0.1:{port}/ready"):
        begun = time.perf_counter()
        subprocess.run([binary, "load", "events", path], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        loaded = time.perf_counter() - begun
    held, url = disk(folder), f"http://127.0.0.1:{port}/v1/features"
    asked, all_asked = questions(folder, LOADED_ENTITIES), questions(folder, LOADED_ENTITIES, each=True)
    with running([binary, "up"], folder, f"http://127.0.0.1:{port}/ready"):
        load(url, all_asked, "application/json", 4, 10)  # Tiles are made behind those who ask.
    tiled = disk(folder)
    with running([binary, "up"], folder, f"http://127.0.0.1:{port}/ready"):
        about = {"bench": "live", "target": "asof", "round": turn}
        load(url, asked, "application/json", 4, 2)
        peak = load(url, asked, "application/json", 4, seconds)
        found.append(about | peak | {"what": "peak"})
        alone = load(url, asked, "application/json", 32, seconds, rate=peak["per_second"] / 2)
        found.append(about | alone | {"what": "half of peak"})
        listed, pushed = bodies(folder, "ndjson", PUSHED_ENTITIES), {}
        beside = f"http://127.0.0.1:{port}/v1/push/events"

        def push(much: int) -> None:
            pushed.update(load(beside, listed, CONTENT["ndjson"], CLIENTS, much, PUSHED_BESIDE / BATCH))

        pusher = threading.Thread(target=push, args=(TAIL_S + 2,))
        pusher.start()
        time.sleep(1)
        under = load(url, asked, "application/json", 32, TAIL_S, rate=peak["per_second"] / 2)
        pusher.join()
        found.append(about | under | {"what": f"half of peak, {PUSHED_BESIDE:,} rows a second pushed"})
        found.append(about | pushed | {"what": "the pushes beside it", "rows_per_second": pushed["per_second"] * BATCH})
        pusher = threading.Thread(target=push, args=(12,))
        pusher.start()
        took = sorted(readable(port, 300))
        pusher.join()
        found.append(about | {"what": "pushed until answered", "p50_ms": round(statistics.median(took), 3),
                              "p99_ms": round(took[int(len(took) * 0.99)], 3), "max_ms": round(took[-1], 3)})
    found.append(about | {"what": "disk", "rows": count, "raw_json": raw, "parquet": path.stat().st_size,
                          "load_s": round(loaded, 1), "held": held, "tiled": tiled.get("live", 0)})
    for values in found:
        print(values, flush=True)
    return found


def hot(binary: Path, work: Path, seconds: int, turn: int) -> list[dict]:
    """An entity of a million events in the window beside those of a thousand: asked one after the other, alone and while
    300 rows a second are pushed to it, as many as would make it so hot within an hour; and how fast rows are pushed to it."""
    port, found = free_port(), []
    folder = project(binary, work, "hot", port, WINDOW_VIEW)
    cold = np.repeat(np.arange(1, COLD_ENTITIES + 1), EVENTS_AN_ENTITY)
    path, _ = events(folder, np.concatenate([np.zeros(HOT_EVENTS, np.int64), cold]))
    about = {"bench": "live", "target": "asof", "round": turn}
    with running([binary, "up"], folder, f"http://127.0.0.1:{port}/ready"):
        subprocess.run([binary, "load", "events", path], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        url, push = f"http://127.0.0.1:{port}/v1/features", f"http://127.0.0.1:{port}/v1/push/events"
        asked = {"hot": questions(folder, 1), "cold": questions(folder, COLD_ENTITIES, first=1)}
        pushes = {"hot": bodies(folder, "ndjson", 1, present=True), "cold": bodies(folder, "ndjson", ENTITIES, present=True)}
        load(url, asked["cold"], "application/json", 4, 10)  # Tiles are made behind those who ask.
        for beside in (0, 300):
            pusher = threading.Thread(target=load, args=(push, pushes["hot"], CONTENT["ndjson"], 1, 2 * seconds + 4, beside / BATCH, True))
            if beside:
                pusher.start()
                time.sleep(3)
            for key, listed in asked.items():
                what = f"a {key} key, alone" if not beside else f"a {key} key, {beside} rows a second pushed to the hot one"
                found.append(about | load(url, listed, "application/json", 1, seconds) | {"what": what})
            if beside:
                pusher.join()
        for key, listed in pushes.items():
            values = load(push, listed, CONTENT["ndjson"], CLIENTS, seconds, ids=True)
            what = "rows pushed to a hot key" if key == "hot" else "rows pushed to many keys"
            found.append(about | values | {"what": what, "rows_per_second": values["per_second"] * BATCH})
    for values in found:
        print(values, flush=True)
    return found


def febench(binary: Path, work: Path, seconds: int, turn: int) -> list[dict]:
    """A table of trips of two vendors within half a year, asked by five clients."""
    port = free_port()
    folder = project(binary, work, "febench", port, Q0_VIEW, columns=Q0_COLUMNS)
    random = np.random.default_rng(7)
    table = {"entity_id": random.integers(1, 3, FEBENCH_ROWS),
             "ts": np.sort(now() + 120_000_000 - random.integers(0, 181 * DAY, FEBENCH_ROWS)),
             "duration": random.integers(60, 7_200, FEBENCH_ROWS), "distance": np.round(random.gamma(2, 2, FEBENCH_ROWS), 2),
             "passengers": random.integers(1, 7, FEBENCH_ROWS)}
    path = folder / "trips.parquet"
    pq.write_table(pa.table(table), path)
    with running([binary, "up"], folder, f"http://127.0.0.1:{port}/ready"):
        subprocess.run([binary, "load", "events", path], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        url, asked = f"http://127.0.0.1:{port}/v1/features", questions(folder, 2, first=1)
        load(url, asked, "application/json", 5, 10)
        values = load(url, asked, "application/json", 5, seconds)
    values |= {"bench": "live", "target": "asof", "what": "FEBench Q0", "round": turn}
    print(values, flush=True)
    return [values]


def cpu_s(process: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def derived(binary: Path, work: Path, seconds: int, turn: int) -> list[dict]:
    """What derived features add to a request for one entity, in processor time of the server."""
    port, found = free_port(), []
    view = ("view: fv\nentity: thing\nsource: events\nfeatures: [amount, category]\n---\n"
            "derived: share\nrequest: {price: float64}\n"
            "features:\n  ratio: \"price / nullif(fv.amount, 0)\"\n"
            + "".join(f"  r{n}: \"price / nullif(fv.amount, 0) + {n}\"\n" for n in range(DERIVED_MORE)) + "---\n"
            "service: derived\nfeatures: [fv.*, share.ratio]\n---\n"
            "service: all_derived\nfeatures: [fv.*, share.*]\n")
    folder = project(binary, work, "derived", port, view)
    url = f"http://127.0.0.1:{port}/v1"
    with running([binary, "up"], folder, f"{url[:-3]}/ready"):
        process = int(subprocess.check_output(["pgrep", "-nf", f"{binary} up"]).split()[0])
        load(f"{url}/push/events", bodies(folder, "ndjson", ENTITIES), CONTENT["ndjson"], CLIENTS, 2)
        took = {}
        for service in ("bench", "derived", "all_derived"):
            asked = questions(folder, ENTITIES)
            for body in asked.parent.glob("*.body"):
                question = json.loads(body.read_text())
                question["service"] = service
                if service != "bench":
                    question["request"] = {"price": [199.5]}
                body.write_text(json.dumps(question))
            load(f"{url}/features", asked, "application/json", 4, 1)
            before = cpu_s(process)
            values = load(f"{url}/features", asked, "application/json", 4, seconds)
            micros = (cpu_s(process) - before) / values["requests"] * 1e6
            what = {"bench": "two latest values", "derived": "the same and one derived of them",
                    "all_derived": f"the same and {1 + DERIVED_MORE} derived of them"}[service]
            took[service] = micros
            found.append(values | {"bench": "live", "target": "asof", "what": what, "round": turn, "cpu_us": round(micros, 2)})
    each = (took["all_derived"] - took["derived"]) / DERIVED_MORE
    found.append({"bench": "live", "target": "asof", "what": "one derived feature more, its JSON with it", "round": turn,
                  "cpu_us": round(each, 2)})
    for values in found:
        print(values, flush=True)
    return found


# A loop goes on for so many seconds, and says for how many milliseconds it was kept from it, each time over so many.
STALLS_S, STALL_MS = 20, 1.5
IDLE = f"""
import time
begun = last = time.perf_counter()
while last - begun < {STALLS_S}:
    now = time.perf_counter()
    if (now - last) * 1e3 > {STALL_MS}:
        print((now - last) * 1e3)
    last = now
"""


def stalls(turn: int) -> list[dict]:
    """For how long the machine keeps a loop on each core from going on, though nothing else runs: no tail is shorter."""
    loops = [subprocess.Popen([sys.executable, "-c", IDLE], stdout=subprocess.PIPE, text=True) for _ in range(os.cpu_count())]
    took = [float(line) for loop in loops for line in loop.communicate()[0].split()]
    values = {"bench": "live", "target": "machine", "what": "stalls", "round": turn,
              "over_ms": STALL_MS, "a_minute": round(len(took) * 60 / STALLS_S / len(loops)), "longest_ms": round(max(took, default=0), 1)}
    print(values, flush=True)
    return [values]


def ticks() -> tuple[int, int]:
    """What others on the same hardware were given of the cores' time since the machine began (`steal` of proc(5)), and all of it."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def run(release: Path, work: Path, seconds: int, rounds: int) -> list[dict]:
    """All of it, so many times."""
    binary, results = release / "asof", []
    for turn in range(rounds):
        before = ticks()
        results += stalls(turn)
        results += intake(binary, work, seconds, turn)
        results += feast(work, seconds, turn)
        results += answered(binary, work, seconds, turn)
        results += hot(binary, work, seconds, turn)
        results += febench(binary, work, seconds, turn)
        results += derived(binary, work, seconds, turn)
        stolen, passed = (now - then for now, then in zip(ticks(), before))
        values = {"bench": "live", "target": "machine", "what": "stolen", "round": turn, "percent": round(100 * stolen / passed, 1)}
        print(values, flush=True)
        results.append(values)
    return results
