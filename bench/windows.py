"""Aggregates over windows by one system, in a process of its own (`run.py` starts them in turn).

    python bench/windows.py --system duckdb-rangejoin --data FOLDER/M --events events --spine spine --out results.jsonl

The contract: per spine row, over the events of its entity with `t - w < ts <= t`, for w of 1h, 1d, 7d and 30d: sum,
count, mean and max of amount, and how many different categories. Of an empty window the counts are 0, the others null.
All peers answer *event*. Asof is measured as a user runs it: process start and writing Parquet included.

Three things are asked of an answer. The checksum is over all cells, means to four decimals; of events with float
amounts it has, of sums and means, only where they are null, since a plan's sum depends on the order it adds in. What
`off` says is judged for every answer to *event*: the greatest relative distance of a sum or a mean from the exact one,
which is made here of whole cents by prefix sums and not by any engine. And there are as many rows as were asked for.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from measure import asof, checksum, duckdb_query, measured, record

Run = Callable[[], pa.Table]
SYSTEMS: dict[str, Callable[[Path, Path], Run]] = {}
HOUR = 3600
WINDOWS = {"1h": HOUR, "1d": 24 * HOUR, "7d": 7 * 24 * HOUR, "30d": 30 * 24 * HOUR}
LONGEST = max(WINDOWS.values())
# A feature over a window is asked for as `NAME_WINDOW`, which gives the contract's names: `sum_1h`.
DEFINITIONS = """entity: thing
keys: {{entity_id: int64}}
---
source: history
path: history.parquet
event_time: ts
{available}---
view: fv
entity: thing
source: history
windows: [1h, 1d, 7d, 30d]
include_now: true
features:
  sum: {{agg: sum(amount)}}
  cnt: {{agg: count(amount)}}
  avg: {{agg: mean(amount)}}
  max: {{agg: max(amount)}}
  dct: {{agg: count_distinct(category)}}
---
service: bench
features: [fv.*]
"""


def kinds(floats: bool) -> dict[str, str]:
    """What the checksum takes of each column."""
    whole = {"sum": "integer", "cnt": "integer", "avg": "mean", "max": "integer", "dct": "integer"}
    parts = {"sum": "presence", "cnt": "integer", "avg": "presence", "max": "float", "dct": "integer"}
    return {f"{name}_{window}": kind for window in WINDOWS for name, kind in (parts if floats else whole).items()}


def system(name: str):
    def remember(function: Callable[[Path, Path], Run]):
        SYSTEMS[name] = function
        return function
    return remember


def filtered(interval: Callable[[int], str]) -> str:
    """The aggregates of a range join over the longest window, of shorter ones by `FILTER`."""
    found = []
    for window, seconds in WINDOWS.items():
        inside = f"FILTER (WHERE e.ts > s.event_timestamp - {interval(seconds)})"
        found += [f"sum(amount) {inside} AS sum_{window}", f"count(amount) {inside} AS cnt_{window}",
                  f"avg(amount) {inside} AS avg_{window}", f"max(amount) {inside} AS max_{window}",
                  f"count(DISTINCT category) {inside} AS dct_{window}"]
    return ", ".join(found)


def duckdb_joined(events: Path, spine: Path, only: str) -> Run:
    return duckdb_query(f"""
        SELECT s.row_id, {filtered(lambda seconds: f'INTERVAL {seconds} SECOND')}
        FROM read_parquet('{spine}') s LEFT JOIN read_parquet('{events}') e
        ON s.entity_id = e.entity_id AND e.ts <= s.event_timestamp
           AND e.ts > s.event_timestamp - INTERVAL {LONGEST} SECOND {only}
        GROUP BY s.row_id""")


@system("duckdb-rangejoin")
def duckdb_rangejoin(events: Path, spine: Path) -> Run:
    """What most feature stores emit: a range join, grouped by spine row."""
    return duckdb_joined(events, spine, "")


@system("duckdb-known")
def duckdb_known(events: Path, spine: Path) -> Run:
    """*known*, written out: the check of Asof's answer on small sizes."""
    return duckdb_joined(events, spine, "AND e.available_at <= s.event_timestamp")


