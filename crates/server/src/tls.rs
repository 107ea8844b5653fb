//! TLS 1.2 and 1.3 from certificate files.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::ServerError;
use crate::listen::TlsFiles;

/// What accepts TLS connections, and the certificate it shows, in DER form.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<(TlsAcceptor, Vec<u8>), ServerError> {
    let bad = |file: &Path, reason: String| ServerError::Certificate {
        file: file.to_owned(),
        missing: !file.exists(),
        reason: if file.exists() { reason } else { "it does not exist".to_owned() },
    };
    let of_certificate = |reason: String| bad(&files.certificate, reason);
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| of_certificate(error.to_string()))?;
    if certificates.is_empty() {
        return Err(of_certificate("it holds no certificate in PEM form".to_owned()));
    }
    let shown = certificates.first().map(|certificate| certificate.to_vec()).unwrap_or_default();
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| of_certificate(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| of_certificate(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), shown))
}
