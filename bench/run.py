"""The benchmarks, peers and Asof in turn on one machine.    cargo xtask bench -- [--size M] [--rounds 3] ...

One process per system and round (A B C A B C), its files in the page cache, stopped past a limit of time or
memory. Every answer has a checksum; a system whose checksum differs from the others' is reported as wrong, not as fast.
Figures go to `bench-data/*.jsonl`, ratios into `docs/benchmarks.md`.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import generate
import windows

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
PEERS = ["duckdb-asof", "duckdb-asof-folded", "polars-asof", "polars-asof-folded", "datafusion-window", "feast-duckdb"]
WINDOW_PEERS = ["duckdb-rangejoin", "duckdb-window", "polars-rolling", "polars-rangejoin", "datafusion-rangejoin"]
# On a skewed spine a peer is tried on a tenth of the data first; one that does not end there is not tried on all of it.
TENTH = {"M": "S", "L": "M"}
# Range joins take what memory they are given; of a machine that others share it is not all.
WINDOWS_MIB = 12 * 1024
# How far a sum or a mean may be from the exact one, relatively: engines add floats in any order.
OFF = 1e-9
SECTIONS = ["## Point-in-time join", "## Windows", "## Online", "## Live", "## The binary"]
PARTS = "join,windows,online,live,binary"
# Systems whose median is below so many seconds go on in turn, to so many times the rounds: what is quick is easily
# shifted by what else the machine does.
QUICK_S, QUICK_ROUNDS = 5, 3
# An answer is checked in this time at most.
CHECK_S = 120
DEFINITIONS = """entity: thing
keys: {{entity_id: int64}}
---
source: history
path: history.parquet
event_time: event_timestamp
{available}order_by: created_timestamp
---
view: fv
entity: thing
source: history
ttl: 30d
features: [f_float0, f_float1, f_float2, f_float3, f_int0, f_int1, f_int2, f_int3, f_str0, f_str1]
---
service: bench
features: [fv.*]
"""


def project(binary: Path, data: Path, history: str, definitions: str) -> Path:
    """A project over one history file, applied."""
    folder = data / f"project_{history}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "features").mkdir(parents=True)
    (folder / "asof.yaml").write_text("project: bench\n")
    os.link(data / f"{history}.parquet", folder / "history.parquet")
    available = "available_at: available_at\n" if "late" in history else ""
    (folder / "features" / "all.yaml").write_text(definitions.format(available=available))
    subprocess.run([binary, "apply", "--yes"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def memory_mib(process: int) -> int:
    """The memory of a process and its children now."""
    total = 0
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        total = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
        return total + sum(memory_mib(int(child)) for child in children)
    except OSError:
        return total


def fail(out: Path, about: dict, name: str, why: str) -> None:
    with open(out, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(about | {"system": name, "error": why}) + "\n")


def once(arguments: list[str], name: str, limit_s: int, limit_mib: int, out: Path, about: dict) -> bool:
    """One system once; False if it was stopped or failed. The limit is for the answer, which is checked after it."""
    answered = out.with_suffix(".answered")
    answered.unlink(missing_ok=True)
    script = HERE / f"{about['bench']}.py"
    command = [sys.executable, "-W", "ignore", script, "--system", name, "--out", out, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=dict(os.environ, ANSWERED=str(answered)))
    begun, why = time.monotonic(), None
    while process.poll() is None:
        memory = memory_mib(process.pid)
        if time.monotonic() - begun > limit_s + (CHECK_S if answered.exists() else 0):
            why = f"stopped after {limit_s} s"
        elif memory > limit_mib:
            why = f"stopped at {memory} MiB"
        if why:
            process.kill()
            break
        time.sleep(0.1)
    errors = process.stderr.read().decode()[-300:]
    if process.wait() and not why:
        why = f"ended with {process.returncode}: {errors}"
    if why:
        fail(out, about, name, why)
    print(f"{about} {name}: {why or 'done'} in {time.monotonic() - begun:.1f} s", flush=True)
    return why is None


def warm(*files: Path) -> None:
    """Reads files, so that whoever comes next finds them in the page cache, and not only whoever does not come first."""
    for file in files:
        with open(file, "rb") as bytes_of:
            while bytes_of.read(1 << 22):
                pass


def wall_so_far(out: Path, about: dict, name: str) -> float:
    """The median wall seconds of a system's rounds so far; of one that did not end, for ever."""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    of_system = about | {"system": name}
    walls = [row["wall_s"] for row in rows if of_system.items() <= row.items() and "wall_s" in row]
    return statistics.median(walls) if walls else float("inf")


