"""What every runner shares: time, processor, memory, and a checksum that does not depend on the order of rows."""

import json
import os
import resource
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FLOATS = [f"f_float{number}" for number in range(4)]
INTEGERS = [f"f_int{number}" for number in range(4)]
STRINGS = [f"f_str{number}" for number in range(2)]
FEATURES = FLOATS + INTEGERS + STRINGS
KINDS = {**dict.fromkeys(FLOATS, "float"), **dict.fromkeys(INTEGERS, "integer"), **dict.fromkeys(STRINGS, "string")}
TTL_DAYS = 30
NULL = np.uint64(0x9E3779B97F4A7C15)


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, wrapping around."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def column_bits(column: pa.ChunkedArray, kind: str) -> tuple[np.ndarray, int]:
    column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):  # pandas turns a null into NaN.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    valid = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if kind == "string":
        encoded = column.cast(pa.string()).dictionary_encode()
        words = [zlib.crc32(word.encode()) for word in encoded.dictionary.to_pylist()] or [0]
        bits = np.array(words, dtype=np.uint64)[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    elif kind == "integer":
        whole = column.cast(pa.float64()).fill_null(0).cast(pa.int64())
        bits = whole.to_numpy(zero_copy_only=False).view(np.uint64)
    elif kind == "mean":  # Engines differ in the last digits of a quotient.
        rounded = np.round(column.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False) * 1e4)
        bits = rounded.astype(np.int64).view(np.uint64)
    elif kind == "presence":  # Only whether there is a value: the value itself is judged elsewhere.
        bits = np.zeros(len(column), np.uint64)
    else:
        bits = column.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    return np.where(valid, bits, NULL), int((~valid).sum())


def checksum(table: pa.Table, kinds: dict[str, str]) -> dict:
    """The sum over rows of a mix of row_id, column and value: equal if and only if the answers are."""
    row = table["row_id"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.uint64)
    total, nulls = np.uint64(0), 0
    with np.errstate(over="ignore"):
        for number, (name, kind) in enumerate(kinds.items()):
            bits, missing = column_bits(table[name], kind)
            nulls += missing
            total += mixed(bits + mixed(row * np.uint64(1000003) + np.uint64(number))).sum(dtype=np.uint64)
    return {"rows": table.num_rows, "null_cells": nulls, "checksum": f"{int(total):016x}"}


def measured(run: Callable[[], object], who: int = resource.RUSAGE_SELF) -> tuple[object, dict]:
    """Runs once: seconds on the wall and of all threads, the greatest memory, the load before."""
    load = os.getloadavg()[0]
    before, begun = resource.getrusage(who), time.perf_counter()
    result = run()
    wall, after = time.perf_counter() - begun, resource.getrusage(who)
    if answered := os.environ.get("ANSWERED"):
        Path(answered).touch()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result, {
        "wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "peak_mib": round(after.ru_maxrss / 1024),
        "load": round(load, 2),
    }


def duckdb_query(sql: str) -> Callable[[], pa.Table]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return lambda: connection.sql(sql).to_arrow_table()


def asof(binary: Path, project: Path, spine: Path, question: str) -> tuple[pa.Table, dict]:
    """The binary, as a user runs it, in a project `run.py` has applied."""
    with tempfile.TemporaryDirectory(dir=spine.parent) as folder:
        out = Path(folder) / "train.parquet"
        command = [binary, "train", "bench", "--project", project, "--spine", spine, "--out", out,
                   "--time", "event_timestamp", "--question", question]
        _, values = measured(
            lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), resource.RUSAGE_CHILDREN
        )
        return pq.read_table(out), values


def record(path: Path, values: dict) -> None:
    """One line of JSON per measurement, so that a stopped run keeps what it has."""
    with open(path, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(values) + "\n")
