"""A stored source is a Delta table that other engines read as it is, and other engines' tables are read here."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from conftest import Project

INSTANT = pa.timestamp("us", tz="UTC")
DEFINITIONS = """
entity: shop
keys: {shop_id: int64}
---
source: prices
path: prices
format: FORMAT
event_time: priced_at
STORE
---
view: last_price
entity: shop
source: prices
features: [price, word]
---
service: prices
features: [last_price.*]
"""


def rows(begin: int, count: int) -> pa.Table:
    numbers = range(begin, begin + count)
    return pa.table({
        "shop_id": pa.array([number % 7 for number in numbers], pa.int64()),
        "priced_at": pa.array([number * 1_000_000 for number in numbers], INSTANT),
        "price": pa.array([None if number % 11 == 0 else number / 8 for number in numbers], pa.float64()),
        "word": pa.array([f"ü{number}" for number in numbers], pa.string()),
    })


def spine() -> pa.Table:
    return pa.table({
        "shop_id": pa.array([number % 8 for number in range(400)], pa.int64()),
        "asked_at": pa.array([number * 900_000 for number in range(400)], INSTANT),
    })


def by_duckdb(history: pa.Table, asked: pa.Table) -> pa.Table:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("history", history)
    connection.register("asked", asked.append_column("row_id", pa.array(range(asked.num_rows))))
    return connection.sql("""SELECT price, word FROM asked s ASOF LEFT JOIN history h
        ON s.shop_id = h.shop_id AND s.asked_at >= h.priced_at ORDER BY row_id""").to_arrow_table()


def test_another_engine_reads_a_stored_source(project: Project) -> None:
    project.write("features/all.yaml", DEFINITIONS.replace("FORMAT", "parquet").replace("STORE", "store: true"))
    project.write("prices/one.parquet", rows(0, 200))
    project.apply()
    project.asof("load", "prices", "prices/one.parquet")
    project.write("prices/two.parquet", rows(200, 150))
    project.asof("load", "prices", "prices/two.parquet")
    project.asof("load", "prices", "prices/two.parquet")  # The same content is loaded once.
    logs = sorted((project.folder / ".asof").rglob("_delta_log"))
    assert len(logs) == 1, logs
    stored = DeltaTable(str(logs[0].parent)).to_pyarrow_table()
    assert {"event_time", "visible_at", "seq", "op"} <= set(stored.column_names)
    own = stored.sort_by("seq").select(["shop_id", "priced_at", "price", "word"])
    assert own.to_pylist() == pa.concat_tables([rows(0, 200), rows(200, 150)]).to_pylist()
    positions = sorted(stored["seq"].to_pylist())
    assert len(set(positions)) == 350
    assert stored.sort_by("seq")["event_time"].to_pylist() == own["priced_at"].to_pylist()
    # DuckDB reads the files as they are, too.
    files = f"{logs[0].parent}/**/*.parquet"
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{files}')").fetchall()[0][0] >= 350
    ours = project.train("prices", spine())
    theirs = by_duckdb(pa.concat_tables([rows(0, 200), rows(200, 150)]), spine())
    assert ours.select(["price", "word"]).to_pylist() == theirs.to_pylist()


def test_a_table_of_another_engine_is_read(project: Project) -> None:
    """Written by delta-rs from Python in several commits, with a delete in between."""
    table = str(project.folder / "prices")
    write_deltalake(table, rows(0, 200))
    write_deltalake(table, rows(200, 150), mode="append")
    DeltaTable(table).delete("shop_id = 3")
    project.write("features/all.yaml", DEFINITIONS.replace("FORMAT", "delta").replace("STORE", ""))
    project.apply()
    history = DeltaTable(table).to_pyarrow_table()
    assert 3 not in history["shop_id"].to_pylist() and history.num_rows == 300
    ours = project.train("prices", spine())
    assert ours.select(["price", "word"]).to_pylist() == by_duckdb(history, spine()).to_pylist()
    assert pq.read_schema(project.folder / "train.parquet").field("price").type == pa.float64()
