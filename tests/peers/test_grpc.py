"""Rows pushed by a client of gRPC that is not ours, from the messages as `proto` describes them."""

import importlib
import json
import socket
import struct
import subprocess
import sys
import time
import urllib.request

import grpc
import pyarrow as pa
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from conftest import ROOT

DEFINITIONS = """
entity: buyer
keys: {buyer: int64}
---
source: orders
push: true
schema: {id: string, buyer: int64, at: timestamp, amount: float64}
event_time: at
id: id
---
view: last_order
entity: buyer
source: orders
features: {amount: amount}
"""

# So many names, and such, that an error which tells all of them is more than metadata has room for.
WIDE = ["\u00e5" * 40 + str(number) for number in range(60)]
DEFINITIONS += f"""---
source: wide
push: true
schema: {{at: timestamp, {", ".join(f"{column}: float64" for column in WIDE)}}}
event_time: at
"""


@pytest.fixture(scope="session")
def messages(tmp_path_factory: pytest.TempPathFactory):
    """The modules that protoc makes."""
    out = tmp_path_factory.mktemp("proto")
    arguments = [f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}", "asof/v1/intake.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
    sys.path.insert(0, str(out))
    return importlib.import_module("asof.v1.intake_pb2"), importlib.import_module("asof.v1.intake_pb2_grpc")


@pytest.fixture
def shop(project, messages):
    """A node that takes orders, a client of it, and the messages."""
    project.write("features/shop.yaml", DEFINITIONS)
    project.apply()
    project.asof("materialize")
    with project.up() as node:
        with grpc.insecure_channel(node.url.removeprefix("http://")) as channel:
            yield node, messages[1].IntakeStub(channel), messages[0]


def refused(call) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value


def metadata(error: grpc.RpcError) -> dict:
    return dict(error.initial_metadata()) | dict(error.trailing_metadata())