def in_turn(given: argparse.Namespace, turn: list[str], out: Path, about: dict, arguments: list[str], files: list[Path],
            limit_s: int, limit_mib: int) -> None:
    """All systems once a round, quick ones in more rounds; who was stopped or failed is not tried again."""
    for number in range(given.rounds * QUICK_ROUNDS):
        if number == given.rounds:
            turn = [name for name in turn if wall_so_far(out, about, name) < QUICK_S]
        left = []
        for name in turn:
            warm(*files)
            if once(arguments, name, limit_s, limit_mib, out, about):
                left.append(name)
        turn = left


def joins(given: argparse.Namespace, data: Path, out: Path) -> None:
    """Both spines on the plain history with all peers; then the shares of late rows, which only Asof answers."""
    binary = given.release / "asof"
    for history, spine, peers in [
        ("features", "spine", PEERS), ("features", "spine_zipf", PEERS),
        ("features_late_1", "spine", []), ("features_late_100", "spine", []),
    ]:
        if given.size == "L" and history != "features":
            continue
        if given.size in ("XS", "S") and history != "features":
            peers = ["duckdb-known"]
        folder = project(binary, data, history, DEFINITIONS)
        arguments = ["--data", str(data), "--history", history, "--spine", spine, "--binary", str(binary),
                     "--project", str(folder)]
        about = {"bench": "join", "size": data.name, "history": history, "spine": spine}
        files = [data / f"{history}.parquet", data / f"{spine}.parquet", binary]
        in_turn(given, ["asof-known", "asof-event", *peers], out, about, arguments, files, given.limit_s, given.limit_mib)


def window_group(given: argparse.Namespace, size: str, events: str, spine: str, turn: list[str], out: Path,
                 not_tried: dict[str, str], limit_s: int) -> None:
    """One table: a file of events, a spine, and who answers; why somebody is not tried stands in it too."""
    data = generate.generate(size, given.data)
    about = {"bench": "windows", "size": size, "events": events, "spine": spine}
    arguments = ["--data", str(data), "--events", events, "--spine", spine]
    files = [data / f"{events}.parquet", data / f"{spine}.parquet"]
    if any(name.startswith("asof-") for name in turn):
        binary = given.release / "asof"
        folder = project(binary, data, events, windows.DEFINITIONS)
        arguments += ["--binary", str(binary), "--project", str(folder)]
        files.append(binary)
    for name, why in not_tried.items():
        fail(out, about, name, why)
    in_turn(given, turn, out, about, arguments, files, limit_s, min(given.limit_mib, WINDOWS_MIB))


def aggregated(given: argparse.Namespace, out: Path) -> None:
    """Windows: a uniform spine and float amounts with all peers; the shares of late rows, which only Asof answers; and a
    skewed spine, with those peers that end in time."""
    ours, size = ["asof-known", "asof-event"], given.size
    alone = ["duckdb-known"] if size in ("XS", "S") else []
    groups = [("events", WINDOW_PEERS)]
    if size != "L":
        groups += [("events_float", WINDOW_PEERS), ("events_late_1", alone), ("events_late_100", alone)]
    for events, peers in groups:
        window_group(given, size, events, "spine", [*ours, *peers], out, {}, given.limit_s)
    not_tried = {}
    if size in TENTH:
        tenth = TENTH[size]
        window_group(given, tenth, "events", "spine_zipf", [*ours, *WINDOW_PEERS], out, {}, given.skewed_s)
        for row in read(out):
            asked = (row["bench"], row.get("size"), row.get("spine"), row["system"] in WINDOW_PEERS)
            if asked == ("windows", tenth, "spine_zipf", True) and "error" in row:
                not_tried[row["system"]] = f"not tried, of a tenth of it: {row['error']}"
    turn = [*ours, *(name for name in WINDOW_PEERS if name not in not_tried)]
    window_group(given, size, "events", "spine_zipf", turn, out, not_tried, given.skewed_s)


