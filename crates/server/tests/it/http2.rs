//! The same promises over HTTP/2, on the same port.

use std::net::SocketAddr;
use std::time::Duration;

use asof_server::Limits;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::socket::{SOON, answer, closed, connect, listen, send, short, start};

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client, and its connection, which ends with the server's.
async fn client(address: SocketAddr) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let io = TokioIo::new(connect(address).await);
    // As little as a peer must take, so that who does not read is noticed soon.
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535);
    let (sender, connection) = builder.handshake(io).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test awaits it, or ends before it")]
    let task = tokio::spawn(connection);
    (sender, task)
}

fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(format!("http://localhost{path}")).body(body).unwrap()
}

async fn ask(sender: &mut SendRequest<Body>, path: &str) -> hyper::Result<Response<Incoming>> {
    sender.ready().await?;
    sender.send_request(request("GET", path, Body::empty())).await
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn requests_share_a_connection() {
    let server = start(listen(Limits::default())).await;
    let (mut sender, _connection) = client(server.address).await;
    let mut other = sender.clone();
    let (slow, quick) = tokio::join!(ask(&mut other, "/slow"), ask(&mut sender, "/quick"));
    assert_eq!((text(slow.unwrap()).await.as_str(), text(quick.unwrap()).await.as_str()), ("slow", "ok"));
    let large = ask(&mut sender, "/large").await.unwrap();
    assert_eq!(large.headers()[header::CONTENT_LENGTH], (64 << 20).to_string());
    assert_eq!(large.into_body().collect().await.unwrap().to_bytes().len(), 64 << 20);
    let body = Body::from(vec![b'x'; 3 << 20]);
    let counted = sender.send_request(request("POST", "/count", body)).await.unwrap();
    assert_eq!(text(counted).await, (3 << 20).to_string());
}

#[tokio::test]
async fn what_is_spoken_is_told_by_how_it_begins_however_slowly_that_comes() {
    let server = start(listen(Limits::default())).await;
    let whole = "POST /count HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc";
    for (begun, rest) in [1, 2, 23, 24, 40].map(|at| whole.split_at(at)) {
        let mut stream = connect(server.address).await;
        send(&mut stream, begun).await;
        sleep(Duration::from_millis(50)).await;
        send(&mut stream, rest).await;
        assert_eq!(answer(&mut stream).await.1, "3", "{begun}");
    }
    let mut stream = connect(server.address).await;
    send(&mut stream, "PRY / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer(&mut stream).await.0.contains("404"));
}

#[tokio::test]
async fn a_connection_that_does_not_begin_is_cut() {
    for begun in [&PREFACE[..1], &PREFACE[..20], PREFACE] {
        let server = start(listen(short())).await;
        let mut stream = connect(server.address).await;
        send(&mut stream, begun).await;
        timeout(SOON, closed(&mut stream)).await.expect("what does not go on is cut");
    }
}

#[tokio::test]
async fn a_quiet_connection_is_told_to_end() {
    let server = start(listen(Limits { idle: Duration::from_secs(1), ..Limits::default() })).await;
    let (mut sender, connection) = client(server.address).await;
    for _ in 0..4 {
        sleep(Duration::from_millis(500)).await;
        assert_eq!(text(ask(&mut sender, "/slow").await.unwrap()).await, "slow");
    }
    timeout(SOON, connection).await.expect("it is closed").unwrap().expect("in order");
}

#[tokio::test]
async fn a_reader_that_stops_reading_loses_that_answer_and_no_other() {
    let server = start(listen(Limits { stall: Duration::from_secs(1), ..Limits::default() })).await;
    let (mut sender, _connection) = client(server.address).await;
    let large = ask(&mut sender, "/large").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(text(ask(&mut sender, "/quick").await.unwrap()).await, "ok");
    let error = timeout(SOON, large.into_body().collect()).await.unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    // Who reads slowly, and reads, gets all of it.
    let mut slow = ask(&mut sender, "/some").await.unwrap().into_body();
    let mut came = 0;
    while let Some(frame) = slow.frame().await {
        came += frame.unwrap().data_ref().map_or(0, Bytes::len);
        sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(came, 2 << 20);
}

#[tokio::test]
async fn a_body_that_stops_coming_fails_its_request() {
    let server = start(listen(Limits { idle: Duration::from_secs(60), ..short() })).await;
    let (mut sender, _connection) = client(server.address).await;
    let part = futures::stream::iter([Ok::<_, axum::BoxError>(Frame::data(Bytes::from_static(b"12345")))]);
    let body = Body::new(StreamBody::new(futures::StreamExt::chain(part, futures::stream::pending())));
    let sent = timeout(SOON, sender.send_request(request("POST", "/count", body))).await.unwrap().unwrap();
    let told = text(sent).await;
    assert!(told.contains("stood still"), "{told}");
}

#[tokio::test]
async fn an_answer_before_the_body_has_come_is_not_lost() {
    let server = start(listen(Limits::default())).await;
    let (mut sender, _connection) = client(server.address).await;
    for _ in 0..3 {
        let body = Body::from(vec![b'x'; 3 << 20]);
        let refused = sender.send_request(request("POST", "/refused", body)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(text(ask(&mut sender, "/quick").await.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_head_over_its_limit_is_refused() {
    let server = start(listen(Limits { header_bytes: 8 << 10, ..Limits::default() })).await;
    let (mut sender, _connection) = client(server.address).await;
    let mut long = request("GET", "/quick", Body::empty());
    long.headers_mut().insert("x", "y".repeat(20 << 10).parse().unwrap());
    let refused = sender.send_request(long).await.unwrap();
    assert_eq!(refused.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(text(ask(&mut sender, "/quick").await.unwrap()).await, "ok");
}

#[tokio::test]
async fn requests_past_the_cap_are_told_so() {
    let server = start(listen(Limits { connections: 2, ..Limits::default() })).await;
    let (mut sender, _connection) = client(server.address).await;
    let (mut second, mut third) = (sender.clone(), sender.clone());
    let asked = tokio::join!(ask(&mut sender, "/slow"), ask(&mut second, "/slow"), ask(&mut third, "/slow"));
    let mut statuses = Vec::new();
    for response in [asked.0, asked.1, asked.2] {
        let response = response.unwrap();
        statuses.push(response.status().as_u16());
        let told = text(response).await;
        assert!(told == "slow" || told.contains("too_many_requests"), "{told}");
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    assert_eq!(text(ask(&mut sender, "/quick").await.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_stop_finishes_what_was_accepted() {
    let server = start(listen(Limits::default())).await;
    let (mut busy, of_busy) = client(server.address).await;
    let (_quiet, of_quiet) = client(server.address).await;
    let mut fresh = connect(server.address).await;
    fresh.write_all(&PREFACE.as_bytes()[..5]).await.unwrap();
    let (mut second, address, stop) = (busy.clone(), server.address, server.stop.clone());
    let stopping = async {
        sleep(Duration::from_millis(200)).await;
        stop.cancel();
        sleep(Duration::from_millis(50)).await;
        // It came before the connection was told to end.
        ask(&mut second, "/quick").await
    };
    let (slow, quick) = tokio::join!(ask(&mut busy, "/slow"), stopping);
    assert_eq!(text(slow.unwrap()).await, "slow");
    assert_eq!(text(quick.unwrap()).await, "ok");
    timeout(SOON, closed(&mut fresh)).await.unwrap();
    for connection in [of_busy, of_quiet] {
        timeout(SOON, connection).await.expect("it ends").unwrap().expect("in order");
    }
    timeout(SOON, server.task).await.expect("the server ends").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nothing listens any more");
}
