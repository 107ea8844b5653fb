"""The benchmarks, peers and Asof in turn on one machine.    cargo xtask bench -- [--size M] [--rounds 3] ...

One process per system and round (A B C A B C), its files in the page cache, stopped past a limit of time or memory. Every answer has a checksum; a
system whose checksum differs from the others' is reported as wrong, not as fast. Figures go to `bench-data/*.jsonl`,
ratios into `docs/benchmarks.md`.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import generate

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
PEERS = ["duckdb-asof", "duckdb-asof-folded", "polars-asof", "polars-asof-folded", "datafusion-window", "feast-duckdb"]
# Systems whose median is below so many seconds go on in turn, to so many times the rounds: what is quick is easily
# shifted by what else the machine does.
QUICK_S, QUICK_ROUNDS = 5, 3
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


def project(binary: Path, data: Path, history: str) -> Path:
    """A project over one history file, applied."""
    folder = data / f"project_{history}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "features").mkdir(parents=True)
    (folder / "asof.yaml").write_text("project: bench\n")
    os.link(data / f"{history}.parquet", folder / "history.parquet")
    available = "" if history == "features" else "available_at: available_at\n"
    (folder / "features" / "all.yaml").write_text(DEFINITIONS.format(available=available))
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


def once(arguments: list[str], name: str, limit_s: int, limit_mib: int, out: Path, about: dict) -> bool:
    """One system once; False if it was stopped or failed."""
    command = [sys.executable, "-W", "ignore", HERE / "join.py", "--system", name, "--out", out, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    begun, why = time.monotonic(), None
    while process.poll() is None:
        memory = memory_mib(process.pid)
        if time.monotonic() - begun > limit_s:
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
        with open(out, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(about | {"system": name, "error": why}) + "\n")
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
        folder = project(binary, data, history)
        arguments = ["--data", str(data), "--history", history, "--spine", spine, "--binary", str(binary),
                     "--project", str(folder)]
        about = {"bench": "join", "size": data.name, "history": history, "spine": spine}
        turn = ["asof-known", "asof-event", *peers]
        for number in range(given.rounds * QUICK_ROUNDS):
            if number == given.rounds:
                turn = [name for name in turn if wall_so_far(out, about, name) < QUICK_S]
            left = []
            for name in turn:
                warm(data / f"{history}.parquet", data / f"{spine}.parquet", binary)
                if once(arguments, name, given.limit_s, given.limit_mib, out, about):
                    left.append(name)
            turn = left


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


def wrong(by_system: dict[str, list[dict]], name: str, late: bool) -> bool:
    """A checksum that differs from the others' that answer the same; without late rows both questions are one."""
    asked = lambda it: late and "known" in it  # noqa: E731
    sums = [row["checksum"] for other, rows in by_system.items() if asked(other) == asked(name)
            for row in rows if "checksum" in row]
    mine = {row["checksum"] for row in by_system[name] if "checksum" in row}
    most = max(set(sums), key=sums.count) if sums else None
    return bool(mine) and mine != {most}


def join_tables(rows: list[dict]) -> list[str]:
    lines = []
    groups: dict[tuple, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in (row for row in rows if row["bench"] == "join"):
        groups[row["size"], row["history"], row["spine"]][row["system"]].append(row)
    for (size, history, spine), by_system in groups.items():
        entities, history_rows, asked = generate.SIZES[size]
        late = {"features": "0"}.get(history, history.rsplit("_", 1)[-1])
        shape = "uniform" if spine == "spine" else "skewed"
        lines += [f"### {history_rows:,} history rows x {asked:,} spine rows, {shape} spine, {late} % late rows", "",
                  "| system | question | wall s | least to most | CPU s | peak MiB | wall, times Asof's | memory, times Asof's | answer |",
                  "|---|---|---|---|---|---|---|---|---|"]
        ours = [row for row in by_system.get("asof-known", []) if "wall_s" in row]
        order = sorted(by_system, key=lambda it: min((row.get("wall_s", 1e9) for row in by_system[it])))
        for name in order:
            good = [row for row in by_system[name] if "wall_s" in row]
            question = "known" if "known" in name else "event"
            if not good:
                lines.append(f"| {name} | {question} | {by_system[name][0]['error'][:80]} | | | | | | |")
                continue
            wall, memory = median(good, "wall_s"), median(good, "peak_mib")
            ratios = ("", "")
            if ours:
                ratios = (f"{wall / median(ours, 'wall_s'):.1f}", f"{memory / median(ours, 'peak_mib'):.1f}")
            verdict = "differs" if wrong(by_system, name, late != "0") else good[0]["checksum"][:8]
            walls = [row["wall_s"] for row in good]
            lines.append(f"| {name} | {question} | {wall:.2f} | {min(walls):.2f} to {max(walls):.2f} | "
                         f"{median(good, 'cpu_s'):.2f} | {memory:.0f} | "
                         f"{ratios[0]} | {ratios[1]} | {verdict} |")
        lines.append("")
    return lines


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
            "Made by `cargo xtask bench`: all systems in the same call, on the same machine, in turn; medians over rounds, "
            f"of which systems under {QUICK_S} s have {QUICK_ROUNDS} times as many, two thirds of them among themselves. "
            "The contract is in `bench/join.py`. Peers answer *event*; Asof is shown for both questions, as a user runs "
            "it: process start, the training set's record and writing Parquet included. A differing checksum is reported "
            "as `differs`.", "",
            f"Machine: {os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB. {', '.join(versions)}.", "",
            "## Point-in-time join", "", "10 features, ttl of 30 days, 2 % corrections.", ""]
    return "\n".join(head + join_tables(rows) + online_tables(rows) + binary_table(rows))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--release", type=Path, required=True, help="folder of the release binaries")
    arguments.add_argument("--size", default="M", choices=generate.SIZES)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=10, help="of each point of load")
    arguments.add_argument("--limit-s", type=int, default=600)
    arguments.add_argument("--limit-mib", type=int, default=24 * 1024)
    arguments.add_argument("--parts", default="join,online,binary")
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
        print(report(out))
        return
    parts = given.parts.split(",")
    if "join" in parts:
        joins(given, generate.generate(given.size, given.data), out)
    if "online" in parts:
        import online
        with open(out, "a", encoding="utf-8") as lines:
            for row in online.run(given.release, given.data, given.seconds, given.rounds):
                lines.write(json.dumps(row) + "\n")
    if "binary" in parts:
        binary_figures(given.release, out)
    given.report.write_text(report(out), encoding="utf-8")
    print(f"written: {given.report}")


if __name__ == "__main__":
    main()
