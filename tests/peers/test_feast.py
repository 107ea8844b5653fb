"""Feast itself, on its own example data: its answer is ours to the question *event*, its `created` our `order_by`."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import DATA, Project

FOLDER = DATA / "feast"
INSTANT = pa.timestamp("us", tz="UTC")


def by_feast(
    folder: Path, file: Path, key: str, created: str, features: dict[str, str], ttl: timedelta, spine: pd.DataFrame
) -> pd.DataFrame:
    """Feast's historical features, in the spine's order."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast import types as feast_types
    from feast.value_type import ValueType

    store = FeatureStore(config=RepoConfig(
        project="compared", provider="local", registry=str(folder / "registry.db"), online_store=None,
        offline_store={"type": "duckdb"}, entity_key_serialization_version=3,
    ))
    entity = Entity(name=key, join_keys=[key], value_type=ValueType.INT64)
    view = FeatureView(
        name="view", entities=[entity], ttl=ttl, online=False,
        schema=[Field(name=key, dtype=feast_types.Int64)]
        + [Field(name=name, dtype=getattr(feast_types, kind)) for name, kind in features.items()],
        source=FileSource(path=str(file), timestamp_field="event_timestamp", created_timestamp_column=created),
    )
    store.apply([entity, view])
    job = store.get_historical_features(entity_df=spine, features=[f"view:{name}" for name in features])
    return job.to_df().sort_values("row_id").reset_index(drop=True)


def compare(ours: pa.Table, theirs: pd.DataFrame, features: dict[str, str]) -> None:
    assert ours["row_id"].to_pylist() == theirs["row_id"].tolist()
    for name in features:
        mine = ours[name].to_pandas()
        pd.testing.assert_series_equal(
            mine.isna(), theirs[name].isna(), check_names=False, obj=f"{name}: where it is null"
        )
        filled = mine.notna()
        assert filled.sum() > 100, f"{name} is hardly ever there"
        left, right = mine[filled], theirs[name][filled]
        assert (left.astype(right.dtype) == right).all(), name


@pytest.mark.parametrize("ttl", [timedelta(hours=2), timedelta(days=365)], ids=str)
def test_driver_stats(project: Project, tmp_path: Path, ttl: timedelta) -> None:
    features = {"conv_rate": "Float32", "acc_rate": "Float32", "avg_daily_trips": "Int32"}
    history = pq.read_table(FOLDER / "driver_stats.parquet").to_pandas()
    # Three rows tie in event and created time: which one Feast takes is not said, so they stay out.
    tied = history.duplicated(["driver_id", "event_timestamp", "created"], keep=False)
    assert tied.sum() == 3
    history = history[~tied]
    file = tmp_path / "driver_stats.parquet"
    pq.write_table(pa.Table.from_pandas(history, preserve_index=False), file)
    project.write("features/drivers.yaml", f"""
entity: driver
keys: {{driver_id: int64}}
---
source: driver_stats
path: driver_stats.parquet
event_time: event_timestamp
order_by: created
---
view: stats
entity: driver
source: driver_stats
ttl: {int(ttl / timedelta(hours=1))}h
features: [conv_rate, acc_rate, avg_daily_trips]
---
service: drivers
features: [stats.*]
""")
    project.apply()
    random = np.random.default_rng(5)
    first, last = history["event_timestamp"].min(), history["event_timestamp"].max()
    seconds = random.integers(0, int((last - first).total_seconds()), 3000)
    at = first + pd.to_timedelta(seconds, unit="s")
    # Half of them among the recent rows: one row of each driver is a year older than the rest.
    at = at.where(random.random(3000) < 0.5, last - pd.to_timedelta(random.integers(0, 14 * 86_400, 3000), unit="s"))
    spine = pd.DataFrame({
        "row_id": np.arange(3000), "driver_id": random.integers(1000, 1007, 3000), "event_timestamp": at,
    })
    ours = project.train("drivers", pa.Table.from_pandas(spine, preserve_index=False), "--question", "event")
    theirs = by_feast(tmp_path, file, "driver_id", "created", features, ttl, spine)
    compare(ours, theirs, features)


def test_credit_scoring(project: Project, tmp_path: Path) -> None:
    features = {"city": "String", "state": "String", "tax_returns_filed": "Int64", "population": "Int64",
                "total_wages": "Int64"}
    project.write("zipcode_table.parquet", pq.read_table(FOLDER / "zipcode_table.parquet"))
    project.write("features/zipcodes.yaml", """
entity: zip
keys: {zipcode: int64}
---
source: zipcodes
path: zipcode_table.parquet
event_time: event_timestamp
order_by: created_timestamp
---
view: zipcode_features
entity: zip
source: zipcodes
ttl: 3650d
features: [city, state, tax_returns_filed, population, total_wages]
---
service: loans
features: [zipcode_features.*]
""")
    project.apply()
    loans = pq.read_table(FOLDER / "loan_table.parquet").to_pandas()
    spine = loans[["zipcode", "event_timestamp"]].copy()
    spine.insert(0, "row_id", np.arange(len(spine)))
    # A few loans from before the table begins, and some zip codes nobody has.
    spine.loc[spine.index[:50], "event_timestamp"] = pd.Timestamp("2016-06-01", tz="UTC")
    spine.loc[spine.index[50:90], "zipcode"] = 1
    ours = project.train("loans", pa.Table.from_pandas(spine, preserve_index=False), "--question", "event")
    theirs = by_feast(
        tmp_path, FOLDER / "zipcode_table.parquet", "zipcode", "created_timestamp", features, timedelta(days=3650), spine
    )
    compare(ours, theirs, features)
