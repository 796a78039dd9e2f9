//! Stores as Java's `keytool` makes them: identities with the password `of-store`, in JKS with the key's own, `of-key`.

use std::path::PathBuf;

use super::*;

const FILES: [(&str, &[u8]); 4] = [
    ("identity.p12", include_bytes!("stores/identity.p12")),
    ("roots.p12", include_bytes!("stores/roots.p12")),
    ("identity.jks", include_bytes!("stores/identity.jks")),
    ("roots.jks", include_bytes!("stores/roots.jks")),
];

/// A folder with the stores, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ottla-stores-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("there is room");
        for (name, bytes) in FILES {
            std::fs::write(path.join(name), bytes).expect("there is room");
        }
        Folder(path)
    }

    fn tls(&self, form: &str) -> Tls {
        let file = |name: &str| self.0.join(format!("{name}.{form}"));
        Tls::new().roots_file(file("roots")).identity_file(file("identity"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn stores_of_java_are_opened_by_their_passwords_and_hold_roots_and_an_identity() {
    let folder = Folder::new("opened");
    for form in ["p12", "jks"] {
        let tls = folder.tls(form).roots_password("of-store").identity_password("of-store");
        let tls = if form == "jks" { tls.key_password("of-key") } else { tls };
        assert_eq!(tls.load_roots().expect("they are there").len(), 1, "{form}");
        let config = tls.load().expect("key and certificate belong together");
        assert!(config.client_auth_cert_resolver.has_certs(), "{form}");
    }
}

/// SEC10: what is told is the setting and the file, and no password.
#[test]
fn a_store_whose_password_is_wrong_or_that_is_cut_off_names_the_setting() {
    let folder = Folder::new("locked");
    let check = |tls: Tls, part: &str| {
        let error = tls.load().err().unwrap_or_else(|| panic!("{part} is taken")).to_string();
        assert!(error.contains(part) && !error.contains("canary"), "{error}");
    };
    for form in ["p12", "jks"] {
        let tls = || folder.tls(form).roots_password("of-store");
        check(folder.tls(form).roots_password("canary"), "ssl.truststore.location");
        check(tls().identity_password("canary"), "ssl.keystore.location");
        check(tls(), "ssl.keystore.location");
        std::fs::write(folder.0.join(format!("identity.{form}")), &FILES[0].1[..100]).expect("there is room");
        check(tls().identity_password("of-store"), "ssl.keystore.location");
    }
    let folder = Folder::new("key");
    let tls = folder.tls("jks").roots_password("of-store").identity_password("of-store");
    check(tls.key_password("canary"), "ssl.keystore.location");
}