def binary_figures(release: Path, out: Path) -> None:
    """Size of the binary and the time of `--help`, from a warm cache."""
    binary = release / "asof"
    took = []
    for _ in range(21):
        begun = time.perf_counter()
        subprocess.run([binary, "--help"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - begun)
    with open(out, "a", encoding="utf-8") as lines:
        lines.write(json.dumps({"bench": "binary", "bytes": binary.stat().st_size,
                                "help_ms": round(statistics.median(took[1:]) * 1e3, 1)}) + "\n")


def read(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def median(rows: list[dict], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def ended(rows: list[dict]) -> list[dict]:
    return [row for row in rows if "wall_s" in row]


def alike(by_system: dict[str, list[dict]], name: str, late: bool) -> list[dict]:
    """The rows of all systems that answer what this one does; without late rows both questions are one."""
    asked = lambda it: late and "known" in it  # noqa: E731
    return [row for other, rows in by_system.items() if asked(other) == asked(name) for row in rows]


def wrong(rows: list[dict], beside: list[dict]) -> bool:
    """A checksum that is not the one most engines have. Each has one vote, however often it ran; where no checksum has
    most, all are wrong."""
    engines: dict[str, set[str]] = defaultdict(set)
    for row in ended([*rows, *beside]):
        engines[row["checksum"]].add(row["system"].split("-")[0])
    votes = sorted((len(it) for it in engines.values()), reverse=True)
    tied = len(votes) > 1 and votes[0] == votes[1]
    return any(tied or len(engines[row["checksum"]]) < votes[0] for row in ended(rows))


def times(rows: list[dict], others: list[dict], key: str) -> str:
    """How many times the others' median some rows' is, if there are both."""
    return f"{median(rows, key) / median(others, key):.1f}" if rows and others else ""


def system_table(by_system: dict[str, list[dict]], verdict: Callable[[str, list[dict]], str]) -> list[str]:
    """Systems, the quickest first, each beside Asof."""
    lines = ["| system | question | wall s | least to most | CPU s | peak MiB | wall, times Asof's | CPU, times Asof's | "
             "memory, times Asof's | answer |", "|---|---|---|---|---|---|---|---|---|---|"]
    ours = ended(by_system.get("asof-known", []))
    for name in sorted(by_system, key=lambda it: min((row.get("wall_s", 1e9) for row in by_system[it]))):
        good = ended(by_system[name])
        question = "known" if "known" in name else "event"
        if not good:
            lines.append(f"| {name} | {question} | {by_system[name][0]['error'][:80]} | | | | | | | |")
            continue
        walls = [row["wall_s"] for row in good]
        ratios = " | ".join(times(good, ours, key) for key in ("wall_s", "cpu_s", "peak_mib"))
        lines.append(f"| {name} | {question} | {median(good, 'wall_s'):.2f} | {min(walls):.2f} to {max(walls):.2f} | "
                     f"{median(good, 'cpu_s'):.2f} | {median(good, 'peak_mib'):.0f} | {ratios} | {verdict(name, good)} |")
    return [*lines, ""]


def share(history: str) -> str:
    """The percentage of late rows in a file."""
    return history.rsplit("_", 1)[-1] if "late" in history else "0"


def shape(spine: str) -> str:
    return "uniform" if spine == "spine" else "skewed"


def join_tables(rows: list[dict]) -> list[str]:
    groups: dict[tuple, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in (row for row in rows if row["bench"] == "join"):
        groups[row["size"], row["history"], row["spine"]][row["system"]].append(row)
    if not groups:
        return []
    lines = ["## Point-in-time join", "", "10 features, ttl of 30 days, 2 % corrections.", ""]
    for (size, history, spine), by_system in groups.items():
        _, history_rows, asked = generate.SIZES[size]
        late = share(history)
        lines += [f"### {history_rows:,} history rows x {asked:,} spine rows, {shape(spine)} spine, {late} % late rows",
                  ""]
        lines += system_table(by_system, lambda name, good: (
            "differs" if wrong(good, alike(by_system, name, late != "0")) else good[0]["checksum"][:8]  # noqa: B023
        ))
    return lines


Groups = dict[tuple[str, str, str], dict[str, list[dict]]]


def window_verdict(groups: Groups, key: tuple[str, str, str], name: str) -> str:
    """The checksum, and how far sums and means are from the exact ones."""
    size, events, spine = key
    late, good = "late" in events, ended(groups[key][name])
    beside = alike(groups[key], name, late)
    if late and "known" not in name:  # To *event* it makes no difference that rows are late.
        beside = [row for rows in groups.get((size, "events", spine), {}).values() for row in rows] + beside
    furthest = max((row["off"] for row in good if "off" in row), default=None)
    if wrong(good, beside) or (furthest or 0) > OFF:
        verdict = "differs"
    else:
        verdict = good[0]["checksum"][:8]
    if furthest is None:
        return verdict
    return f"{verdict}, sums off by {furthest:.0e}" if furthest else f"{verdict}, sums exact"


def right(groups: Groups, key: tuple[str, str, str], name: str) -> list[dict]:
    """A system's rows; none if its answer differs, for then it is not fast."""
    good = ended(groups.get(key, {}).get(name, []))
    return [] if good and window_verdict(groups, key, name).startswith("differs") else good


def window_tables(rows: list[dict]) -> list[str]:
    groups: Groups = defaultdict(lambda: defaultdict(list))
    for row in (row for row in rows if row["bench"] == "windows"):
        groups[row["size"], row["events"], row["spine"]][row["system"]].append(row)
    if not groups:
        return []
    lines = ["## Windows", "",
             "Sum, count, mean and max of an amount and how many different categories, over 1h, 1d, 7d and 30d, up to the "
             "very time asked. The contract is in `bench/windows.py`. Sums and means are held against exact ones, made of "
             f"whole cents: further away than {OFF:.0e}, relatively, is `differs`. No system had more than "
             f"{WINDOWS_MIB // 1024} GiB.", "", *window_targets(groups)]
    for key, by_system in groups.items():
        size, events, spine = key
        _, event_rows, asked = generate.SIZES[size]
        amounts = ", float amounts" if events == "events_float" else ""
        lines += [f"### {event_rows:,} events x {asked:,} spine rows, {shape(spine)} spine, {share(events)} % late rows"
                  f"{amounts}", ""]
        lines += system_table(by_system, lambda name, _: window_verdict(groups, key, name))  # noqa: B023
    return lines


def window_targets(groups: Groups) -> list[str]:
    """What was to be reached and what is, of the largest size that was measured."""
    size = max((size for size, _, _ in groups), key=list(generate.SIZES).index)
    lines = [f"| of size {size} | to be reached | wall | CPU | memory |", "|---|---|---|---|---|"]

    def line(what: str, target: str, rows: list[dict], others: list[dict]) -> None:
        found = "not measured, or an answer differs | | "
        if rows and others:
            found = " | ".join(f"{median(rows, key) / median(others, key):.2f}" for key in ("wall_s", "cpu_s", "peak_mib"))
        lines.append(f"| {what} | {target} | {found} |")

    for events, spine in (("events", "spine"), ("events_float", "spine"), ("events", "spine_zipf")):
        key = (size, events, spine)
        ours = right(groups, key, "asof-known")
        peers = {name: rows for name in WINDOW_PEERS if (rows := right(groups, key, name))}
        where = shape(spine) + " spine" + (", float amounts" if events == "events_float" else "")
        if not peers:
            lines.append(f"| {where} | no peer ended, or its answer differs | | | |")
            continue
        fastest = min(peers, key=lambda it: median(peers[it], "wall_s"))
        target = "wall at least 5.0, memory at least 2.0" if spine == "spine" else ""
        line(f"{where}: the fastest peer's, {fastest}, times Asof's", target, peers[fastest], ours)
        least = min(peers, key=lambda it: median(peers[it], "peak_mib"))
        if least != fastest:
            line(f"{where}: those of {least}, the peer with least memory, times Asof's", "", peers[least], ours)
    uniform = right(groups, (size, "events", "spine"), "asof-known")
    for events, spine, what, target in [
        ("events", "spine_zipf", "Asof's with a skewed spine, times its own with a uniform one", "wall at most 1.6"),
        ("events_late_1", "spine", "Asof's with 1 % late rows, times its own with none", ""),
        ("events_late_100", "spine", "Asof's with 100 % late rows, times its own with none", "wall at most 2.0"),
    ]:
        line(what, target, right(groups, (size, events, spine), "asof-known"), uniform)
    return [*lines, ""]


def online_tables(rows: list[dict]) -> list[str]:
    http = [row for row in rows if row["bench"] == "http"]
    if not http:
        return []
    lines = ["## Online", "", "`POST /v1/features`, 50 features over 3 views, 10,000 entities, keep-alive, 4 connections "
             "from wrk on the same cores; one server at a time.", "",
             "| server | entities a request | requests a second | p50 ms | p99 ms | errors | Asof's rate, times |",
             "|---|---|---|---|---|---|---|"]
    for batch in (1, 100):
        mine = [row for row in http if row["target"] == "asof" and row["batch"] == batch]
        for target in sorted({row["target"] for row in http}):
            found = [row for row in http if row["target"] == target and row["batch"] == batch]
            if found:
                rate = median(found, "per_second")
                ratio = f"{median(mine, 'per_second') / rate:.1f}" if mine else ""
                errors = sum(row["errors"] for row in found)
                lines.append(f"| {target} | {batch} | {rate:.0f} | {median(found, 'p50_ms'):.3f} | "
                             f"{median(found, 'p99_ms'):.3f} | {errors} | {ratio} |")
    return [*lines, ""]


def live_tables(rows: list[dict]) -> list[str]:
    """Rows pushed, windows answered beside them, and bytes on disk."""
    pushed = [row for row in rows if row["bench"] == "intake"]
    live = [row for row in rows if row["bench"] == "live"]
    if not pushed and not live:
        return []
    lines = ["## Live", "", "The contract is in `bench/live.py`. wrk on the same cores, keep-alive, one server at a time.", ""]
    if pushed:
        lines += ["Batches of 100 rows from 8 clients over HTTP, each answered when it is on disk (fsync); Feast with Redis keeps "
                  "the latest values in memory. To be reached: 100,000 rows a second without ids.", "",
                  "| server | what | format | rows a second | p50 ms | p99 ms | errors |", "|---|---|---|---|---|---|---|"]
        groups: dict[tuple[str, str, str], list[dict]] = defaultdict(list)
        for row in pushed:
            groups[row["target"], row["what"], row["format"]].append(row)
        for (target, what, form), found in groups.items():
            lines.append(f"| {target} | {what} | {form} | {median(found, 'rows_per_second'):,.0f} | "
                         f"{median(found, 'p50_ms'):.1f} | {median(found, 'p99_ms'):.1f} | {sum(row['errors'] for row in found)} |")
        lines.append("")
    named: dict[str, list[dict]] = defaultdict(list)
    for row in live:
        named[row["what"]].append(row)
    held, stalls, stolen = named.pop("disk", []), named.pop("stalls", []), named.pop("stolen", [])
    if named:
        lines += ["20 features over windows of 1h, 1d, 7d and 30d of one entity with 1,000 events in 30 days; a row pushed until an "
                  "answer has it, while 10,000 rows a second are pushed (to be reached: p99 under 20 ms); and FEBench's Q0, 17 "
                  "aggregates over 1h and 2h of 2.6 M rows of two keys, five clients, published for OpenMLDB on a server of 64 "
                  "cores with 3.4 and 5.9 ms (p50, p99). To be reached at half of peak beside pushes: p99 under 2 ms. A hot key has a "
                  "million events in 30 days; to be reached: twice the p99 of a cold one, and its writers no slower than those of many "
                  "keys. A derived feature is to take under 5 us. The rows pushed beside go to 100,000 entities, of which 2,000 may "
                  "be asked; peak is with four connections.", "",
                  "| what | requests | requests a second | p50 ms | p99 ms | p99.9 ms | p99.99 ms | processor us a request | errors |",
                  "|---|---|---|---|---|---|---|---|---|"]
        for what, found in named.items():
            cells = [f"{median(found, key):.{digits}f}" if all(key in row for row in found) else ""
                     for key, digits in (("requests", 0), ("per_second", 0), ("p50_ms", 2), ("p99_ms", 2), ("p999_ms", 2), ("p9999_ms", 2),
                                         ("cpu_us", 1))]
            lines.append(f"| {what} | {' | '.join(cells)} | {sum(row.get('errors', 0) for row in found)} |")
        lines.append("")
    if stalls:
        lines += [f"The machine itself kept a loop that does nothing, on each core, from going on {median(stalls, 'a_minute'):.0f} "
                  f"times a minute for over {stalls[-1]['over_ms']} ms, at the longest for {max(row['longest_ms'] for row in stalls)} ms."]
    if stolen:
        lines += [f"Of the time of its cores {median(stolen, 'percent'):.1f} % went to others on the same hardware meanwhile."]
    if stalls or stolen:
        lines.append("")
    if held:
        last = held[-1]
        lines += [f"Bytes an event, of {last['rows']:,} events with one view of 20 features over windows.", "",
                  "| | bytes an event |", "|---|---|"]
        sizes = {"as lines of JSON": last["raw_json"], "as Parquet": last["parquet"],
                 "online (`.asof/live`)": last["held"].get("live", 0), "online, when each entity was asked for": last["tiled"],
                 "offline (`.asof/offline`)": last["held"].get("offline", 0)}
        lines += [f"| {what} | {size / last['rows']:.1f} |" for what, size in sizes.items()]
        lines.append("")
    return lines


def binary_table(rows: list[dict]) -> list[str]:
    found = [row for row in rows if row["bench"] == "binary"]
    starts = [row for row in rows if row["bench"] == "start"]
    if not found:
        return []
    lines = ["## The binary", "", "| | |", "|---|---|",
             f"| size | {found[-1]['bytes'] / 2**20:.1f} MiB |", f"| `asof --help` | {found[-1]['help_ms']} ms |"]
    if starts:
        lines.append(f"| `asof up` until ready, 3 views of 10,000 rows | {median(starts, 'seconds') * 1e3:.0f} ms |")
    return [*lines, ""]


def report(out: Path) -> str:
    rows = read(out)
    versions = []
    for package in ("duckdb", "polars", "datafusion", "feast"):
        from importlib.metadata import version
        versions.append(f"{package} {version(package)}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    head = ["# Benchmarks", "",
            "Made by `cargo xtask bench`, but for the last two sections, which say what made them: all systems in the same "
            "call, on the same machine, in turn; medians over rounds, "
            f"of which systems under {QUICK_S} s have {QUICK_ROUNDS} times as many, two thirds of them among themselves. "
            "The contracts are in `bench/join.py` and `bench/windows.py`. Peers answer *event*; Asof is shown for both "
            "questions, as a user runs it: process start, the training set's record and writing Parquet included. A "
            "checksum that is not that of most engines is reported as `differs`.", "",
            f"Machine: {os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB. {', '.join(versions)}.", ""]
    return "\n".join(head + join_tables(rows) + window_tables(rows) + online_tables(rows) + live_tables(rows)
                     + binary_table(rows))


def kept(old: str, new: str) -> str:
    """The old report with the sections of the new one in it, so that a part can be measured again alone."""
    head, *sections = re.split(r"^(?=## )", old, flags=re.MULTILINE)
    by_title = {section.split("\n", 1)[0]: section.rstrip("\n") + "\n" for section in sections}
    for section in re.split(r"^(?=## )", new, flags=re.MULTILINE)[1:]:
        by_title[section.split("\n", 1)[0]] = section.rstrip("\n") + "\n"
    place = {title: number for number, title in enumerate(SECTIONS)}
    in_place = sorted(by_title, key=lambda it: place.get(it, len(place)))
    return "\n".join([head.rstrip("\n") + "\n", *(by_title[it] for it in in_place)])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--release", type=Path, required=True, help="folder of the release binaries")
    arguments.add_argument("--size", default="M", choices=generate.SIZES)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=10, help="of each point of load")
    arguments.add_argument("--limit-s", type=int, default=600)
    arguments.add_argument("--limit-mib", type=int, default=24 * 1024)
    arguments.add_argument("--skewed-s", type=int, default=150, help="limit of windows on a skewed spine")
    arguments.add_argument("--parts", default=PARTS, help="the sections of other parts stay in the report as they are")
    arguments.add_argument("--keep", action="store_true", help="add to the figures that are there")
    arguments.add_argument("--dry-run", action="store_true", help="make the data and the peers' answers, of size XS")
    arguments.add_argument("--data", type=Path, default=ROOT / "bench-data")
    arguments.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks.md")
    given = arguments.parse_args()
    given.data.mkdir(exist_ok=True)
    out = given.data / ("dry.jsonl" if given.dry_run else "results.jsonl")
    if not given.keep:
        out.unlink(missing_ok=True)
    if given.dry_run:
        data = generate.generate("XS", given.data)
        for history, systems in (("features", PEERS), ("features_late_100", ["duckdb-known"])):
            for name in systems:
                once(["--data", str(data), "--history", history], name, 120, given.limit_mib, out,
                     {"bench": "join", "size": "XS", "history": history, "spine": "spine"})
        for events, spine, systems in (("events", "spine", WINDOW_PEERS), ("events_float", "spine", WINDOW_PEERS),
                                       ("events_late_100", "spine", ["duckdb-known"])):
            for name in systems:
                once(["--data", str(data), "--events", events, "--spine", spine], name, 120, given.limit_mib, out,
                     {"bench": "windows", "size": "XS", "events": events, "spine": spine})
        print(report(out))
        return
    parts = given.parts.split(",")
    if "join" in parts:
        joins(given, generate.generate(given.size, given.data), out)
    if "windows" in parts:
        aggregated(given, out)
    if "online" in parts:
        import online
        with open(out, "a", encoding="utf-8") as lines:
            for row in online.run(given.release, given.data, given.seconds, given.rounds):
                lines.write(json.dumps(row) + "\n")
    if "live" in parts:
        import live
        with open(out, "a", encoding="utf-8") as lines:
            for row in live.run(given.release, given.data, given.seconds, given.rounds):
                lines.write(json.dumps(row) + "\n")
    if "binary" in parts:
        binary_figures(given.release, out)
    made = report(out)
    if given.parts != PARTS and given.report.exists():
        made = kept(given.report.read_text(encoding="utf-8"), made)
    given.report.write_text(made, encoding="utf-8")
    print(f"written: {given.report}")


if __name__ == "__main__":
    main()
