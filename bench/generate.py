"""Seeded data of the benchmarks.    python bench/generate.py --size XS|S|M|L --out FOLDER

    features.parquet            entity_id, event_timestamp, created_timestamp, 4 floats, 4 integers, 2 strings
    features_late_N.parquet     the same with available_at: N percent of the rows are up to a day late (not of size L)
    events.parquet              entity_id, ts, amount (cents), category
    events_float.parquet        the same with amount as a float of two decimals (not of size L)
    events_late_N.parquet       the same with available_at, as of features (not of size L)
    spine.parquet               row_id, entity_id, event_timestamp, uniform over entities
    spine_zipf.parquet          the same times, as skewed as the history

Keys are zipfian (s = 1), times uniform over 90 days, files in order of arrival; 2 % of the rows are corrections:
the entity and event time of another row, created later, other values. What is there is not made again.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Entities, rows of history, rows of spine.
SIZES = {
    "XS": (1_000, 20_000, 5_000),
    "S": (10_000, 1_000_000, 100_000),
    "M": (100_000, 10_000_000, 1_000_000),
    "L": (1_000_000, 50_000_000, 5_000_000),
}
SEED = 20261120
BEGIN = 1_767_225_600_000_000  # 2026-01-01 UTC in microseconds.
SPAN = 90 * 86_400_000_000
INSTANT = pa.timestamp("us", tz="UTC")
WORDS = np.array([f"cat_{number:03d}" for number in range(200)])
CHUNK = 5_000_000
ROW_GROUP = 250_000
LATE_SHARES = (1, 100)


class Zipf:
    """Keys of which the k-th most frequent is 1/k as frequent as the first, in an order of its own."""

    def __init__(self, count: int, random: np.random.Generator):
        share = 1.0 / np.arange(1, count + 1)
        self.cumulated = np.cumsum(share) / share.sum()
        self.order = random.permutation(count)
        self.count = count

    def draw(self, random: np.random.Generator, size: int) -> np.ndarray:
        place = np.searchsorted(self.cumulated, random.random(size))
        return self.order[np.minimum(place, self.count - 1)].astype(np.int64)


def features_chunk(random: np.random.Generator, zipf: Zipf, size: int, low: int, high: int) -> pa.Table:
    corrections = size // 50
    entity = zipf.draw(random, size - corrections)
    event = random.integers(low, high, size - corrections)
    corrected = random.integers(0, size - corrections, corrections)
    created = event + random.integers(0, 60_000_000, size - corrections)
    entity, event = np.concatenate([entity, entity[corrected]]), np.concatenate([event, event[corrected]])
    created = np.concatenate([created, created[corrected] + random.integers(1, 3_600_000_000, corrections)])
    order = np.argsort(created, kind="stable")
    columns = {
        "entity_id": entity[order],
        "event_timestamp": pa.array(event[order], INSTANT),
        "created_timestamp": pa.array(created[order], INSTANT),
    }
    for number in range(4):
        columns[f"f_float{number}"] = random.normal(100, 30, size)
    for number in range(4):
        columns[f"f_int{number}"] = random.integers(0, 10 ** (number + 2), size)
    for number in range(2):
        columns[f"f_str{number}"] = pa.array(WORDS[random.integers(0, 200, size)])
    return pa.table(columns)


def history_and_spines(size: str, folder: Path) -> None:
    entities, rows, asked = SIZES[size]
    random = np.random.default_rng(SEED)
    zipf = Zipf(entities, random)
    chunk = min(rows, CHUNK)
    chunks = rows // chunk
    writer = events = None
    for number in range(chunks):
        low, high = BEGIN + SPAN * number // chunks, BEGIN + SPAN * (number + 1) // chunks
        table = features_chunk(random, zipf, chunk, low, high)
        writer = writer or pq.ParquetWriter(folder / "features.parquet", table.schema, compression="zstd")
        writer.write_table(table, row_group_size=ROW_GROUP)
        at = np.sort(random.integers(low, high, chunk))
        table = pa.table({
            "entity_id": zipf.draw(random, chunk), "ts": pa.array(at, INSTANT),
            "amount": random.integers(1, 100_000, chunk), "category": random.integers(0, 50, chunk),
        })
        events = events or pq.ParquetWriter(folder / "events.parquet", table.schema, compression="zstd")
        events.write_table(table, row_group_size=ROW_GROUP)
    writer.close()
    events.close()
    event = random.integers(BEGIN, BEGIN + SPAN, asked)
    for name, entity in (("spine", random.integers(0, entities, asked)), ("spine_zipf", zipf.draw(random, asked))):
        table = pa.table({
            "row_id": np.arange(asked), "entity_id": entity, "event_timestamp": pa.array(event, INSTANT),
        })
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", row_group_size=ROW_GROUP)


def late(folder: Path, name: str, time: str, share: int) -> None:
    """A history with `available_at`: a late row is available up to a day after its event, others at it."""
    random = np.random.default_rng(SEED + share)
    source = pq.ParquetFile(folder / f"{name}.parquet")
    writer = None
    for batch in source.iter_batches(batch_size=ROW_GROUP):
        event = batch.column(time).cast(pa.int64()).to_numpy()
        late = random.random(len(event)) * 100 < share
        delay = np.where(late, random.integers(1, 86_400_000_000, len(event)), 0)
        table = pa.Table.from_batches([batch]).append_column("available_at", pa.array(event + delay, INSTANT))
        path = folder / f"{name}_late_{share}.parquet"
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=ROW_GROUP)
    writer.close()


def with_floats(folder: Path) -> None:
    """The events with amounts as floats."""
    table = pq.read_table(folder / "events.parquet")
    amount = table.column("amount").to_numpy() / 100
    table = table.set_column(table.schema.get_field_index("amount"), "amount", pa.array(amount))
    pq.write_table(table, folder / "events_float.parquet", compression="zstd", row_group_size=ROW_GROUP)


def generate(size: str, out: Path) -> Path:
    """The folder with the data of one size; made if it is not there."""
    folder = out / size
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "made-2"
    if not done.exists():
        history_and_spines(size, folder)
        if size != "L":
            for share in LATE_SHARES:
                late(folder, "features", "event_timestamp", share)
                late(folder, "events", "ts", share)
            with_floats(folder)
        done.touch()
    return folder


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", default="S", choices=SIZES)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    folder = generate(given.size, given.out)
    for path in sorted(folder.iterdir()):
        print(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
