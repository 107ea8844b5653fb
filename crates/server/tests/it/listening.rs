//! Where the server listens, and TLS.

use std::sync::Arc;

use asof_model::Explain as _;
use asof_server::{Limits, Listen, Server, TlsFiles};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::socket::{QUICK, answer, closed, connect, listen, send, start};

fn files(dir: &std::path::Path) -> (TlsFiles, rcgen::Certificate) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert)
}

#[tokio::test]
async fn it_speaks_tls_from_certificate_files() {
    let dir = tempfile::tempdir().unwrap();
    let (files, certificate) = files(dir.path());
    let server = start(Listen { tls: Some(files), ..listen(Limits::default()) }).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, connect(server.address).await).await.unwrap();
    for _ in 0..2 {
        send(&mut stream, QUICK).await;
        assert_eq!(answer(&mut stream).await.1, "ok");
    }
    // A client that speaks plain HTTP gets nothing.
    let mut plain: TcpStream = connect(server.address).await;
    send(&mut plain, QUICK).await;
    closed(&mut plain).await;
}

#[tokio::test]
async fn it_refuses_what_it_may_not_listen_on() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = files(dir.path());
    let other = files(&{
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        other
    });
    let at = |address: &str| Listen { address: address.to_owned(), ..listen(Limits::default()) };
    let missing = TlsFiles { certificate: dir.path().join("none.pem"), key: tls.key.clone() };
    let mixed = TlsFiles { certificate: tls.certificate.clone(), key: other.0.key };
    for (listen, expected) in [
        (at("0.0.0.0:0"), "exposed_address"),
        (at("[::]:0"), "exposed_address"),
        (Listen { token: true, ..at("0.0.0.0:0") }, "exposed_address"),
        (Listen { tls: Some(tls.clone()), ..at("0.0.0.0:0") }, "exposed_address"),
        (at("nonsense"), "bad_listen_address"),
        (at("127.0.0.1:99999"), "bad_listen_address"),
        (Listen { tls: Some(missing), ..at("127.0.0.1:0") }, "bad_tls_file"),
        (Listen { tls: Some(mixed), ..at("127.0.0.1:0") }, "bad_tls_file"),
    ] {
        let error = Server::bind(&listen).await.map(|_| ()).expect_err(expected);
        assert_eq!(error.code(), expected, "{error}");
        assert!(error.hint().is_some());
    }
    for listen in [
        Listen { insecure: true, ..at("0.0.0.0:0") },
        Listen { token: true, tls: Some(tls), ..at("0.0.0.0:0") },
        at("localhost:0"),
    ] {
        Server::bind(&listen).await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = Server::bind(&listen(Limits::default())).await.unwrap();
    let address = first.address().to_string();
    let error =
        Server::bind(&Listen { address: address.clone(), ..listen(Limits::default()) }).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on `{address}`: another program listens there"));
}
