//! TLS and logins, as providers of Kafka want them: what is in force for each, without connecting to anybody.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Client, ClientBuilder, Sasl, SecurityProtocol, Tls, Token, TokenFile};
use ottla_examples::Failure;

/// Passwords and keys are no part of a program.
fn secret(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| format!("the variable {name} is not set"))
}

fn main() -> Result<(), Failure> {
    // TLS believes the operating system's roots; a private CA is named by `Tls::roots_file`.
    let builder = || Client::builder().bootstrap("broker.example.com:9093").tls(Tls::new());

    // Confluent Cloud (an API key), Azure Event Hubs (the user is $ConnectionString).
    show("PLAIN", builder().sasl(Sasl::plain("api-key", secret("API_SECRET"))))?;

    // Redpanda Cloud (SHA-256), Amazon MSK (SHA-512, port 9096), Aiven (with its CA): nobody sends the password.
    show("SCRAM", builder().sasl(Sasl::scram_sha_512("alice", secret("PASSWORD"))))?;

    // Tokens of an identity provider. One that says how long it is valid is kept, and the next is there before it ends.
    let tokens = || async { Ok(Token::new(secret("TOKEN")).valid_for(Duration::from_secs(3_600))) };
    show("OAUTHBEARER", builder().sasl(Sasl::oauth_bearer(tokens)))?;

    // A token that Kubernetes keeps up to date in a file. With the crate's features there are also `Oidc` and `MskIam`.
    show("a token file", builder().sasl(Sasl::oauth_bearer(TokenFile::new("/var/run/secrets/kafka/token"))))?;

    // Without TLS everybody on the way can read along; that has to be named.
    let bare =
        || Client::builder().bootstrap("localhost:9092").sasl(Sasl::plain("alice", secret("PASSWORD")));
    println!("refused: {}\n", bare().build().expect_err("it would be read on the way"));
    show("without TLS", bare().security_protocol(SecurityProtocol::SaslPlaintext))
}

fn show(name: &str, builder: ClientBuilder) -> Result<(), Failure> {
    println!("{name}");
    let explained = builder.build()?.explain()?;
    for setting in ["security.protocol", "sasl.mechanism", "tls"] {
        let line = explained.settings().iter().find(|line| line.key == setting);
        println!("  {setting} = {}", line.map_or("", |line| &line.value));
    }
    println!();
    Ok(())
}
