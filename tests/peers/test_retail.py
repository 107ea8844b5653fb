"""A shop's nine months: that DuckDB and Python still answer what the live replay is held against, and that rows which
are loaded answer the same."""

import importlib.util

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from conftest import ROOT

FOLDER = ROOT / "tests" / "data" / "online_retail_uci"
ASKED = ["question", "asked_at", "customer_id", "stock_code"]


def converter():
    spec = importlib.util.spec_from_file_location("convert_retail", FOLDER / "convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONVERT = converter()
LINES = pq.read_table(FOLDER / "lines.parquet")
ANSWERS = pq.read_table(FOLDER / "answers.parquet")


def test_the_lines_are_what_the_replay_says() -> None:
    """Cancellations, lines without customer, many lines of one minute; each line withdrawn once, by a later one."""
    assert LINES["line"].to_pylist() == list(range(1, 320_706))
    assert LINES["customer_id"].null_count == 88_652
    assert pc.count_distinct(LINES["at"]).as_py() == 14_877
    cancelling = LINES.filter(pc.is_valid(LINES["cancels"]))
    assert cancelling.num_rows == pc.count_distinct(cancelling["cancels"]).as_py() == 1_617
    assert pc.all(pc.starts_with(cancelling["invoice"], "C")).as_py()
    assert pc.all(pc.less(cancelling["cancels"], cancelling["line"])).as_py()
    assert CONVERT.cancelled(LINES).equals(LINES["cancels"].combine_chunks())


def test_the_answers_are_what_duckdb_says() -> None:
    questions = ANSWERS.select(ASKED)
    again = CONVERT.answers_of(LINES, questions)
    assert again.column_names == ANSWERS.column_names
    for name in again.column_names:
        assert again[name].to_pylist() == ANSWERS[name].to_pylist(), name
    # They say something: of each feature there are answers that differ.
    for name in again.column_names:
        assert pc.count_distinct(again[name]).as_py() > 1, name
    # What a cancellation withdraws and what it takes back are two readings.
    both = pc.and_(pc.is_valid(again["kept_30d"]), pc.not_equal(again["kept_lines_30d"], again["lines_30d"]))
    assert pc.sum(both).as_py() > 10


def test_lines_that_are_loaded_answer_the_same(project) -> None:
    """Loaded, a line is known from its own minute on, in the order of the file."""
    project.write("features/shop.yaml", (FOLDER / "definitions.yaml").read_text(encoding="utf-8"))
    project.apply()
    project.write("lines.parquet", LINES.drop_columns(["cancels"]))
    kept = LINES.select(["invoice", "stock_code", "quantity", "at", "customer_id"])
    kept = kept.append_column("line", pc.coalesce(LINES["cancels"], LINES["line"]))
    project.write("kept.parquet", kept.append_column("gone", pc.is_valid(LINES["cancels"])))
    for source in ("lines", "kept"):
        project.asof("load", source, f"{source}.parquet")
    ours = project.train("shop", ANSWERS.select(ASKED))
    assert ours.column_names == ANSWERS.column_names
    for name in ours.column_names:
        assert ours[name].to_pylist() == ANSWERS[name].to_pylist(), name
