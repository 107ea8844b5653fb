"""The listings example: that its made-up instants are the same everywhere and say nothing."""

import importlib.util

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq

from conftest import ROOT

FOLDER = ROOT / "examples" / "listings"


def converter():
    spec = importlib.util.spec_from_file_location("convert_listings", FOLDER / "convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_files_hold_what_the_readme_says() -> None:
    listings = pq.read_table(FOLDER / "data" / "listings.parquet").to_pandas()
    postings = pq.read_table(FOLDER / "data" / "postings.parquet").to_pandas()
    clusters = pyarrow.csv.read_csv(FOLDER / "data" / "clusters.csv").to_pandas()
    assert (len(listings), len(postings), len(clusters)) == (35_311, 35_311, 13_233)
    assert listings["merchant_id"].nunique() == 306 and listings["category"].nunique() == 10
    assert not clusters.duplicated("cluster_id").any()
    assert "category" not in clusters.columns
    assert listings["listing_id"].tolist() == postings["listing_id"].tolist()
    assert listings["category"].tolist() == postings["category_to_guess"].tolist()


def test_the_instants_come_from_the_number_alone() -> None:
    convert = converter()
    listings = pq.read_table(FOLDER / "data" / "listings.parquet").to_pandas()
    micros = lambda column: column.astype("datetime64[us, UTC]").astype("int64").to_numpy()  # noqa: E731
    number = listings["listing_id"].to_numpy()
    assert (micros(listings["posted_at"]) == convert.posted_at(number)).all()
    assert (micros(listings["reviewed_at"]) == convert.reviewed_at(number)).all()
    # The mixing function is fixed: this would fail if it ever gave other instants.
    assert convert.posted_at(np.array([1])).tolist() == [1_717_246_400_822_465]
    wait = listings["reviewed_at"] - listings["posted_at"]
    assert wait.min().total_seconds() >= 3600 and wait.max().total_seconds() < 73 * 3600


def test_the_instants_say_nothing_about_the_category() -> None:
    """Rows of the table are sorted by category; the made-up times are not: each month has every category in
    about its share."""
    listings = pq.read_table(FOLDER / "data" / "listings.parquet").to_pandas()
    share = listings["category"].value_counts(normalize=True)
    by_month = listings.groupby(listings["posted_at"].dt.month)["category"].value_counts(normalize=True)
    assert len(by_month) == 12 * 10
    for (_, category), part in by_month.items():
        assert abs(part - share[category]) < 0.03


def test_a_merchant_is_not_told_its_own_listing(example) -> None:
    """Under *known* a listing is never its own history: its category is known an hour later at the least."""
    project = example("listings")
    known = project.train("category_model", "data/postings.parquet").to_pandas()
    event = project.train("category_model", "data/postings.parquet", "--question", "event").to_pandas()
    # Under *event* each listing answers for itself: the feature is the label.
    assert (event["merchant_category"] == event["category_to_guess"]).mean() > 0.999
    assert (event["product_category"] == event["category_to_guess"]).mean() > 0.999
    guessed = known["merchant_category"].notna()
    right = (known["merchant_category"] == known["category_to_guess"])[guessed].mean()
    assert 0.2 < right < 0.9
    assert known["product_name"].notna().all()