@system("duckdb-window")
def duckdb_window(events: Path, spine: Path) -> Run:
    """Union of both sides, one RANGE frame per window, its open lower edge a microsecond above."""
    found, frames = [], []
    for window, seconds in WINDOWS.items():
        found += [f"sum(amount) OVER w{window} AS sum_{window}", f"count(amount) OVER w{window} AS cnt_{window}",
                  f"avg(amount) OVER w{window} AS avg_{window}", f"max(amount) OVER w{window} AS max_{window}",
                  f"count(DISTINCT category) OVER w{window} AS dct_{window}"]
        frames.append(f"w{window} AS (PARTITION BY entity_id ORDER BY ts RANGE BETWEEN "
                      f"INTERVAL {seconds * 10**6 - 1} MICROSECOND PRECEDING AND CURRENT ROW)")
    return duckdb_query(f"""
        WITH u AS (SELECT NULL::BIGINT AS row_id, entity_id, ts, amount, category FROM read_parquet('{events}')
                   UNION ALL SELECT row_id, entity_id, event_timestamp, NULL, NULL FROM read_parquet('{spine}'))
        SELECT * FROM (SELECT row_id, {', '.join(found)} FROM u WINDOW {', '.join(frames)})
        WHERE row_id IS NOT NULL""")


def polars_aggregates(window: str, amount, category) -> list:
    import polars as pl

    count = amount.count()
    return [pl.when(count > 0).then(amount.sum()).alias(f"sum_{window}"), count.alias(f"cnt_{window}"),
            amount.mean().alias(f"avg_{window}"), amount.max().alias(f"max_{window}"),
            category.n_unique().alias(f"dct_{window}")]


@system("polars-rolling")
def polars_rolling(events: Path, spine: Path) -> Run:
    """rolling() over the union of both sides, one pass per window; the spine's rows are kept."""
    import polars as pl

    def run() -> pa.Table:
        left = pl.scan_parquet(events)
        types = left.collect_schema()
        right = pl.scan_parquet(spine).rename({"event_timestamp": "ts"}).with_columns(
            amount=pl.lit(None, types["amount"]), category=pl.lit(None, types["category"])
        ).select("entity_id", "ts", "amount", "category", "row_id")
        left = left.with_columns(row_id=pl.lit(None, pl.Int64))
        both = pl.concat([left, right]).sort("entity_id", "ts").collect()
        answer = None
        for window, seconds in WINDOWS.items():
            found = both.rolling("ts", period=f"{seconds}s", closed="right", group_by="entity_id").agg(
                polars_aggregates(window, pl.col("amount"), pl.col("category").drop_nulls()))
            found = found.with_columns(row_id=both["row_id"]).filter(pl.col("row_id").is_not_null())
            found = found.drop("entity_id", "ts")
            answer = found if answer is None else answer.hstack(found.drop("row_id"))
        return answer.to_arrow()
    return run


@system("polars-rangejoin")
def polars_rangejoin(events: Path, spine: Path) -> Run:
    """A join on the key, filtered to the longest window, grouped by spine row."""
    import polars as pl

    def run() -> pa.Table:
        asked = pl.scan_parquet(spine)
        joined = asked.join(pl.scan_parquet(events), on="entity_id")
        joined = joined.with_columns(age=pl.col("event_timestamp") - pl.col("ts")).filter(
            (pl.col("age") >= pl.duration(seconds=0)) & (pl.col("age") < pl.duration(seconds=LONGEST)))
        found = []
        for window, seconds in WINDOWS.items():
            inside = pl.col("age") < pl.duration(seconds=seconds)
            found += polars_aggregates(window, pl.col("amount").filter(inside), pl.col("category").filter(inside))
        answer = asked.select("row_id").join(joined.group_by("row_id").agg(found), on="row_id", how="left")
        return answer.with_columns(pl.col("^(cnt|dct)_.*$").fill_null(0)).collect().to_arrow()
    return run


