//! Time limits, the cap, and the stop.

use std::time::Duration;

use asof_server::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::socket::{QUICK, SOON, answer, closed, connect, listen, send, short, start};

#[tokio::test]
async fn a_keep_alive_connection_quiet_for_30_s_still_answers() {
    let server = start(listen(Limits::default())).await;
    let mut stream = connect(server.address).await;
    send(&mut stream, QUICK).await;
    assert_eq!(answer(&mut stream).await.1, "ok");
    sleep(Duration::from_secs(30)).await;
    send(&mut stream, QUICK).await;
    assert_eq!(answer(&mut stream).await.1, "ok");
}

#[tokio::test]
async fn a_head_that_trickles_in_for_15_s_is_cut() {
    let server = start(listen(Limits::default())).await;
    let mut stream = connect(server.address).await;
    // Quiet time before the first byte does not count.
    sleep(Duration::from_secs(3)).await;
    send(&mut stream, "GET /quick HTTP/1.1\r\nhost: localhost\r\n").await;
    let mut sent = 0;
    while sent < 15 {
        sleep(Duration::from_secs(1)).await;
        if stream.write_all(b"x-a: b\r\n").await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!((8..15).contains(&sent), "cut after {sent} s");
}

#[tokio::test]
async fn a_quiet_connection_is_closed_after_its_idle_time() {
    let server = start(listen(short())).await;
    let mut used = connect(server.address).await;
    send(&mut used, QUICK).await;
    assert_eq!(answer(&mut used).await.1, "ok");
    let mut fresh = connect(server.address).await;
    timeout(SOON, closed(&mut used)).await.expect("a used connection is closed");
    timeout(SOON, closed(&mut fresh)).await.expect("a fresh connection is closed");
}

#[tokio::test]
async fn the_head_is_timed_from_its_first_byte_on_every_request_of_a_connection() {
    let server = start(listen(Limits { idle: Duration::from_secs(60), ..short() })).await;
    let mut stream = connect(server.address).await;
    for _ in 0..3 {
        sleep(Duration::from_millis(400)).await;
        send(&mut stream, &QUICK[..10]).await;
        sleep(Duration::from_millis(50)).await;
        send(&mut stream, &QUICK[10..]).await;
        assert_eq!(answer(&mut stream).await.1, "ok");
    }
    send(&mut stream, &QUICK[..10]).await;
    timeout(SOON, closed(&mut stream)).await.expect("a head that stops is cut");
}

#[tokio::test]
async fn two_requests_sent_at_once_are_both_answered() {
    let server = start(listen(short())).await;
    let mut stream = connect(server.address).await;
    send(&mut stream, &format!("{QUICK}{QUICK}")).await;
    assert_eq!(answer(&mut stream).await.1, "ok");
    assert_eq!(answer(&mut stream).await.1, "ok");
}

#[tokio::test]
async fn a_body_that_stops_coming_fails_its_request() {
    let server = start(listen(short())).await;
    let mut stream = connect(server.address).await;
    send(&mut stream, "POST /count HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n12345").await;
    let (_, body) = timeout(SOON, answer(&mut stream)).await.unwrap();
    assert!(body.contains("stood still"), "{body}");
}

#[tokio::test]
async fn a_body_that_trickles_in_fails_its_request_and_a_slow_one_does_not() {
    // Bytes every 100 ms, whether they are too few.
    for (bytes, too_few) in [("1", true), ("1234567890123456789012345678901234567890", false)] {
        let server = start(listen(Limits { body_rate: 100, ..short() })).await;
        let mut stream = connect(server.address).await;
        let length = bytes.len() * 12;
        let head = format!("POST /count HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        send(&mut stream, &head).await;
        for _ in 0..12 {
            sleep(Duration::from_millis(100)).await;
            if stream.write_all(bytes.as_bytes()).await.is_err() {
                break;
            }
        }
        let (_, body) = timeout(SOON, answer(&mut stream)).await.unwrap();
        match too_few {
            true => assert!(body.contains("less than 100 bytes a second"), "{body}"),
            false => assert_eq!(body, length.to_string()),
        }
    }
}

/// Who sends a body that nobody reads still gets its answer, and may ask again; if it goes on for too long, it may not.
#[tokio::test]
async fn an_answer_before_the_body_has_come_is_not_lost() {
    // What is left of a body may take longer than a head.
    let limits =
        || Limits { header: Duration::from_millis(200), rest: Duration::from_secs(60), ..Limits::default() };
    let body = "x".repeat(1 << 20);
    for (expect, kept) in [("", true), ("expect: 100-continue\r\n", false)] {
        let server = start(listen(limits())).await;
        let mut stream = connect(server.address).await;
        let length = body.len();
        let head =
            format!("POST /refused HTTP/1.1\r\nhost: localhost\r\n{expect}content-length: {length}\r\n\r\n");
        send(&mut stream, &head).await;
        let (first, _) = timeout(SOON, answer(&mut stream)).await.unwrap();
        assert!(first.starts_with("HTTP/1.1 429"), "{first}");
        if kept {
            for part in body.as_bytes().chunks(100_000) {
                stream.write_all(part).await.unwrap();
                sleep(Duration::from_millis(50)).await;
            }
            for _ in 0..2 {
                sleep(Duration::from_millis(300)).await;
                send(&mut stream, QUICK).await;
                assert_eq!(answer(&mut stream).await.1, "ok");
            }
        } else {
            timeout(SOON, closed(&mut stream)).await.expect("a body that need not come is not waited for");
        }
    }
    let server = start(listen(Limits { rest: Duration::from_millis(500), ..Limits::default() })).await;
    let mut stream = connect(server.address).await;
    send(&mut stream, "POST /refused HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n12345").await;
    assert!(timeout(SOON, answer(&mut stream)).await.unwrap().0.starts_with("HTTP/1.1 429"));
    timeout(SOON, closed(&mut stream)).await.expect("what does not come is not waited for without end");
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_cut() {
    let server = start(listen(short())).await;
    let mut stream = connect(server.address).await;
    send(&mut stream, "GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    sleep(Duration::from_secs(2)).await;
    let mut all = Vec::new();
    // What the kernels had buffered still comes; 64 MiB do not.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all).await;
    assert!(all.len() < 64 << 20, "{} bytes came", all.len());
}

#[tokio::test]
async fn a_head_over_its_limit_is_refused() {
    let server = start(listen(Limits { header_bytes: 8 << 10, ..Limits::default() })).await;
    let mut stream = connect(server.address).await;
    let long = "y".repeat(20 << 10);
    send(&mut stream, &format!("GET /quick HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n")).await;
    assert!(answer(&mut stream).await.0.contains("431"));
}

#[tokio::test]
async fn connections_past_the_cap_are_told_so_and_closed() {
    let server = start(listen(Limits { connections: 2, ..Limits::default() })).await;
    let mut first = connect(server.address).await;
    let mut second = connect(server.address).await;
    for stream in [&mut first, &mut second] {
        send(stream, QUICK).await;
        assert_eq!(answer(stream).await.1, "ok");
    }
    let mut third = connect(server.address).await;
    send(&mut third, QUICK).await;
    let (line, body) = answer(&mut third).await;
    assert!(line.contains("503"), "{line}");
    assert!(body.contains("too_many_connections"), "{body}");
    timeout(SOON, closed(&mut third)).await.unwrap();
    // A place that becomes free is given away again.
    drop(second);
    timeout(SOON, async {
        loop {
            let mut next = connect(server.address).await;
            send(&mut next, QUICK).await;
            if answer(&mut next).await.0.contains("200") {
                break;
            }
        }
    })
    .await
    .unwrap();
    send(&mut first, QUICK).await;
    assert_eq!(answer(&mut first).await.1, "ok");
}

#[tokio::test]
async fn a_stop_finishes_what_was_accepted() {
    let server = start(listen(Limits::default())).await;
    let mut answering = connect(server.address).await;
    send(&mut answering, "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut arriving = connect(server.address).await;
    send(&mut arriving, &QUICK[..10]).await;
    let mut quiet = connect(server.address).await;
    sleep(Duration::from_millis(200)).await;
    // These two are only just on their way when the stop comes.
    let mut late = connect(server.address).await;
    send(&mut late, QUICK).await;
    server.stop.cancel();
    assert_eq!(answer(&mut answering).await.1, "slow");
    send(&mut arriving, &QUICK[10..]).await;
    assert_eq!(answer(&mut arriving).await.1, "ok");
    assert_eq!(answer(&mut late).await.1, "ok");
    timeout(SOON, closed(&mut quiet)).await.unwrap();
    timeout(SOON, server.task).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn a_stop_ends_without_what_takes_too_long() {
    let limits = Limits { drain: Duration::from_millis(300), ..Limits::default() };
    let server = start(listen(limits)).await;
    let mut stuck = connect(server.address).await;
    send(&mut stuck, "POST /count HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n12345").await;
    sleep(Duration::from_millis(100)).await;
    server.stop.cancel();
    timeout(SOON, server.task).await.expect("the server ends").unwrap();
}
