"""Makes the listings example's files from the PriceRunner table.

    python examples/listings/convert.py pricerunner_aggregate.csv.gz [examples/listings/data]

The table has no clock. Its row order is no time either: rows are sorted by category, so an order read as
time would give the answer away, and so would the listing's number. The instants below are therefore
**made up**, from the listing's number alone by a fixed mixing function, and hold no information about it.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ["listing_id", "title", "merchant_id", "cluster_id", "cluster", "category_id", "category"]
INSTANT = pa.timestamp("us", tz="UTC")
# The made-up year in which the listings are posted: 2024, in microseconds.
BEGIN = int(pd.Timestamp("2024-01-01", tz="UTC").value // 1000)
YEAR = 366 * 86_400_000_000
# A person gives a listing its category between one and 72 hours after it was posted.
LEAST_REVIEW, MOST_REVIEW = 3_600_000_000, 72 * 3_600_000_000


def mix(numbers: np.ndarray, salt: int) -> np.ndarray:
    """splitmix64 of the number: the same on every machine, and no two salts are alike."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def posted_at(listing: np.ndarray) -> np.ndarray:
    """When a listing was posted, in microseconds: made up, spread evenly over the year."""
    return BEGIN + (mix(listing, 1) % np.uint64(YEAR)).astype(np.int64)


def reviewed_at(listing: np.ndarray) -> np.ndarray:
    """When its category was given, in microseconds: made up, one to 72 hours after it was posted."""
    wait = mix(listing, 2) % np.uint64(MOST_REVIEW - LEAST_REVIEW)
    return posted_at(listing) + LEAST_REVIEW + wait.astype(np.int64)


def listings_table(rows: pd.DataFrame) -> pa.Table:
    """The history: every listing with its category, known once it was reviewed; in the order of posting."""
    number = rows["listing_id"].to_numpy()
    table = pa.table({
        "listing_id": pa.array(number, pa.int32()),
        "posted_at": pa.array(posted_at(number), INSTANT),
        "reviewed_at": pa.array(reviewed_at(number), INSTANT),
        "merchant_id": pa.array(rows["merchant_id"], pa.int32()),
        "cluster_id": pa.array(rows["cluster_id"], pa.int32()),
        "title": pa.array(rows["title"], pa.string()),
        "category": pa.array(rows["category"], pa.string()),
    })
    return table.sort_by([("posted_at", "ascending"), ("listing_id", "ascending")])


def clusters_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Facts about products, without a clock: one row per cluster. Its category is left out: it is the answer."""
    return rows.sort_values("cluster_id").drop_duplicates("cluster_id")[["cluster_id", "cluster"]]


def main() -> None:
    rows = pd.read_csv(sys.argv[1], header=None, names=COLUMNS, keep_default_na=False)
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "data"
    out.mkdir(parents=True, exist_ok=True)
    listings = listings_table(rows)
    pq.write_table(listings, out / "listings.parquet", compression="zstd", compression_level=19)
    spine = listings.select(["listing_id", "posted_at", "merchant_id", "cluster_id", "category"])
    # The label has a name of its own: `category` is what the history says of other listings.
    spine = spine.rename_columns(["listing_id", "posted_at", "merchant_id", "cluster_id", "category_to_guess"])
    pq.write_table(spine, out / "postings.parquet", compression="zstd", compression_level=19)
    clusters_table(rows).to_csv(out / "clusters.csv", index=False, lineterminator="\n")
    for path in sorted(out.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
