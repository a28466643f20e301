//! The stub's certificate, from an authority that exists for one run.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use crate::Result;

/// A certificate for `localhost`, with its key.
#[derive(Debug)]
pub struct Identity {
    authority: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    /// A fresh one.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "an authority for one measurement");
        let authority_certificate = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let certificate = params.signed_by(&key, &issuer)?.der().clone();
        Ok(Self { authority: authority_certificate, certificate, key })
    }

    /// What a client has to trust, in PEM.
    pub fn certificate(&self) -> &str {
        &self.authority
    }

    /// Accepts connections that speak `protocol` and nothing else.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn acceptor(&self, protocol: &[u8]) -> Result<TlsAcceptor> {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key.into())?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