def arrow(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def test_every_format_is_pushed_and_served(shop) -> None:
    node, intake, pb = shop
    bodies = {
        pb.FORMAT_JSON: b'[{"id": "1", "buyer": 1, "at": "2024-01-01", "amount": 0.1}]',
        pb.FORMAT_NDJSON: b'{"id": "2", "buyer": 2, "at": "2024-01-01", "amount": 0.2}\n',
        pb.FORMAT_ARROW_STREAM: arrow(pa.table({
            "id": ["3"], "buyer": [3], "amount": [0.3],
            "at": pa.array([1_704_067_200_000_000], pa.timestamp("us", tz="UTC")),
        })),
    }
    before = -1
    for buyer, (format, rows) in enumerate(bodies.items(), 1):
        reply = intake.Push(pb.PushRequest(source="orders", format=format, rows=rows))
        assert (reply.source, reply.accepted, reply.durable, reply.repeated) == ("compared.orders", 1, True, False)
        assert reply.first > before and reply.visible_at.nanos % 1_000 == 0
        before = reply.first
        served = node.features({"features": ["last_order.amount"], "entities": {"buyer": [buyer]}})
        assert served["columns"][-1]["values"] == [buyer / 10], served


def test_a_batch_is_stored_once(shop) -> None:
    _, intake, pb = shop
    rows = b'{"buyer": 1, "at": "2024-01-01"}\n{"buyer": 2, "at": "2024-01-01"}\n'
    keyed = pb.PushRequest(source="orders", format=pb.FORMAT_NDJSON, rows=rows, idempotency_key="one")
    first, again = intake.Push(keyed), intake.Push(keyed)
    assert (again.first, again.accepted, again.repeated, again.visible_at) == (first.first, 2, True, first.visible_at)
    keyed.rows = rows[: len(rows) // 2]
    error = refused(lambda: intake.Push(keyed))
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS
    assert metadata(error)["asof-code"] == "idempotency_key_reused"
    row = pb.PushRequest(source="orders", format=pb.FORMAT_JSON, rows=b'{"id": "9", "at": "2024-01-01"}')
    assert intake.Push(row).accepted == 1
    there = intake.Push(row)
    assert (there.accepted, list(there.already_there), there.HasField("first")) == (0, [1], False)
    row.op, row.durability = pb.OP_DELETE, pb.DURABILITY_RELAXED
    deleted = intake.Push(row)
    assert (deleted.accepted, deleted.durable) == (1, False)


def test_errors_say_what_they_are(shop) -> None:
    node, intake, pb = shop

    def push(**fields):
        return lambda: intake.Push(pb.PushRequest(**({"source": "orders", "format": pb.FORMAT_NDJSON} | fields)))

    bad = b'{"at": "2024-01-01"}\n{"at": "zebra"}\n{"at": "2024-01-01"}\n{"id": "4"}\n'
    for call, status, code, said in [
        (push(rows=bad), "INVALID_ARGUMENT", "bad_rows", ["row 2", "row 4"]),
        (push(rows=b'{"zebra_column": 1}'), "INVALID_ARGUMENT", "new_column", []),
        (push(format=0, rows=b"[]"), "INVALID_ARGUMENT", "bad_grpc_message", ["format"]),
        (push(op=7, rows=b"[]"), "INVALID_ARGUMENT", "bad_grpc_message", ["`op` is 7"]),
        (push(source="order"), "NOT_FOUND", "not_found", ["`orders`"]),
        (push(project="other"), "NOT_FOUND", "project_not_found", []),
        (push(source="Orders"), "INVALID_ARGUMENT", "bad_name", []),
        (push(idempotency_key="a\nb"), "INVALID_ARGUMENT", "bad_idempotency_key", []),
        (push(idempotency_key=""), "INVALID_ARGUMENT", "bad_idempotency_key", []),
        (push(rows=bytes(17 << 20)), "RESOURCE_EXHAUSTED", "body_too_large", ["16777216 bytes"]),
    ]:
        error = refused(call)
        found = metadata(error).get("asof-code")
        assert (error.code().name, found) == (status, code), error
        assert all(word in error.details() for word in said) and "zebra\"" not in error.details(), error.details()
    # Text beyond ASCII, and more of it than metadata has room for.
    error = refused(push(rows='{"at": "2024-01-01", "\u20ac\u00e5": 1}'.encode()))
    assert "`\u20ac\u00e5`" in error.details()
    many = "\n".join(json.dumps({"at": "2024-01-01", column: "no number"}) for column in WIDE).encode()
    error = refused(push(source="wide", rows=many))
    assert metadata(error)["asof-code"] == "bad_rows" and "row 1: " in error.details()
    assert error.details().endswith("...") and len(error.details()) > 1_000
    channel = grpc.insecure_channel(node.url.removeprefix("http://"))
    other = channel.unary_unary("/asof.v1.Intake/Pull", lambda text: text, lambda text: text)
    assert refused(lambda: other(b"")).code() == grpc.StatusCode.UNIMPLEMENTED
    zipped = grpc.insecure_channel(node.url.removeprefix("http://"), compression=grpc.Compression.Gzip)
    other = zipped.unary_unary("/asof.v1.Intake/Push", lambda text: text, lambda text: text)
    assert refused(lambda: other(b"x" * 1000)).code() == grpc.StatusCode.UNIMPLEMENTED


def test_metrics_know_of_it(shop) -> None:
    node, intake, pb = shop
    intake.Push(pb.PushRequest(source="orders", format=pb.FORMAT_JSON, rows=b'[{"at": "2024-01-01"}]'))
    refused(lambda: intake.Push(pb.PushRequest(source="other", format=pb.FORMAT_JSON, rows=b"[]")))
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=60) as answer:
        metrics = answer.read().decode()
    for line in [
        'asof_pushed_rows_total{project="compared",source="orders"} 1',
        'asof_requests_total{endpoint="/asof.v1.Intake/Push",status="200"} 1',
        'asof_requests_total{endpoint="/asof.v1.Intake/Push",status="404"} 1',
    ]:
        assert line in metrics, metrics


def half_a_call(address: str) -> socket.socket:
    """A call that says it brings 16 MiB, and brings none of it."""
    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    head = {
        ":method": "POST", ":scheme": "http", ":path": "/asof.v1.Intake/Push", ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers",
    }
    # Literal fields with new names, each shorter than 127 bytes.
    fields = b"".join(b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in head.items())
    host, port = address.rsplit(":", 1)
    stream = socket.create_connection((host, int(port)))
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    stream.sendall(frame(1, 4, 1, fields) + frame(0, 0, 1, struct.pack(">BI", 0, 16 << 20)))
    return stream


def test_overload_says_when_to_come_again(shop) -> None:
    node, intake, pb = shop
    row = pb.PushRequest(source="orders", format=pb.FORMAT_JSON, rows=b'[{"at": "2024-01-01"}]')
    half, error = [], None
    while error is None and len(half) < 100:
        half.append(half_a_call(node.url.removeprefix("http://")))
        try:
            intake.Push(row)
        except grpc.RpcError as refusal:
            error = refusal
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and metadata(error)["retry-after"] == "1"
    [detail] = rpc_status.from_call(error).details
    again = error_details_pb2.RetryInfo()
    assert detail.Unpack(again) and again.retry_delay.seconds == 1
    for stream in half:
        stream.close()
    for _ in range(1000):
        try:
            assert intake.Push(row).accepted == 1
            return
        except grpc.RpcError as refusal:
            assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            time.sleep(0.01)
    raise AssertionError("no room was given back")
