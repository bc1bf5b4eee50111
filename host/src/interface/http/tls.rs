//! Whom requests out of a guest believe to be the host they ask: the authorities that browsers trust, and those that the operator of
//! this node named.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error;

use crate::store::files;
use crate::words::{Code, Fault, Outcome};

/// Largest file of certificates: the bundle of an operating system has 250 KiB.
const FILE_MAX: u64 = 1 << 20;

/// Trust in the public authorities and in those of these PEM files.
///
/// # Errors
/// `not-found` or `io` when a file cannot be read, `usage` when it has no certificate, or one that is none.
pub fn trusting(files: &[PathBuf]) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for file in files {
        let shown = file.display();
        let bad = |what: String| {
            Fault::new(Code::Usage, format!("{shown}: {what}"))
                .fix("--http-ca takes certificates in PEM form: -----BEGIN CERTIFICATE-----")
        };
        let pem = files::read_limited(file, FILE_MAX)?
            .ok_or_else(|| Fault::new(Code::NotFound, format!("{shown} is not there")))?;
        let mut found = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| bad(format!("broken PEM: {error}")))?;
            found += 1;
            let added = roots.add(certificate);
            added.map_err(|error| bad(format!("certificate {found} cannot be used: {error}")))?;
        }
        if found == 0 {
            return Err(bad("there is no certificate in it".to_owned()));
        }
    }
    config(roots)
}

/// The set-up of a plugin's connections.
pub(super) fn of(given: Option<&Arc<ClientConfig>>) -> Result<Arc<ClientConfig>, Error> {
    static PUBLIC: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = given.or_else(|| PUBLIC.get()) {
        return Ok(config.clone());
    }
    let config = trusting(&[]).map_err(|fault| Error::InternalError(Some(fault.what)))?;
    Ok(PUBLIC.get_or_init(|| config).clone())
}

/// What a guest hears of a handshake that failed, and what the log says of it.
pub(super) fn failure(error: std::io::Error) -> (Error, String) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        let text = format!("TLS: {error}");
        return (Error::Tls(error), text);
    };
    let text = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is this node's clock right?".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host".into()
        }
        CertificateError::UnknownIssuer => {
            "nobody whom this node trusts has signed its certificate; midplane run --http-ca FILE trusts more"
                .into()
        }
        other => format!("its certificate is bad: {other}"),
    };
    (Error::TlsCertificateError, text)
}

fn config(roots: RootCertStore) -> Outcome<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new(Code::Internal, format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, says) in [
            ("", "no certificate"),
            ("hello\n", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\n", "broken PEM"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificate 1 cannot be used",
            ),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let fault = trusting(&[file.path().to_owned()]).unwrap_err();
            assert!(fault.code == Code::Usage && fault.what.contains(says), "{text:?}: {fault}");
        }
        assert_eq!(trusting(&["/nowhere".into()]).unwrap_err().code, Code::NotFound);
        assert!(trusting(&[]).is_ok());
    }
}
