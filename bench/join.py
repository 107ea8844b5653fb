"""The point-in-time join by one system, in a process of its own (`run.py` starts them in turn).

    python bench/join.py --system duckdb-asof --data FOLDER/M --spine spine --out results.jsonl

The contract: read features.parquet and the spine; give one row per spine row with row_id and ten features, those of the
newest history row with `t - 30 days <= event_timestamp <= t`, of equal times the one created last, nulls where there is
none. All peers answer *event*. Asof is measured as a user runs it: process start and writing Parquet included.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from measure import FEATURES, FLOATS, INTEGERS, KINDS, TTL_DAYS, asof, checksum, duckdb_query, measured, record

Run = Callable[[], pa.Table]
SYSTEMS: dict[str, Callable[[Path, Path], Run]] = {}
NAMES = ", ".join(FEATURES)
PACKED = ", ".join(f"{name} := {name}" for name in FEATURES)


def system(name: str):
    def remember(function: Callable[[Path, Path], Run]):
        SYSTEMS[name] = function
        return function
    return remember


@system("duckdb-asof")
def duckdb_asof(history: Path, spine: Path) -> Run:
    fresh = f"event_timestamp >= asked - INTERVAL {TTL_DAYS} DAY"
    return duckdb_query(f"""
        WITH f AS (SELECT * FROM read_parquet('{history}')
                   QUALIFY row_number() OVER (PARTITION BY entity_id, event_timestamp ORDER BY created_timestamp DESC) = 1),
        j AS (SELECT s.row_id, s.event_timestamp AS asked, f.* EXCLUDE (entity_id, created_timestamp)
              FROM read_parquet('{spine}') s ASOF LEFT JOIN f
              ON s.entity_id = f.entity_id AND s.event_timestamp >= f.event_timestamp)
        SELECT row_id, {', '.join(f'CASE WHEN {fresh} THEN {name} END AS {name}' for name in FEATURES)} FROM j""")


@system("duckdb-asof-folded")
def duckdb_asof_folded(history: Path, spine: Path) -> Run:
    """Corrections folded by arg_max before the join."""
    return duckdb_query(f"""
        WITH f AS (SELECT entity_id, event_timestamp, arg_max(struct_pack({PACKED}), created_timestamp) AS v
                   FROM read_parquet('{history}') GROUP BY 1, 2),
        j AS (SELECT s.row_id,
                     CASE WHEN f.event_timestamp >= s.event_timestamp - INTERVAL {TTL_DAYS} DAY THEN f.v END AS v
              FROM read_parquet('{spine}') s ASOF LEFT JOIN f
              ON s.entity_id = f.entity_id AND s.event_timestamp >= f.event_timestamp)
        SELECT row_id, {', '.join(f'v.{name} AS {name}' for name in FEATURES)} FROM j""")


@system("duckdb-known")
def duckdb_known(history: Path, spine: Path) -> Run:
    """*known*, written out as a range join: right, and slow. The check of Asof's answer on small sizes."""
    return duckdb_query(f"""
        WITH j AS (SELECT s.row_id, s.event_timestamp AS asked, arg_max(
                     struct_pack(e := f.event_timestamp, {PACKED}),
                     struct_pack(e := f.event_timestamp, v := f.available_at, o := f.created_timestamp)) AS v
              FROM read_parquet('{spine}') s LEFT JOIN read_parquet('{history}') f
              ON s.entity_id = f.entity_id AND f.event_timestamp <= s.event_timestamp
                 AND f.available_at <= s.event_timestamp
              GROUP BY 1, 2)
        SELECT row_id, {', '.join(f'CASE WHEN v.e >= asked - INTERVAL {TTL_DAYS} DAY THEN v.{name} END AS {name}'
                                  for name in FEATURES)} FROM j""")


def polars_joined(history, spine) -> pa.Table:
    joined = spine.join_asof(
        history, on="event_timestamp", by="entity_id", strategy="backward", tolerance=timedelta(days=TTL_DAYS),
        check_sortedness=False,
    )
    return joined.select("row_id", *FEATURES).collect().to_arrow()


@system("polars-asof")
def polars_asof(history: Path, spine: Path) -> Run:
    import polars as pl

    def run() -> pa.Table:
        rows = pl.scan_parquet(history).sort("event_timestamp", "created_timestamp")
        rows = rows.unique(["entity_id", "event_timestamp"], keep="last", maintain_order=True)
        rows = rows.drop("created_timestamp").set_sorted("event_timestamp")
        return polars_joined(rows, pl.scan_parquet(spine).sort("event_timestamp"))
    return run


