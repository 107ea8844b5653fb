//! Rows pushed by gRPC to a node, with hyper's HTTP/2 below and frames made here.

use std::sync::Mutex;
use std::time::Duration;

use asof_server::v1::{Durability, Format, Op, PUSH_PATH, PushReply, PushRequest};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::json;

use crate::project::{Project, Up};
use crate::pushing::{posted, push, shop};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// One connection, over which many may ask at once.
struct Client {
    runtime: tokio::runtime::Runtime,
    requests: SendRequest<Body>,
}

/// How a call ended.
#[derive(Debug)]
struct Ended {
    status: u16,
    reply: Option<PushReply>,
    metadata: HeaderMap,
}

impl Ended {
    fn well(self) -> PushReply {
        assert_eq!(self.status, 0, "{self:?}");
        self.reply.unwrap()
    }

    fn said(&self, name: &str) -> &str {
        self.metadata.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn framed(message: &[u8], length: usize) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

impl Client {
    fn of(node: &Up) -> Client {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = node.address.split_once("://").unwrap().1.to_owned();
        let (requests, connection) = runtime
            .block_on(async {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                handshake(TokioExecutor::new(), TokioIo::new(stream)).await
            })
            .unwrap();
        runtime.spawn(connection);
        Client { runtime, requests }
    }

    /// Sends a frame, and nothing more where it is whole, else nothing more for long.
    async fn send(
        mut requests: SendRequest<Body>,
        frame: Bytes,
        whole: bool,
        headers: &[(&str, &str)],
    ) -> hyper::Result<Ended> {
        let first = futures::stream::iter([Ok(Frame::data(frame))]);
        let body = match whole {
            true => StreamBody::new(first).boxed_unsync(),
            false => StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync(),
        };
        let mut request = Request::post(format!("http://localhost{PUSH_PATH}"))
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        requests.ready().await?;
        let response = requests.send_request(request.body(body).unwrap()).await?;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let mut metadata = head.headers;
        metadata.extend(body.trailers().cloned().unwrap_or_default());
        let status = metadata["grpc-status"].to_str().unwrap().parse().unwrap();
        let bytes = body.to_bytes();
        let reply = (!bytes.is_empty()).then(|| {
            assert_eq!(bytes[..5], framed(b"", bytes.len() - 5));
            PushReply::decode(&bytes[5..]).unwrap()
        });
        Ok(Ended { status, reply, metadata })
    }

    fn try_push(&self, request: &PushRequest, headers: &[(&str, &str)]) -> hyper::Result<Ended> {
        let message = request.encode_to_vec();
        let frame = framed(&message, message.len());
        self.runtime.block_on(Client::send(self.requests.clone(), frame, true, headers))
    }

    fn push(&self, request: &PushRequest) -> Ended {
        self.try_push(request, &[]).unwrap()
    }
}

fn rows(rows: impl Into<Bytes>) -> PushRequest {
    PushRequest {
        source: "orders".to_owned(),
        format: Format::Ndjson.into(),
        rows: rows.into(),
        ..PushRequest::default()
    }
}

/// A row in Arrow's stream form.
fn arrow() -> Vec<u8> {
    use arrow::array::{Int64Array, RecordBatch, StringArray};
    let batch = RecordBatch::try_from_iter([
        ("at", std::sync::Arc::new(StringArray::from(vec!["2024-01-03"])) as arrow::array::ArrayRef),
        ("buyer", std::sync::Arc::new(Int64Array::from(vec![3]))),
    ])
    .unwrap();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_node_takes_rows_by_grpc_beside_http() {
    let project = shop();
    let node = project.up(&[], &[]);
    node.wait_ready();
    let client = Client::of(&node);
    let first = client.push(&rows("{\"id\": \"1\", \"at\": \"2024-01-01\"}\n")).well();
    assert_eq!((first.source.as_str(), first.accepted), ("shop.orders", 1));
    assert!(first.durable && !first.repeated && first.visible_at.is_some());
    // The other wire has the same rows, and the same first answer to a key.
    let json_type = "content-type: application/json\r\nidempotency-key: k1\r\n";
    let (status, told) = posted(&node, "/v1/push/orders", json_type, r#"{"id": "1", "at": "2024-01-01"}"#);
    assert_eq!((status, &told["already_there"]), (200, &json!([1])), "{told}");
    let (_, keyed) = posted(
        &node,
        "/v1/push/orders",
        "content-type: application/json\r\nidempotency-key: k2\r\n",
        r#"[{"at": "2024-01-02"}]"#,
    );
    let asked = PushRequest {
        format: Format::Json.into(),
        idempotency_key: Some("k2".to_owned()),
        project: Some("shop".to_owned()),
        ..rows(r#"{"rows": [{"at": "2024-01-02"}]}"#)
    };
    let again = client.push(&asked).well();
    assert_eq!((again.repeated, again.first), (true, keyed["first"].as_i64()));
    let at = again.visible_at.unwrap();
    let micros = at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000;
    assert_eq!(asof_model::Timestamp(micros).to_string(), keyed["visible_at"].as_str().unwrap());
    let reused = client.push(&PushRequest { rows: Bytes::from_static(b"[]"), ..asked });
    assert_eq!((reused.status, reused.said("asof-code")), (6, "idempotency_key_reused"));
    let by_arrow = PushRequest { format: Format::ArrowStream.into(), ..rows(arrow()) };
    assert_eq!(client.push(&by_arrow).well().accepted, 1);
    let deleted = client
        .push(&PushRequest {
            op: Op::Delete.into(),
            durability: Durability::Relaxed.into(),
            ..rows("{\"id\": \"1\", \"at\": \"2024-01-01\"}\n")
        })
        .well();
    assert_eq!((deleted.accepted, deleted.durable), (1, false));
    let metrics = node.get("/metrics").1;
    assert!(metrics.contains("asof_pushed_rows_total{project=\"shop\",source=\"orders\"} 4"), "{metrics}");
    // Over HTTP/1.1 there are no trailers to say how a call ended.
    let (status, told) = posted(&node, PUSH_PATH, "content-type: application/grpc\r\n", "");
    assert_eq!((status, &told["error"]["code"]), (415, &json!("bad_grpc_message")));
    assert_eq!(node.stop(), Some(0));
    assert_eq!(push(&project, &["at=2024-01-01"])["accepted"], 1);
}

#[test]
fn what_is_refused_by_grpc_says_why() {
    let project = shop();
    let node = project.up(&[], &[("ASOF_TOKEN", "s3cret")]);
    node.wait_ready();
    let client = Client::of(&node);
    let good = rows("{\"at\": \"2024-01-01\"}\n");
    let with = |headers: &[(&str, &str)]| client.try_push(&good, headers).unwrap();
    for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "s3cret")]] {
        let refused = with(headers);
        assert_eq!(refused.status, 16, "{refused:?}");
        assert!(refused.said("grpc-message").contains("%0Ahint: "), "{refused:?}");
    }
    let bearer = [("authorization", "Bearer s3cret")];
    assert_eq!(with(&bearer).status, 0);
    let bad = "{\"at\": \"2024-01-01\"}\n{\"at\": \"zebra\"}\n{\"id\": \"4\"}\n";
    let told = |request: &PushRequest| client.try_push(request, &bearer).unwrap();
    for (request, status, code) in [
        (rows(bad), 3, "bad_rows"),
        (rows("{\"price\": 1}"), 3, "new_column"),
        (PushRequest { format: Format::Json.into(), ..rows("[") }, 3, "bad_json"),
        (rows(vec![b' '; 17 << 20]), 8, "body_too_large"),
        (PushRequest { format: 0, ..rows(bad) }, 3, "bad_grpc_message"),
        (PushRequest { format: 9, ..rows(bad) }, 3, "bad_grpc_message"),
        (PushRequest { op: 2, ..rows(bad) }, 3, "bad_grpc_message"),
        (PushRequest { durability: -1, ..rows(bad) }, 3, "bad_grpc_message"),
        (PushRequest { source: "order".to_owned(), ..rows(bad) }, 5, "not_found"),
        (PushRequest { source: String::new(), ..rows(bad) }, 3, "bad_name"),
        (PushRequest { project: Some("other".to_owned()), ..rows(bad) }, 5, "project_not_found"),
        (PushRequest { idempotency_key: Some("a\nb".to_owned()), ..rows(bad) }, 3, "bad_idempotency_key"),
        (PushRequest { idempotency_key: Some(String::new()), ..rows(bad) }, 3, "bad_idempotency_key"),
    ] {
        let refused = told(&request);
        assert_eq!((refused.status, refused.said("asof-code")), (status, code), "{refused:?}");
        assert!(!refused.said("grpc-message").contains("zebra"), "{refused:?}");
    }
    let both = told(&rows(bad));
    let message = both.said("grpc-message");
    assert!(
        message.contains("2 of 3 rows are bad") && message.contains("row 2:") && message.contains("row 3:"),
        "{message}"
    );
    // Bytes that are no message, two messages, and one that says it is compressed.
    let message = good.encode_to_vec();
    let (whole, mut zipped) =
        (framed(&message, message.len()), BytesMut::from(&framed(&message, message.len())[..]));
    zipped[0] = 1;
    for (frame, status) in [
        (Bytes::new(), 3),
        (whole.slice(..3), 3),
        (whole.slice(..whole.len() - 1), 3),
        (Bytes::from([&whole[..], &whole[..]].concat()), 3),
        (framed(b"\xff\xff\xff", 3), 3),
        (zipped.freeze(), 12),
    ] {
        let sent = Client::send(client.requests.clone(), frame, true, &bearer);
        let refused = client.runtime.block_on(sent).unwrap();
        assert_eq!((refused.status, refused.said("asof-code")), (status, "bad_grpc_message"), "{refused:?}");
    }
    let metrics = node.get_with("/metrics", "s3cret").1;
    assert!(metrics.contains("asof_pushed_rows_total{project=\"shop\",source=\"orders\"} 1"), "{metrics}");
}

/// Bodies that are on their way have room only together, by either wire; what is refused may come again.
#[test]
fn an_overloaded_node_says_when_to_come_again() {
    let project = shop();
    let node = project.up(&[], &[]);
    node.wait_ready();
    let client = Client::of(&node);
    let row = rows("{\"at\": \"2024-01-01\"}\n");
    assert_eq!(client.push(&row).status, 0);
    let mut slow = Vec::new();
    let refused = loop {
        assert!(slow.len() < 100, "room is without end");
        let requests = client.requests.clone();
        slow.push(client.runtime.spawn(Client::send(requests, framed(b"", 16 << 20), false, &[])));
        let ended = client.push(&row);
        if ended.status != 0 {
            break ended;
        }
    };
    assert_eq!((refused.status, refused.said("asof-code")), (8, "live_store_busy"), "{refused:?}");
    assert_eq!(refused.said("retry-after"), "1");
    assert!(!refused.said("grpc-status-details-bin").is_empty());
    let body = r#"{"at": "2024-01-01"}"#;
    let told = node.whole(&format!(
        "POST /v1/push/orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert!(told.starts_with("HTTP/1.1 429 ") && told.contains("\"live_store_busy\""), "{told}");
    assert!(told.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{told}");
    // Whoever goes away gives its room back.
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    let taken = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        client.push(&row).status == 0
    });
    assert!(taken, "room is given back");
}

/// Stopped while clients push, a node has every row that it acknowledged, and acknowledges none that it has not.
#[test]
fn a_stop_loses_nothing_that_grpc_acknowledged() {
    let project = shop();
    let node = project.up(&[], &[]);
    node.wait_ready();
    let acknowledged = Mutex::new(Vec::new());
    let clients: Vec<Client> = (0..2).map(|_| Client::of(&node)).collect();
    std::thread::scope(|scope| {
        for (one, client) in clients.iter().enumerate() {
            for other in 0..4 {
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    for at in 0.. {
                        let row = format!("{{\"id\": \"{one}-{other}-{at}\", \"at\": \"2024-01-01\"}}\n");
                        match client.try_push(&rows(row.clone()), &[]) {
                            Ok(ended) if ended.status == 0 => acknowledged.lock().unwrap().push(row),
                            Ok(ended) => {
                                assert_eq!(
                                    (ended.status, ended.said("asof-code")),
                                    (14, "stopping"),
                                    "{ended:?}"
                                );
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                });
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(node.stop(), Some(0));
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    project.write("again.ndjson", &acknowledged.concat());
    let again = push(&project, &["again.ndjson"]);
    assert_eq!(again["already_there"].as_array().unwrap().len(), acknowledged.len(), "{}", again["accepted"]);
}

/// What speaks HTTP speaks it over HTTP/2 as well.
#[test]
fn endpoints_answer_over_http2() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    node.wait_ready();
    let client = Client::of(&node);
    let mut requests = client.requests.clone();
    let ask = |host: &str| {
        Request::get(format!("http://{host}/v1/projects/*/things")).body(Body::default()).unwrap()
    };
    let (here, elsewhere) = (ask("localhost"), ask("attacker.example"));
    let answers = client.runtime.block_on(async {
        let here = requests.send_request(here).await.unwrap();
        (here.status().as_u16(), requests.send_request(elsewhere).await.unwrap().status().as_u16())
    });
    assert_eq!(answers, (200, 403));
}
