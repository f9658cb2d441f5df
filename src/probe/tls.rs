//! TLS that believes every certificate: a probe asks whether a server answers, not who it is (the kubelet's `InsecureSkipVerify`).

use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::dial::Wire;

/// Shakes hands. The server is told `host` (SNI) where that is a name; the error is Go's where it has a wording of its own.
pub(super) async fn connect(host: &str, wire: Wire) -> Result<TlsStream<Wire>, String> {
    let heard = wire.heard();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("tls: {error}"))?;
    let config = config().map_err(|error| format!("tls: {error}"))?;
    TlsConnector::from(Arc::new(config)).connect(name, wire).await.map_err(|error| match error.kind() {
        _ if heard.bytes() == b"HTTP/" => SERVED_IN_CLEAR.to_owned(),
        std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        std::io::ErrorKind::InvalidData => format!("tls: {error}"),
        _ => super::dial::reason(&error),
    })
}

/// Go's words for a server without TLS, by which a hook decides to ask again in clear text (`isHTTPResponseError`).
pub(super) const SERVED_IN_CLEAR: &str = "http: server gave HTTP response to HTTPS client";

fn config() -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let any = Arc::new(AnyCertificate(provider.clone()));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(any)
        .with_no_client_auth())
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    // A signature by a key that nobody vouches for proves nothing, and the check would refuse old certificates (X.509 v1).
    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
