"""The flights example: its conversion choice by choice, and its training set against DuckDB."""

import importlib.util
import io
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import ROOT

FOLDER = ROOT / "examples" / "flights"


def converter():
    spec = importlib.util.spec_from_file_location("convert_flights", FOLDER / "convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONVERT = converter()
ZONES = CONVERT.zones_of(pd.DataFrame({
    "faa": ["LAX", "HNL", "BOS", "PHX"],
    "tzone": ["America/Los_Angeles", "Pacific/Honolulu", "America/New_York", "America/Phoenix"],
}))
HEAD = ("year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,"
        "carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour\n")


def row(date: str, times: str, dest: str, air_time: str, distance: int, hour: str) -> pd.DataFrame:
    dep, sched, delay, arr = times.split()
    text = (f"{date.replace('-', ',')},{dep},{sched},{delay},{arr},0,0,"
            f"UA,1,N1,JFK,{dest},{air_time},{distance},0,0,{hour}\n")
    return pd.read_csv(io.StringIO(HEAD + text), keep_default_na=False, na_values=["NA", ""])


@pytest.mark.parametrize(("what", "flight", "scheduled", "left", "landed"), [
    ("a winter day, to the west",
     row("2013-1-1", "900 900 0 1225", "LAX", "350", 2475, "2013-01-01T14:00:00Z"),
     "2013-01-01T14:00", "2013-01-01T14:00", "2013-01-01T20:25"),
    ("a summer day: daylight saving at both ends",
     row("2013-7-1", "859 900 -1 1150", "LAX", "330", 2475, "2013-07-01T13:00:00Z"),
     "2013-07-01T13:00", "2013-07-01T12:59", "2013-07-01T18:50"),
    ("Phoenix and Honolulu keep standard time",
     row("2013-7-1", "1000 1000 0 1435", "HNL", "620", 4983, "2013-07-01T14:00:00Z"),
     "2013-07-01T14:00", "2013-07-01T14:00", "2013-07-02T00:35"),
    ("it leaves at 2400: the midnight that ends the day",
     row("2013-1-1", "2400 2359 1 345", "BOS", "210", 1576, "2013-01-02T04:00:00Z"),
     "2013-01-02T04:59", "2013-01-02T05:00", "2013-01-02T08:45"),
    ("it lands at 2400",
     row("2013-1-1", "2300 2300 0 2400", "BOS", "40", 187, "2013-01-02T04:00:00Z"),
     "2013-01-02T04:00", "2013-01-02T04:00", "2013-01-02T05:00"),
    ("a delay carries it over midnight, into the next day",
     row("2013-1-1", "30 2200 150 130", "BOS", "40", 187, "2013-01-02T03:00:00Z"),
     "2013-01-02T03:00", "2013-01-02T05:30", "2013-01-02T06:30"),
    ("Puerto Rico is missing from the airports: Atlantic time, no daylight saving",
     row("2013-1-1", "544 545 -1 1004", "BQN", "183", 1576, "2013-01-01T10:00:00Z"),
     "2013-01-01T10:45", "2013-01-01T10:44", "2013-01-01T14:04"),
    ("in the air while the clocks go forward",
     row("2013-3-10", "130 130 0 435", "BOS", "100", 500, "2013-03-10T06:00:00Z"),
     "2013-03-10T06:30", "2013-03-10T06:30", "2013-03-10T08:35"),
    ("in the air while the clocks go back: the hour happens twice, the second run is meant",
     row("2013-11-3", "30 30 0 120", "BOS", "80", 500, "2013-11-03T04:00:00Z"),
     "2013-11-03T04:30", "2013-11-03T04:30", "2013-11-03T06:20"),
    ("diverted, and in the end arrived: no air_time",
     row("2013-1-1", "900 900 0 1130", "LAX", "NA", 2475, "2013-01-01T14:00:00Z"),
     "2013-01-01T14:00", "2013-01-01T14:00", "2013-01-01T19:30"),
    ("cancelled: neither left nor landed",
     row("2013-1-1", "NA 900 NA NA", "LAX", "NA", 2475, "2013-01-01T14:00:00Z"),
     "2013-01-01T14:00", None, None),
    ("left and never arrived",
     row("2013-1-1", "900 900 0 NA", "LAX", "NA", 2475, "2013-01-01T14:00:00Z"),
     "2013-01-01T14:00", "2013-01-01T14:00", None),
], ids=lambda it: it.replace(" ", "-") if isinstance(it, str) and " " in it else "")
def test_every_clock_becomes_an_instant(what, flight, scheduled, left, landed) -> None:
    instant = lambda text: None if text is None else pd.Timestamp(text, tz="UTC")  # noqa: E731
    found = CONVERT.scheduled_instant(flight)
    departed = CONVERT.departure_instant(flight, found)
    arrived = CONVERT.arrival_instant(flight, departed, ZONES)
    assert found[0] == instant(scheduled), what
    for got, expected in ((departed[0], instant(left)), (arrived[0], instant(landed))):
        assert (pd.isna(got) and expected is None) or got == expected, what


def test_a_row_whose_clocks_disagree_is_refused() -> None:
    wrong_hour = row("2013-1-1", "900 900 0 1225", "LAX", "350", 2475, "2013-01-01T15:00:00Z")
    with pytest.raises(ValueError, match="time_hour differs"):
        CONVERT.scheduled_instant(wrong_hour)
    wrong_clock = row("2013-1-1", "905 900 0 1225", "LAX", "350", 2475, "2013-01-01T14:00:00Z")
    with pytest.raises(ValueError, match="dep_time differs"):
        CONVERT.departure_instant(wrong_clock, CONVERT.scheduled_instant(wrong_clock))


def test_the_committed_files_hold_what_the_readme_says() -> None:
    spine = pq.read_table(FOLDER / "data" / "departures.parquet")
    flights = pq.read_table(FOLDER / "data" / "flights.parquet")
    weather = pq.read_table(FOLDER / "data" / "weather.parquet").to_pandas()
    planes = pq.read_table(FOLDER / "data" / "planes.parquet").to_pandas()
    assert (spine.num_rows, flights.num_rows, len(weather), len(planes)) == (336_776, 336_776, 26_115, 3_322)
    assert spine["flight_id"].to_pylist() == flights["flight_id"].to_pylist() == list(range(1, 336_777))
    assert spine["late"].null_count == 8_255
    assert spine["tailnum"].null_count == flights["tailnum"].null_count == 2_512
    assert flights["arrived_at"].null_count == 8_713
    assert flights["left_at"].null_count == spine["scheduled_at"].null_count == 0
    # The label is the delay of the flight itself, in the history.
    assert pc.greater(flights["dep_delay"], 15).to_pylist() == spine["late"].to_pylist()
    # One hour of weather once per airport, also where the clocks go back; planes once each.
    assert not weather.duplicated(["origin", "observed_at"]).any()
    assert not planes.duplicated("tailnum").any()
    size = sum(path.stat().st_size for path in (FOLDER / "data").iterdir())
    assert size <= 8 * 1024 * 1024


def test_flights_land_after_the_time_they_flew() -> None:
    flights = pq.read_table(FOLDER / "data" / "flights.parquet").to_pandas()
    flown = flights[flights["air_time"].notna()]
    assert len(flown) == 327_346
    on_the_ground = (flown["arrived_at"] - flown["left_at"]).dt.total_seconds() / 60 - flown["air_time"]
    # What is not in the air is taxiing: always something, and hardly ever over three hours.
    assert on_the_ground.min() > 0
    assert (on_the_ground <= 180).mean() > 0.999
    assert 20 <= on_the_ground.median() <= 40
    # The two delays are of one flight: it lands as much later than planned as its clocks say.
    planned = flown["arrived_at"] - pd.to_timedelta(flown["arr_delay"], unit="m")
    assert (planned > flown["left_at"] - pd.to_timedelta(flown["dep_delay"], unit="m")).all()
    diverted = flights[flights["air_time"].isna() & flights["arrived_at"].notna()]
    assert len(diverted) == 717
    assert ((diverted["arrived_at"] - diverted["left_at"]) < pd.Timedelta(days=1, hours=12)).all()


def test_the_year_is_new_yorks() -> None:
    spine = pq.read_table(FOLDER / "data" / "departures.parquet").to_pandas()
    zone = ZoneInfo("America/New_York")
    assert spine["scheduled_at"].min() >= datetime(2013, 1, 1, tzinfo=zone)
    assert spine["scheduled_at"].max() < datetime(2014, 1, 1, tzinfo=zone)


PREVIOUS = """
    SELECT s.flight_id,
           arg_max(struct_pack(id := f.flight_id, dep := f.dep_delay, arr := f.arr_delay, went := f.dest),
                   struct_pack(e := f.left_at, v := coalesce(f.arrived_at, TIMESTAMPTZ '9999-01-01'), id := f.flight_id)) AS previous
    FROM spine s JOIN flights f ON s.tailnum = f.tailnum AND f.left_at <= s.scheduled_at {known}
    GROUP BY s.flight_id"""


@pytest.mark.parametrize("question", ["known", "event"])
def test_every_training_row_is_what_duckdb_says(example, question: str) -> None:
    """All 336,776 rows, all three views, against joins written out in SQL."""
    ours = example("flights").train("late_departure", "data/departures.parquet", "--question", question)
    spine = pq.read_table(FOLDER / "data" / "departures.parquet")
    assert ours["flight_id"].to_pylist() == spine["flight_id"].to_pylist()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name, file in {"spine": "departures", "flights": "flights", "weather": "weather", "planes": "planes"}.items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{FOLDER}/data/{file}.parquet')")
    known = "AND f.arrived_at <= s.scheduled_at" if question == "known" else ""
    theirs = connection.sql(f"""
        WITH p AS ({PREVIOUS.format(known=known)}),
        w AS (SELECT s.flight_id, s.scheduled_at - w.observed_at <= INTERVAL 3 HOUR AS fresh, w.*
              FROM spine s ASOF LEFT JOIN weather w ON s.origin = w.origin AND s.scheduled_at >= w.observed_at)
        SELECT CASE WHEN w.fresh THEN w.temp END AS temperature, CASE WHEN w.fresh THEN w.visib END AS visibility,
               planes.model, planes.seats, p.previous.dep AS departure_delay, p.previous.arr AS arrival_delay,
               p.previous.dep > 15 AS left_late, p.previous.went AS went_to
        FROM spine s LEFT JOIN p USING (flight_id) LEFT JOIN w USING (flight_id) LEFT JOIN planes USING (tailnum)
        ORDER BY s.flight_id""").to_arrow_table()
    for name in theirs.column_names:
        mine, other = ours[name].to_pylist(), theirs[name].to_pylist()
        wrong = [place for place, (a, b) in enumerate(zip(mine, other)) if a != b]
        assert not wrong, f"{name} differs in {len(wrong)} rows, first {wrong[0] + 1}"


WINDOWS = {
    # Prefix of the features, key, length, and what each feature is in SQL.
    "origin": ("origin", {"1h": "1 HOUR", "3h": "3 HOUR", "1d": "1 DAY"}, {
        "departures": "count(*)", "left_late": "count(*) FILTER (WHERE f.dep_delay > 15)",
        "mean_delay": "avg(f.dep_delay)", "worst_delay": "max(f.dep_delay)",
    }),
    "carrier": ("carrier", {"7d": "7 DAY"}, {"mean_arrival_delay": "avg(f.arr_delay)"}),
    "plane": ("tailnum", {"30d": "30 DAY"}, {"destinations": "count(DISTINCT f.dest)"}),
}


@pytest.mark.parametrize("question", ["known", "event"])
def test_windows_are_what_duckdb_says(example, question: str) -> None:
    """All rows trained on; one in two hundred against range joins written out in SQL."""
    ours = example("flights").train("delays_lately", "data/departures.parquet", "--question", question)
    ours = ours.append_column("row", pa.array(range(ours.num_rows))).take(list(range(7, ours.num_rows, 200)))
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("spine", ours.select(["row", "scheduled_at", "origin", "carrier", "tailnum"]))
    connection.execute(f"CREATE VIEW flights AS SELECT * FROM read_parquet('{FOLDER}/data/flights.parquet')")
    known = "AND f.arrived_at <= s.scheduled_at" if question == "known" else ""
    compared = 0
    for view, (key, lengths, features) in WINDOWS.items():
        for suffix, length in lengths.items():
            columns = ", ".join(f"{sql} AS {name}" for name, sql in features.items())
            columns = columns.replace("count(*)", "count(f.flight_id)")
            theirs = connection.sql(f"""
                SELECT s.row, {columns} FROM spine s LEFT JOIN flights f
                  ON s.{key} = f.{key} AND f.left_at >= s.scheduled_at - INTERVAL {length}
                 AND f.left_at < s.scheduled_at {known}
                WHERE s.{key} IS NOT NULL GROUP BY s.row ORDER BY s.row""").to_arrow_table()
            asked = ours.filter(pc.is_valid(ours[key])).sort_by("row")
            for name in features:
                mine, other = asked[f"{name}_{suffix}"].to_pylist(), theirs[name].to_pylist()
                wrong = [(a, b) for a, b in zip(mine, other, strict=True) if a != b]
                assert not wrong, f"{view} {name}_{suffix}: {len(wrong)} of {len(mine)} differ, first {wrong[0]}"
                compared += len(mine)
    assert compared > 15_000, compared


def test_what_is_derived_and_the_label_are_what_duckdb_says(example) -> None:
    """One row in two hundred: the features of the weather and the hour, and the delays of the three hours ahead."""
    project = example("flights")
    everything = project.train("how_late", "data/departures.parquet")
    ours = everything.append_column("row", pa.array(range(everything.num_rows)))
    ours = ours.take([*range(7, ours.num_rows, 200), ours.num_rows - 1])
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("spine", ours.select(["row", "scheduled_at", "origin"]))
    for name in ("flights", "weather"):
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{FOLDER}/data/{name}.parquet')")
    theirs = connection.sql("""
        WITH w AS (SELECT s.row, s.scheduled_at - w.observed_at <= INTERVAL 3 HOUR AS fresh, w.*
                   FROM spine s ASOF LEFT JOIN weather w ON s.origin = w.origin AND s.scheduled_at >= w.observed_at),
        v AS (SELECT row, CASE WHEN fresh THEN nullif(wind_gust, 0) / nullif(wind_speed, 0) END AS gust_factor,
                     CASE WHEN fresh THEN temp <= 32 AND precip > 0 END AS is_icy,
                     CASE WHEN fresh THEN visib END AS visibility FROM w),
        l AS (SELECT s.row, avg(f.dep_delay) AS mean_delay FROM spine s LEFT JOIN flights f ON f.origin = s.origin
                AND f.left_at >= s.scheduled_at AND f.left_at < s.scheduled_at + INTERVAL 3 HOUR GROUP BY s.row)
        SELECT date_part('hour', s.scheduled_at AT TIME ZONE 'America/New_York') AS hour,
               gust_factor, is_icy, is_icy OR visibility < 3 AS is_bad, visibility,
               CASE WHEN s.scheduled_at + INTERVAL 3 HOUR <= (SELECT max(left_at) FROM flights) THEN mean_delay END
                 AS mean_delay_ahead
        FROM spine s JOIN v USING (row) JOIN l USING (row) ORDER BY s.row""").to_arrow_table()
    assert theirs.num_rows == ours.num_rows > 1_600
    for name in theirs.column_names:
        mine, other = ours[name].to_pylist(), theirs[name].to_pylist()
        wrong = [(place, a, b) for place, (a, b) in enumerate(zip(mine, other, strict=True)) if a != b]
        assert not wrong, f"{name} differs in {len(wrong)} rows, first {wrong[0]}"
        assert len({value for value in mine if value is not None}) > 1, f"{name} says something"
    dropped = project.train("how_late", "data/departures.parquet", "--immature", "drop")
    horizon = pc.max(pq.read_table(FOLDER / "data" / "flights.parquet")["left_at"]).as_py() - timedelta(hours=3)
    assert dropped.equals(everything.filter(pc.less_equal(everything["scheduled_at"], horizon)))
    assert 0 < dropped.num_rows < everything.num_rows


def test_the_figures_of_the_readme_are_what_asof_answers(example) -> None:
    """The README's table: how far *event* leaks."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    spine = pq.read_table(FOLDER / "data" / "departures.parquet")
    cells: dict[str, list[str]] = {"get": [], "again": [], "on time": []}
    for question in ("event", "known"):
        ours = example("flights").train("late_departure", "data/departures.parquet", "--question", question)
        late, said = spine["late"].to_pandas(), ours["left_late"].to_pandas()
        share = lambda rows: f"{late[rows & late.notna()].astype(bool).mean():.1%}".replace("%", " %")  # noqa: E731
        cells["get"].append(f"{ours['went_to'].length() - ours['went_to'].null_count:,}")
        cells["again"].append(share(said == True))  # noqa: E712
        cells["on time"].append(share(said == False))  # noqa: E712
    for row in (
        f"| rows that get a previous flight | {' | '.join(cells['get'])} |",
        f"| late again, when the feature says \"left late\" | {' | '.join(cells['again'])} |",
        f"| late, when it says \"left on time\" | {' | '.join(cells['on time'])} |",
    ):
        assert row in readme, row
    # No feature names the flight that answered; the same join written out in SQL does.
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("spine", spine)
    connection.execute(f"CREATE VIEW flights AS SELECT * FROM read_parquet('{FOLDER}/data/flights.parquet')")
    counts = []
    for known in ("", "AND f.arrived_at <= s.scheduled_at"):
        found = connection.sql(f"SELECT count(*) FROM ({PREVIOUS.format(known=known)}) WHERE previous.id = flight_id")
        counts.append(f"{found.fetchall()[0][0]:,}")
    assert f"| of those, answered by the very flight asked about | {' | '.join(counts)} |" in readme
