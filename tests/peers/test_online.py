"""What a running node answers for a time is what a training set says of that time, on both examples."""

from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import ROOT

INSTANT = pa.timestamp("us", tz="UTC")
ASKED = 300


def spine_of(name: str, file: str, time: str, keys: list[str], random: np.random.Generator) -> pa.Table:
    """Half of the rows as they stand in the example's spine, half the keys of one at a time of another."""
    table = pq.read_table(ROOT / "examples" / name / "data" / file)
    rows = random.integers(0, table.num_rows, ASKED)
    others = np.where(random.random(ASKED) < 0.5, rows, random.integers(0, table.num_rows, ASKED))
    # Not only whole minutes: a moment after, and the very microsecond before.
    shift = random.choice([0, -1, 1, 1_234_567], ASKED)
    at = pc.add(pc.cast(table[time].take(others), pa.int64()).combine_chunks(), pa.array(shift))
    spine = {"asked": np.arange(ASKED), "at": pc.cast(at, INSTANT)}
    return pa.table(spine | {key: table[key].take(rows).combine_chunks() for key in keys})


def plain(value: object) -> object:
    """A value as the wire says it: a time is RFC 3339 with microseconds."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


@pytest.mark.parametrize(("name", "service", "file", "time", "keys"), [
    ("flights", "late_departure", "departures.parquet", "scheduled_at", ["origin", "tailnum"]),
    ("flights", "delays_lately", "departures.parquet", "scheduled_at", ["origin", "carrier", "tailnum"]),
    ("listings", "category_model", "postings.parquet", "posted_at", ["merchant_id", "cluster_id"]),
])
def test_online_is_training(example, name: str, service: str, file: str, time: str, keys: list[str]) -> None:
    project = example(name)
    spine = spine_of(name, file, time, keys, np.random.default_rng(11))
    trained = project.train(service, spine)
    features = [column for column in trained.column_names if column not in spine.column_names]
    assert len(features) > 5
    project.asof("materialize")
    with project.up() as node:
        for row, expected in zip(spine.to_pylist(), trained.select(features).to_pylist()):
            body = {
                "service": service, "entities": {key: [row[key]] for key in keys},
                "as_of": row["at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }
            answer = node.features(body)
            assert (answer["as_of"], answer["question"]) == (body["as_of"], "known")
            got = {column["name"]: column["values"][0] for column in answer["columns"]}
            assert got == {key: plain(value) for key, value in expected.items()}, body
    assert pc.sum(pc.is_valid(trained[features[0]])).as_py() > ASKED // 3
