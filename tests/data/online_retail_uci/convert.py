"""Makes `lines.parquet` of the daily files, and `answers.parquet`: questions asked of them, answered by DuckDB and Python.

    python convert.py dev_2010-12_to_2011-08.tar.gz

How a cancellation is read: its invoice starts with C and its quantity is negative. It names no line of another invoice.
So a line of it is an event of its own, which takes back what it says from its own minute on; sums are net of it. That
is what source `lines` holds. Source `kept` holds the other reading: where the customer bought just so many of the thing
at this price before, the last such line that stands is withdrawn (`cancels`), as if it had never been from that minute
on; where there is none, the cancellation is a line of its own.
"""

import io
import math
import sys
import tarfile
from collections import defaultdict
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent
INSTANT = pa.timestamp("us", tz="UTC")
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE
LENGTHS = {"1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}


def lines_of(archive: Path) -> pa.Table:
    """All lines, numbered by minute and, within it, as they stand in the day's file."""
    types = {"InvoiceNo": pa.string(), "StockCode": pa.string(), "Description": pa.string(), "Quantity": pa.int64(),
             "InvoiceDate": pa.timestamp("us"), "UnitPrice": pa.float64(), "CustomerID": pa.float64(),
             "Country": pa.string()}
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    with tarfile.open(archive) as tar:
        days = sorted(name for name in tar.getnames() if name.endswith(".csv"))
        files = [pyarrow.csv.read_csv(io.BytesIO(tar.extractfile(day).read()), convert_options=options) for day in days]
    raw = pa.concat_tables(files)
    at = pc.assume_timezone(raw["InvoiceDate"], "UTC").cast(INSTANT)
    raw = raw.take(pa.array(np.argsort(at.cast(pa.int64()).to_numpy(), kind="stable")))
    table = pa.table({
        "line": pa.array(range(1, raw.num_rows + 1), pa.int64()),
        "invoice": raw["InvoiceNo"], "stock_code": raw["StockCode"], "description": raw["Description"],
        "quantity": raw["Quantity"], "at": pc.assume_timezone(raw["InvoiceDate"], "UTC").cast(INSTANT),
        "unit_price": raw["UnitPrice"], "customer_id": raw["CustomerID"].cast(pa.int64()), "country": raw["Country"],
    })
    return table.append_column("cancels", cancelled(table))


def cancelled(lines: pa.Table) -> pa.Array:
    """The line that each line withdraws, null for most."""
    standing, found = defaultdict(list), []
    columns = [lines[name].to_pylist() for name in ("line", "invoice", "customer_id", "stock_code", "unit_price", "quantity")]
    for line, invoice, customer, code, price, quantity in zip(*columns):
        withdrawn = None
        if customer is not None and invoice.startswith("C"):
            bought = standing[customer, code, price, -quantity]
            withdrawn = bought.pop() if bought else None
        elif customer is not None:
            standing[customer, code, price, quantity].append(line)
        found.append(withdrawn)
    return pa.array(found, pa.int64())


def questions_of(lines: pa.Table) -> pa.Table:
    """Twice a day some customers and things: at a minute in which there are lines, and when the day is over."""
    random = np.random.default_rng(352)
    at = lines["at"].cast(pa.int64()).to_numpy()
    customers, codes = lines["customer_id"].to_pylist(), lines["stock_code"].to_pylist()
    minutes = set(at.tolist())
    asked = []
    for day in sorted(set((at // DAY).tolist())):
        of_day = sorted({minute for minute in minutes if minute // DAY == day})
        # Where there is one, a minute just as far from another as a window is long: lines on its lower edge.
        edges = [minute for minute in of_day if sum(minute - length in minutes for length in LENGTHS.values()) > 1]
        noon = edges[len(edges) // 2] if edges else of_day[len(of_day) // 2]
        for t in (noon, (day + 1) * DAY - 1):
            past, now = np.searchsorted(at, t, "right"), np.searchsorted(at, day * DAY)
            rows = [past - 1, random.integers(now, past), random.integers(0, past)]
            rows += [int(row) for length in LENGTHS.values() for row in np.flatnonzero(at == t - length)[-1:]]
            asked += [(t, customers[row], codes[row]) for row in rows]
            asked.append((t, 99_999, codes[random.integers(0, len(codes))]))
    asked = list(dict.fromkeys(asked))
    t, customer, code = zip(*asked)
    return pa.table({"question": pa.array(range(len(asked)), pa.int64()), "asked_at": pa.array(t, pa.int64()).cast(INSTANT),
                     "customer_id": pa.array(customer, pa.int64()), "stock_code": pa.array(code, pa.string())})


def answers_of(lines: pa.Table, questions: pa.Table) -> pa.Table:
    """The questions with a column per feature of the service `shop`."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("lines", lines)
    connection.register("questions", questions)
    # What the second reading leaves at a time: lines that withdraw none, until another withdraws them.
    connection.execute("""CREATE TABLE kept AS SELECT l.*, c.at AS until FROM lines l
                          LEFT JOIN lines c ON c.cancels = l.line WHERE l.cancels IS NULL""")
    answers: dict[str, pa.Array] = {}

    def windows(key: str, table: str, standing: str, columns: dict[str, str]) -> None:
        found = {}
        for suffix in LENGTHS:
            length = suffix.replace("d", " DAY")
            selected = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
            found[suffix] = connection.sql(f"""
                SELECT q.question, {selected} FROM questions q LEFT JOIN {table} l
                  ON l.{key} = q.{key} AND l.at >= q.asked_at - INTERVAL {length} AND l.at < q.asked_at {standing}
                GROUP BY q.question ORDER BY q.question""").to_arrow_table()
        answers.update({f"{name}_{suffix}": found[suffix][name] for name in columns for suffix in LENGTHS})

    def latest(key: str, table: str, standing: str, columns: dict[str, str]) -> None:
        found = connection.sql(f"""
            WITH last AS (SELECT q.question, max(l.line) AS line FROM questions q JOIN {table} l
                            ON l.{key} = q.{key} AND l.at <= q.asked_at {standing} GROUP BY q.question)
            SELECT {', '.join(f'l.{column} AS {name}' for name, column in columns.items())} FROM questions q
              LEFT JOIN last USING (question) LEFT JOIN lines l ON l.line = last.line
            ORDER BY q.question""").to_arrow_table()
        answers.update({name: found[name] for name in columns})

    windows("customer_id", "lines", "", {
        "lines": "count(l.line)", "invoices": "count(DISTINCT l.invoice)",
        "taken_back": "count(l.line) FILTER (WHERE l.quantity < 0)",
        # Each product is rounded once; their sum is the exact one rounded once, which is what `fsum` gives.
        "spent": "list(l.quantity * l.unit_price) FILTER (WHERE l.line IS NOT NULL)",
        "largest": "max(l.quantity * l.unit_price)",
    })
    latest("customer_id", "lines", "", {
        "last_invoice": "invoice", "last_thing": "stock_code", "last_quantity": "quantity", "country": "country"})
    windows("stock_code", "lines", "", {
        "sold": "sum(l.quantity)::BIGINT", "sales": "count(l.line)", "customers": "count(DISTINCT l.customer_id)",
        "dearest": "max(l.unit_price)"})
    latest("stock_code", "lines", "", {"last_price": "unit_price", "last_buyer": "customer_id"})
    standing = "AND (l.until IS NULL OR l.until > q.asked_at)"
    windows("customer_id", "kept", standing, {
        "kept": "sum(l.quantity)::BIGINT", "kept_lines": "count(l.line)", "kept_things": "count(DISTINCT l.stock_code)",
        "largest_kept": "max(l.quantity)"})
    latest("customer_id", "kept", standing, {"last_kept_invoice": "invoice", "last_kept_thing": "stock_code"})
    for suffix in LENGTHS:
        sums = [None if values is None else math.fsum(values) for values in answers[f"spent_{suffix}"].to_pylist()]
        answers[f"spent_{suffix}"] = pa.array(sums, pa.float64())
        # There is one zero.
        answers[f"largest_{suffix}"] = pc.add(answers[f"largest_{suffix}"], 0.0)
    # Of a key that is null nothing is known: not even that there is nothing.
    without = pc.is_null(questions["customer_id"])
    of_customer = [name for name in answers if name.rsplit("_", 1)[0] in
                   {"lines", "invoices", "taken_back", "kept_lines", "kept_things"}]
    for name in of_customer:
        answers[name] = pc.if_else(without, pa.scalar(None, pa.int64()), answers[name])
    return pa.table({**{name: questions[name] for name in questions.column_names}, **answers})


def main() -> None:
    lines = lines_of(Path(sys.argv[1]))
    pq.write_table(lines, FOLDER / "lines.parquet", compression="zstd", compression_level=19)
    answers = answers_of(lines, questions_of(lines))
    pq.write_table(answers, FOLDER / "answers.parquet", compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
