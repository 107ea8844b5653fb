"""The same join by DuckDB, pandas and Polars, on input where all agree what the answer is: no ties, no nulls."""

from datetime import timedelta

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from conftest import Project

INSTANT = pa.timestamp("us", tz="UTC")
DEFINITIONS = """
entity: thing
keys: {{thing_id: int64, place: string}}
---
source: readings
path: readings.parquet
event_time: seen_at
---
view: latest
entity: thing
source: readings
{ttl}
features: [whole, real, word]
---
service: all_of_it
features: [latest.*]
"""
VALUES = ["whole", "real", "word"]


def history_and_spine(seed: int, rows: int = 20_000, asked: int = 5_000) -> tuple[pa.Table, pa.Table]:
    """A history without ties or nulls, and a spine; some times before 1970, some spine times equal to events."""
    random = np.random.default_rng(seed)
    things, places = 300, np.array(["a", "b", "ä", ""])
    # Every instant once, so that no two rows of a key tie. Coarse steps, so that the spine often hits one.
    at = random.permutation(40_000)[:rows] * 1_000_003 - 20_000_000_000
    keys = random.integers(0, things, rows), places[random.integers(0, len(places), rows)]
    history = pa.table({
        "thing_id": keys[0],
        "place": pa.array(keys[1], pa.string()),
        "seen_at": pa.array(at, INSTANT),
        "whole": random.integers(-(2**62), 2**62, rows),
        "real": random.normal(size=rows),
        "word": pa.array([f"w{n}" for n in random.integers(0, 50, rows)], pa.string()),
    })
    # A third asks of a row that is there, at its very instant or at an edge of a ttl; some keys were never seen.
    copied = random.random(asked) < 0.3
    row = random.integers(0, rows, asked)
    edges = random.choice([0, 1, 2, 900_000_000, 900_000_001], asked)
    asked_at = np.where(copied, at[row] + edges, random.integers(at.min() - 10, at.max() + 10, asked))
    thing = np.where(copied, keys[0][row], random.integers(0, things + 20, asked))
    place = np.where(copied, keys[1][row], places[random.integers(0, len(places), asked)])
    spine = pa.table({
        "row_id": np.arange(asked),
        "thing_id": thing,
        "place": pa.array(place, pa.string()),
        "asked_at": pa.array(asked_at, INSTANT),
    })
    return history, spine


def by_duckdb(history: pa.Table, spine: pa.Table, ttl: timedelta | None) -> pa.Table:
    keep = "true" if ttl is None else f"asked_at - seen_at <= INTERVAL {int(ttl / timedelta(microseconds=1))} MICROSECONDS"
    values = ", ".join(f"CASE WHEN {keep} THEN {name} END AS {name}" for name in VALUES)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("history", history)
    connection.register("spine", spine)
    return connection.sql(f"""
        SELECT row_id, {values} FROM spine s ASOF LEFT JOIN history h
        ON s.thing_id = h.thing_id AND s.place = h.place AND s.asked_at >= h.seen_at ORDER BY row_id""").to_arrow_table()


def by_pandas(history: pa.Table, spine: pa.Table, ttl: timedelta | None) -> pa.Table:
    left, right = spine.to_pandas(), history.to_pandas()
    right["whole"] = right["whole"].astype("Int64")
    joined = pd.merge_asof(
        left.sort_values("asked_at"), right.sort_values("seen_at"), left_on="asked_at", right_on="seen_at",
        by=["thing_id", "place"], tolerance=None if ttl is None else pd.Timedelta(ttl),
    )
    return pa.Table.from_pandas(joined.sort_values("row_id")[["row_id", *VALUES]], preserve_index=False)


def by_polars(history: pa.Table, spine: pa.Table, ttl: timedelta | None) -> pa.Table:
    left, right = pl.from_arrow(spine).sort("asked_at"), pl.from_arrow(history).sort("seen_at")
    joined = left.join_asof(
        right, left_on="asked_at", right_on="seen_at", by=["thing_id", "place"], strategy="backward", tolerance=ttl
    )
    return joined.sort("row_id").select("row_id", *VALUES).to_arrow()


@pytest.mark.parametrize("ttl", [None, timedelta(seconds=900), timedelta(microseconds=1)], ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_latest_value_is_the_peers(project: Project, seed: int, ttl: timedelta | None) -> None:
    history, spine = history_and_spine(seed)
    line = "" if ttl is None else f"ttl: {int(ttl / timedelta(microseconds=1))}us"
    project.write("features/all.yaml", DEFINITIONS.format(ttl=line))
    project.write("readings.parquet", history)
    project.apply()
    answers = {}
    for question in ("known", "event"):
        ours = project.train("all_of_it", spine, "--question", question)
        assert ours["row_id"].to_pylist() == spine["row_id"].to_pylist()
        answers[question] = [ours[name].to_pylist() for name in VALUES]
    # Without late rows both questions have one answer.
    assert answers["known"] == answers["event"]
    present = sum(value is not None for value in answers["known"][0])
    assert 300 < present < len(spine), "the input hardly ever, or always, has an answer"
    for peer in (by_duckdb, by_pandas, by_polars):
        theirs = peer(history, spine, ttl)
        assert [theirs[name].to_pylist() for name in VALUES] == answers["known"], peer.__name__
