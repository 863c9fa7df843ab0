//! Whom to trust, and how to speak TLS.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use thiserror::Error;

/// Why there can't be any TLS.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct NoTls(String);

/// The authorities that servers are trusted by. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorities(pub(crate) Result<Arc<ClientConfig>, NoTls>);

impl Authorities {
    /// Those with the given certificates (PEM) or, without any, the system's, whose files are read now. That there are
    /// none matters only to whom needs one.
    #[must_use]
    pub fn load(certificates: Option<&[u8]>) -> Self {
        Self(client_config(certificates))
    }
}

fn client_config(certificates: Option<&[u8]>) -> Result<Arc<ClientConfig>, NoTls> {
    let mut roots = RootCertStore::empty();
    // Bundles have certificates of all ages and kinds in them: those that can't be used are nobody's mistake.
    match certificates {
        Some(pem) => {
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok))
        }
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    if roots.is_empty() {
        return Err(NoTls("there are no certificates of authorities to trust servers by".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| NoTls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_certificates_are_no_trust() {
        for pem in [&b""[..], b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(client_config(Some(pem)).is_err());
        }
    }
}