@system("polars-asof-folded")
def polars_asof_folded(history: Path, spine: Path) -> Run:
    """Relies on join_asof taking the last of equal times after the sort."""
    import polars as pl

    def run() -> pa.Table:
        rows = pl.scan_parquet(history).sort("event_timestamp", "created_timestamp").drop("created_timestamp")
        return polars_joined(rows, pl.scan_parquet(spine).sort("event_timestamp"))
    return run


@system("pandas-asof")
def pandas_asof(history: Path, spine: Path) -> Run:
    import pandas as pd

    def run() -> pa.Table:
        rows = pd.read_parquet(history).sort_values(["event_timestamp", "created_timestamp"])
        rows = rows.drop_duplicates(["entity_id", "event_timestamp"], keep="last").drop(columns="created_timestamp")
        asked = pd.read_parquet(spine).sort_values("event_timestamp")
        joined = pd.merge_asof(asked, rows, on="event_timestamp", by="entity_id", tolerance=pd.Timedelta(days=TTL_DAYS))
        return pa.Table.from_pandas(joined[["row_id", *FEATURES]], preserve_index=False)
    return run


@system("datafusion-window")
def datafusion_window(history: Path, spine: Path) -> Run:
    """Union of both sides, sorted by key and time, the last history row carried forward."""
    import datafusion

    context = datafusion.SessionContext()
    context.register_parquet("history", str(history))
    context.register_parquet("spine", str(spine))
    packed = ", ".join(f"'{name}', {name}" for name in FEATURES)
    fresh = f"v['e'] >= t - INTERVAL '{TTL_DAYS} days'"
    sql = f"""
        WITH u AS (SELECT CAST(NULL AS BIGINT) AS row_id, entity_id, event_timestamp AS t, created_timestamp AS c, 0 AS k,
                          named_struct('e', event_timestamp, {packed}) AS v FROM history
                   UNION ALL SELECT row_id, entity_id, event_timestamp, NULL, 1, NULL FROM spine),
        w AS (SELECT row_id, t, last_value(v) IGNORE NULLS OVER (PARTITION BY entity_id ORDER BY t, k, c
                     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS v FROM u)
        SELECT row_id, {', '.join(f"CASE WHEN {fresh} THEN v['{name}'] END AS {name}" for name in FEATURES)}
        FROM w WHERE row_id IS NOT NULL"""

    def run() -> pa.Table:
        frame = context.sql(sql)
        return pa.Table.from_batches(frame.collect(), schema=frame.schema())
    return run


@system("feast-duckdb")
def feast_duckdb(history: Path, spine: Path) -> Run:
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType

    folder = tempfile.mkdtemp(prefix="bench-feast-")
    store = FeatureStore(config=RepoConfig(
        project="bench", provider="local", registry=f"{folder}/registry.db", online_store=None,
        offline_store={"type": "duckdb"}, entity_key_serialization_version=3,
    ))
    entity = Entity(name="entity_id", join_keys=["entity_id"], value_type=ValueType.INT64)
    kind = lambda name: Float64 if name in FLOATS else Int64 if name in INTEGERS else String  # noqa: E731
    view = FeatureView(
        name="fv", entities=[entity], ttl=timedelta(days=TTL_DAYS), online=False,
        schema=[Field(name="entity_id", dtype=Int64)] + [Field(name=name, dtype=kind(name)) for name in FEATURES],
        source=FileSource(path=str(history), timestamp_field="event_timestamp",
                          created_timestamp_column="created_timestamp"),
    )
    store.apply([entity, view])
    names = [f"fv:{name}" for name in FEATURES]
    return lambda: store.get_historical_features(entity_df=pd.read_parquet(spine), features=names).to_arrow()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--system", required=True, help=f"asof-known, asof-event, or one of {', '.join(SYSTEMS)}")
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--history", default="features")
    arguments.add_argument("--spine", default="spine")
    arguments.add_argument("--binary", type=Path)
    arguments.add_argument("--project", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    history, spine = given.data / f"{given.history}.parquet", given.data / f"{given.spine}.parquet"
    values = {"bench": "join", "system": given.system, "size": given.data.name, "history": given.history,
              "spine": given.spine}
    os.environ["FEAST_USAGE"] = "False"
    try:
        if given.system.startswith("asof-"):
            table, numbers = asof(given.binary, given.project, spine, given.system.removeprefix("asof-"))
        else:
            table, numbers = measured(SYSTEMS[given.system](history, spine))
        values |= numbers | checksum(table, KINDS)
    except Exception as error:  # A system that cannot do it is a result too.
        values["error"] = f"{type(error).__name__}: {str(error)[:300]}"
    record(given.out, values)


if __name__ == "__main__":
    main()
