"""The hand-made cases of pandas' own tests of `merge_asof`, with the answers written there."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from conftest import DATA, Project

FOLDER = DATA / "pandas_asof_vectors"
INSTANT = pa.timestamp("us", tz="UTC")


def expected(name: str, columns: list[str]) -> list[list[float | None]]:
    with open(FOLDER / name, encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [[float(row[column]) if row[column] else None for row in rows] for column in columns]


def answers(table: pa.Table, columns: list[str]) -> list[list[float | None]]:
    return [[None if value is None else float(value) for value in table[column].to_pylist()] for column in columns]


def copy(project: Project, name: str) -> None:
    project.write(f"data/{name}", Path(FOLDER / name).read_text(encoding="utf-8"))


def test_several_keys_backward(project: Project) -> None:
    copy(project, "multiby_quotes.csv")
    copy(project, "multiby_trades.csv")
    project.write("features/quotes.yaml", """
entity: listed
keys: {ticker: string, exch: string}
---
source: quotes
path: data/multiby_quotes.csv
event_time: time
---
view: quote
entity: listed
source: quotes
features: [bid, ask]
---
service: trades
features: [quote.*]
""")
    project.apply()
    table = project.train("trades", "data/multiby_trades.csv")
    assert answers(table, ["bid", "ask"]) == expected("multiby_expected_backward.csv", ["bid", "ask"])


def test_tolerance_without_exact_matches(project: Project) -> None:
    """pandas' `allow_exact_matches=False` asks just before the trade: one microsecond, here. Its tolerance of
    10 ms is then a ttl of 10 ms less that microsecond."""
    copy(project, "quotes.csv")
    project.write("features/quotes.yaml", """
entity: stock
keys: {ticker: string}
---
source: quotes
path: data/quotes.csv
event_time: time
---
view: quote
entity: stock
source: quotes
ttl: 9999us
features: [bid, ask]
---
service: trades
features: [quote.*]
""")
    project.apply()
    trades = pyarrow.csv.read_csv(FOLDER / "trades.csv")
    before = pc.subtract(pc.cast(pc.cast(trades["time"], pa.timestamp("us")), pa.int64()), 1)
    spine = pa.table({"ticker": trades["ticker"], "asked_at": pc.cast(before, INSTANT)})
    table = project.train("trades", spine)
    assert answers(table, ["bid", "ask"]) == expected("expected_tolerance10ms_exclusive.csv", ["bid", "ask"])


def test_whole_numbers_as_times(project: Project) -> None:
    """Times that are plain numbers carry a unit here. The key is one constant: pandas asks without one."""
    right = pyarrow.csv.read_csv(FOLDER / "numeric_right.csv")
    left = pyarrow.csv.read_csv(FOLDER / "numeric_left.csv")
    one = lambda table: pa.array([1] * table.num_rows, pa.int64())  # noqa: E731
    project.write("data/right.parquet", right.append_column("everything", one(right)))
    project.write("features/right.yaml", """
entity: whole
keys: {everything: int64}
---
source: right
path: data/right.parquet
event_time: {column: a, unit: s}
---
view: last
entity: whole
source: right
features: {backward: right_val}
---
service: numbers
features: [last.*]
""")
    project.apply()
    table = project.train("numbers", left.append_column("everything", one(left)), "--time", "a:s")
    assert answers(table, ["backward"]) == expected("numeric_expected.csv", ["backward"])