@system("datafusion-rangejoin")
def datafusion_rangejoin(events: Path, spine: Path) -> Run:
    import datafusion

    context = datafusion.SessionContext()
    context.register_parquet("e", str(events))
    context.register_parquet("s", str(spine))
    sql = f"""
        SELECT s.row_id, {filtered(lambda seconds: f"INTERVAL '{seconds} seconds'")}
        FROM s LEFT JOIN e ON s.entity_id = e.entity_id AND e.ts <= s.event_timestamp
             AND e.ts > s.event_timestamp - INTERVAL '{LONGEST} seconds'
        GROUP BY s.row_id"""

    def run() -> pa.Table:
        frame = context.sql(sql)
        return pa.Table.from_batches(frame.collect(), schema=frame.schema())
    return run


def whole(table: pa.Table, name: str) -> np.ndarray:
    return table[name].cast(pa.int64()).to_numpy()


def off(answer: pa.Table, data: Path, spine: Path, floats: bool) -> float:
    """The greatest relative distance of a sum or a mean from the exact one; infinite where only one of them is null.

    Exact are sums of whole cents, of which floats are made: differences of one running sum over all events, in order of
    entity and time, which fits int64."""
    events = pq.read_table(data / "events.parquet", columns=["entity_id", "ts", "amount"])
    asked = pq.read_table(spine, columns=["row_id", "entity_id", "event_timestamp"]).sort_by("row_id")
    answer = answer.sort_by("row_id")
    if not answer["row_id"].combine_chunks().cast(pa.int64()).equals(asked["row_id"].combine_chunks()):
        return float("inf")
    begin = min(whole(events, "ts").min(), whole(asked, "event_timestamp").min()) - LONGEST * 10**6
    span = max(whole(events, "ts").max(), whole(asked, "event_timestamp").max()) - begin + 1

    def places(entity: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Entity and time as one number, of which a window is a stretch."""
        return entity.astype(np.uint64) * np.uint64(span) + (time - begin).astype(np.uint64)

    place = places(whole(events, "entity_id"), whole(events, "ts"))
    order = np.argsort(place)
    place = place[order]
    running = np.concatenate([[0], np.cumsum(whole(events, "amount")[order])])
    entity, time = whole(asked, "entity_id"), whole(asked, "event_timestamp")
    high = np.searchsorted(place, places(entity, time), "right")
    worst = 0.0
    for window, seconds in WINDOWS.items():
        low = np.searchsorted(place, places(entity, time - seconds * 10**6), "right")
        count = high - low
        total = (running[high] - running[low]) / (100 if floats else 1)
        some = count > 0
        for name, exact in (("sum", total), ("avg", total / np.maximum(count, 1))):
            column = answer[f"{name}_{window}"].cast(pa.float64())
            if not np.array_equal(column.is_valid().to_numpy(), some):
                return float("inf")
            given = column.fill_null(0).to_numpy()[some]
            distance = np.abs(given - exact[some]) / exact[some]
            worst = max(worst, float(np.max(distance, initial=0.0)))
    return worst


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--system", required=True, help=f"asof-known, asof-event, or one of {', '.join(SYSTEMS)}")
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--events", default="events", help="events, events_float or events_late_N")
    arguments.add_argument("--spine", default="spine")
    arguments.add_argument("--binary", type=Path)
    arguments.add_argument("--project", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    events, spine = given.data / f"{given.events}.parquet", given.data / f"{given.spine}.parquet"
    floats = given.events == "events_float"
    about = {"bench": "windows", "system": given.system, "size": given.data.name, "events": given.events,
             "spine": given.spine}
    try:
        if given.system.startswith("asof-"):
            table, numbers = asof(given.binary, given.project, spine, given.system.removeprefix("asof-"))
        else:
            table, numbers = measured(SYSTEMS[given.system](events, spine))
        values = about | numbers | checksum(table, kinds(floats))
        # With late rows, *known* has other sums than these.
        if "late" not in given.events or "known" not in given.system:
            values["off"] = off(table, given.data, spine, floats)
    except Exception as error:  # A system that cannot do it is a result too.
        values = about | {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    record(given.out, values)


if __name__ == "__main__":
    main()
