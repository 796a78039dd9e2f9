//! What an error of TLS means to whoever has to mend it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, PeerIncompatible};

use crate::error::ErrorKind;

/// The kind of a failure that rustls has found, and what to do about it; `None` for every other failure.
pub(crate) fn explain(error: &io::Error) -> Option<(ErrorKind, String)> {
    let cause = error.get_ref()?;
    if cause.downcast_ref::<rustls::pki_types::InvalidDnsNameError>().is_some() {
        return Some((ErrorKind::Config, "no certificate can be for a host of that name".into()));
    }
    let cause = cause.downcast_ref::<TlsError>()?;
    let (kind, advice) = match cause {
        TlsError::InvalidCertificate(reason) => (ErrorKind::Authentication, of_certificate(reason)),
        TlsError::AlertReceived(alert) => of_alert(*alert),
        TlsError::InvalidMessage(_) => {
            (ErrorKind::Protocol, "it does not speak TLS: is it a PLAINTEXT listener?")
        }
        TlsError::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
        | TlsError::PeerIncompatible(PeerIncompatible::Tls12NotOffered) => {
            (ErrorKind::Authentication, "it offers no version of TLS that is allowed here")
        }
        TlsError::NoCertificatesPresented => (ErrorKind::Authentication, "it shows no certificate"),
        _ => (ErrorKind::Protocol, "the TLS handshake failed"),
    };
    Some((kind, format!("{advice} ({cause})")))
}

fn of_certificate(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: look at the clocks"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by nobody who is believed: is the right CA in the truststore?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host: connect by a name that it has"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one for servers"
        }
        CertificateError::Revoked => "its certificate was revoked",
        _ => "its certificate is not valid",
    }
}

fn of_alert(alert: AlertDescription) -> (ErrorKind, &'static str) {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            (ErrorKind::Authentication, "it wants to see a certificate: set an identity")
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError => (ErrorKind::Authentication, "it does not accept our certificate"),
        Alert::ProtocolVersion => (ErrorKind::Authentication, "it refuses our versions of TLS"),
        Alert::HandshakeFailure => {
            (ErrorKind::Authentication, "it refuses: it may want a certificate, or share no cipher with us")
        }
        _ => (ErrorKind::Connect, "it ended the TLS connection"),
    }
}
