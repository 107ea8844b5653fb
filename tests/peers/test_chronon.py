"""The quickstart of Chronon: its purchases, returns and users, asked at its checkouts, offline and online.

Its definitions are read as they are meant: sums, counts and averages over 3, 14 and 30 days, the last ten purchases and
the last two returns of all time, and users as of the end of the day of their snapshot.
"""

from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest

from conftest import DATA

FOLDER = DATA / "chronon_quickstart"
INSTANT = pa.timestamp("us", tz="UTC")
DAYS = (3, 14, 30)
# The view, its column, and how many of the last ones there are.
EVENTS = {"purchases": ("purchase_price", 10), "returns": ("refund_amt", 2)}


def table(name: str) -> pa.Table:
    read = pyarrow.csv.read_csv(FOLDER / f"{name}.csv")
    if "ts" in read.column_names:
        return read.append_column("at", pc.cast(read["ts"], pa.timestamp("ms", tz="UTC")).cast(INSTANT))
    known = pc.add(pc.cast(read["ds"], pa.timestamp("us")), pa.scalar(timedelta(days=1)))
    return read.append_column("at", pc.assume_timezone(known, "UTC").cast(INSTANT))


def definitions(pushed: bool) -> str:
    documents = ["entity: user\nkeys: {user_id: int64}"]
    for name, (column, many) in EVENTS.items():
        place = f"path: data/{name}.csv"
        if pushed:
            keys = f"ds: date, ts: int64, {name[:-1]}_id: string, user_id: int64, product_id: int64, {column}: int64"
            place = f"push: true\nschema: {{{keys}}}"
        documents.append(f"source: {name}\n{place}\nevent_time: {{column: ts, unit: ms}}")
        documents.append(f"""view: {name}
entity: user
source: {name}
history: all
windows: [3d, 14d, 30d]
features:
  {column}_sum: {{agg: sum({column})}}
  {column}_count: {{agg: count({column})}}
  {column}_average: {{agg: mean({column})}}
  {column}_last{many}: {{agg: "last_n({column}, {many})", windows: [all]}}""")
    documents.append("source: users\npath: data/users.parquet\nevent_time: at")
    documents.append("view: users\nentity: user\nsource: users\nhistory: all\nfeatures: [account_created_ds, email_verified]")
    documents.append("service: training_set\nfeatures: [purchases.*, returns.*, users.*]")
    return "\n---\n".join(documents)


def reckoned(spine: pa.Table) -> dict[str, list]:
    """Every feature of every spine row, row by row in plain Python."""
    answers: dict[str, list] = {}
    events = {name: sorted(zip(*(table(name)[c].to_pylist() for c in ("at", "user_id", column))))
              for name, (column, _) in EVENTS.items()}
    users = {row["user_id"]: row for row in table("users").to_pylist()}
    for asked in spine.to_pylist():
        row = {}
        for name, (column, many) in EVENTS.items():
            own = [(at, value) for at, user, value in events[name] if user == asked["user_id"] and at < asked["at"]]
            held = {f"{days}d": [value for at, value in own if at >= asked["at"] - timedelta(days=days)] for days in DAYS}
            row |= {f"{column}_sum_{window}": sum(values) if values else None for window, values in held.items()}
            row |= {f"{column}_count_{window}": len(values) for window, values in held.items()}
            # Of whole numbers: the exact quotient, rounded once.
            row |= {f"{column}_average_{window}": sum(values) / len(values) if values else None
                    for window, values in held.items()}
            row[f"{column}_last{many}_all"] = [value for _, value in own[-many:]] or None
        user = users.get(asked["user_id"])
        known = user is not None and user["at"] <= asked["at"]
        row |= {name: user[name] if known else None for name in ("account_created_ds", "email_verified")}
        for name, value in row.items():
            answers.setdefault(name, []).append(value)
    return answers


def spine() -> pa.Table:
    """The checkouts, each also at edges of the windows of a purchase of its user."""
    checkouts = table("checkouts")
    purchases = table("purchases").to_pylist()
    rows = [(row["user_id"], row["at"]) for row in checkouts.to_pylist()]
    for number, purchase in enumerate(purchases[::5]):
        edge = purchase["at"] + timedelta(days=DAYS[number % 3], microseconds=number % 2)
        rows += [(purchase["user_id"], edge), (purchase["user_id"], purchase["at"])]
    users, at = zip(*rows)
    return pa.table({"row": range(len(rows)), "user_id": pa.array(users, pa.int64()), "at": pa.array(at, INSTANT)})


@pytest.fixture(params=[False, True], ids=["in_place", "pushed"])
def quickstart(request, project):
    project.write("features/quickstart.yaml", definitions(request.param))
    project.write("data/users.parquet", table("users"))
    for name in EVENTS:
        project.write(f"data/{name}.csv", (FOLDER / f"{name}.csv").read_text(encoding="utf-8"))
    project.apply()
    if request.param:
        for name in EVENTS:
            project.asof("load", name, f"data/{name}.csv")
    return project


def test_offline_and_online_are_what_is_reckoned(quickstart) -> None:
    asked = spine()
    expected = reckoned(asked)
    ours = quickstart.train("training_set", asked)
    assert ours.column_names == [*asked.column_names, *expected]
    for name, values in expected.items():
        assert ours[name].to_pylist() == values, name
        assert len({str(value) for value in values}) > 1, f"{name} says something"
    quickstart.asof("materialize")
    with quickstart.up() as node:
        # All users of one instant are asked at once.
        instants: dict[datetime, list[int]] = {}
        for row in asked.to_pylist():
            instants.setdefault(row["at"], []).append(row["row"])
        for at, rows in instants.items():
            body = {
                "service": "training_set", "entities": {"user_id": asked["user_id"].take(rows).to_pylist()},
                "as_of": at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }
            for column in node.features(body)["columns"]:
                wire = lambda value: value.isoformat() if hasattr(value, "isoformat") else value  # noqa: E731
                said = [wire(expected[column["name"]][row]) for row in rows]
                assert column["values"] == said, (column["name"], body)
