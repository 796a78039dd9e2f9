//! Reading a configuration that was written for Kafka's Java client or for librdkafka.
//!
//! It owns the way from texts to settings. It refuses to know ranges and contradictions, which stand beside the
//! settings. Invariant: a property file means here what it means in Java, also by what it leaves out.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use ottla_partitioners::Scheme;
use ottla_protocol::records::Compression;
use ottla_protocol::wire::Str;

use super::keys::{self, KEYS, Key, Known, Rule};
use super::nearest::{nearest_key, nearest_value};
use super::problem::{ConfigError, Findings};
use super::producer::level_key;
use super::security::Written;
use super::{ClientBuilder, ClientConfig, ConsumerConfig, PartitionerChoice, ProducerConfig, Reset, When};
use crate::error::Error;

/// The settings of a file while it is read, with what several keys decide together.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) client: ClientConfig,
    pub(super) producer: ProducerConfig,
    pub(super) consumer: ConsumerConfig,
    pub(super) gzip_level: Option<i32>,
    pub(super) lz4_level: Option<i32>,
    pub(super) zstd_level: Option<i32>,
    pub(super) any_level: Option<i32>,
    pub(super) ignore_keys: bool,
    pub(super) auto_commit: bool,
    pub(super) auto_commit_interval: Duration,
    pub(super) security: Written,
    found: Findings,
}

/// Which keys a file sets, by their Java names, each with the name that the file uses.
type Given = BTreeMap<&'static str, &'static str>;

impl ClientBuilder {
    /// Reads settings by the names of Kafka's Java client or of librdkafka; those of producers and consumers become
    /// what this client's producers and consumers start from. What is left out has Java's default, not this crate's,
    /// so that the same file gives the same behaviour. The typed setters can be used on the result.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](crate::ErrorKind::Config), with every problem in it: unknown keys, with the nearest known
    /// one; values that cannot be read or lie outside of their range; keys that contradict each other; keys for what
    /// this version cannot do yet. Keys without an effect here are listed by [`warnings`](Self::warnings).
    ///
    /// ```
    /// use ottla::ClientBuilder;
    ///
    /// let error = ClientBuilder::from_properties([("fetch.min.byte", "1"), ("linger.ms", "soon")]).unwrap_err();
    /// let text = error.to_string();
    /// assert!(text.contains("unknown key fetch.min.byte; did you mean fetch.min.bytes?"));
    /// assert!(text.contains("linger.ms is soon: it must be a whole number of milliseconds"));
    /// ```
    pub fn from_properties<K, V>(properties: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut draft = Draft::java();
        let mut given = Given::new();
        for (key, value) in properties {
            draft.take(key.as_ref().trim(), value.as_ref().trim(), &mut given);
        }
        Ok(draft.finish(&given)?)
    }
}

impl Draft {
    /// What a file means that names nothing.
    fn java() -> Draft {
        let mut draft = Draft::default();
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            draft.set(key, key.name, key.default);
        }
        draft
    }

    fn take(&mut self, key: &str, value: &str, given: &mut Given) {
        match keys::find(key) {
            Some(Known::Key(key)) => self.take_known(key, value, given),
            Some(Known::NotYet(key, reason)) => self.found.add(ConfigError::NotSupportedYet { key, reason }),
            Some(Known::NotApplicable(key, reason)) => {
                self.found.add(ConfigError::NotApplicable { key, reason })
            }
            Some(Known::Ignored(key, reason)) => self.found.warn(&[key], format!("ignored: {reason}")),
            None => {
                let nearest = nearest_key(key, keys::names());
                self.found.add(ConfigError::UnknownKey { key: key.to_owned(), nearest });
            }
        }
    }

    fn take_known(&mut self, key: &'static Key, value: &str, given: &mut Given) {
        let (meant, value) = match key.rule {
            Rule::Alias(of) => (of, value.to_owned()),
            Rule::Kibibytes(of) => {
                match value.parse::<u64>().ok().and_then(|count| count.checked_mul(1024)) {
                    Some(bytes) => (of, bytes.to_string()),
                    None => return self.found.bad_value(key.name, value, "a whole number of 1,024 bytes"),
                }
            }
            Rule::Set(_) | Rule::Only(..) => (key.name, value.to_owned()),
        };
        if let Some(other) = given.insert(meant, key.name) {
            self.found.contradiction(&[other, key.name], "they set the same thing; keep one");
        }
        if let Some(Known::Key(meaning)) = keys::find(meant) {
            self.set(meaning, key.name, &value);
        }
    }

    /// Sets what `key` means; problems are told under the name that was `written`.
    fn set(&mut self, key: &'static Key, written: &'static str, text: &str) {
        let result = match key.rule {
            Rule::Set(setter) => setter(self, Value { key: written, text }),
            Rule::Only(value, _) if text.eq_ignore_ascii_case(value) => Ok(()),
            Rule::Only(_, reason) => Err(ConfigError::NotSupportedYet { key: written, reason }),
            Rule::Alias(_) | Rule::Kibibytes(_) => Ok(()),
        };
        if let Err(error) = result {
            self.found.add(error);
        }
    }

    /// A partitioner by Java's class name or by librdkafka's name.
    pub(super) fn partitioner(&mut self, value: Value<'_>) -> Result<(), ConfigError> {
        let simple = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
        let known = Scheme::names().find(|name| *name == value.text || simple(name) == value.text);
        match known.and_then(Scheme::named) {
            Some(scheme) => self.producer.partitioner = PartitionerChoice::Scheme(scheme),
            None => {
                let names: Vec<_> = Scheme::names().map(simple).collect();
                return Err(value.none_of(&names));
            }
        }
        Ok(())
    }

    /// Records are bytes here, and Java's own formats have counterparts that a program names by type.
    pub(super) fn format(&mut self, value: Value<'_>) -> Result<(), ConfigError> {
        if value.text.starts_with("org.apache.kafka.common.serialization.") {
            self.found
                .warn(&[value.key], "ignored: records are bytes, and the program names their format by type");
            return Ok(());
        }
        let reason = "records are bytes, and of formats only Java's own have counterparts";
        Err(ConfigError::NotSupportedYet { key: value.key, reason })
    }

    fn finish(mut self, given: &Given) -> Result<ClientBuilder, ConfigError> {
        self.settle_compression(given);
        self.settle_commit(given);
        self.client.security = std::mem::take(&mut self.security).settle(&mut self.found);
        self.producer.idempotence_named = given.contains_key("enable.idempotence");
        self.producer.transaction_timeout_named = given.contains_key("transaction.timeout.ms");
        self.producer.delivery_timeout_named = given.contains_key("delivery.timeout.ms");
        if self.ignore_keys && !given.contains_key("partitioner.class") {
            self.producer.partitioner = PartitionerChoice::Scheme(Scheme::JavaIgnoreKeys);
        }
        let backoff = ["reconnect.backoff.ms", "reconnect.backoff.max.ms"];
        if given.contains_key(backoff[0]) && !given.contains_key(backoff[1]) {
            self.client.reconnect_backoff_max = self.client.reconnect_backoff;
            self.found.warn(&backoff, "only the first is set, so the wait does not grow");
        }
        self.client.given = given.keys().copied().chain(implied(given)).collect();
        self.check();
        let warnings = self.found.finish()?;
        let (config, producer, consumer) = (self.client, self.producer, self.consumer);
        Ok(ClientBuilder { config, producer, consumer, warnings, ..ClientBuilder::default() })
    }

    fn settle_compression(&mut self, given: &Given) {
        let codec = self.producer.compression;
        let own = match codec {
            Compression::Gzip => self.gzip_level,
            Compression::Lz4 => self.lz4_level,
            Compression::Zstd => self.zstd_level,
            Compression::None | Compression::Snappy => None,
        };
        if own.is_some() && self.any_level.is_some() {
            self.found
                .contradiction(&["compression.level", level_key(codec)], "they set the same thing; keep one");
        }
        let has_levels = !matches!(codec, Compression::None | Compression::Snappy);
        if given.contains_key("compression.level") && !has_levels {
            self.found
                .warn(&["compression.level", "compression.type"], format!("ignored: {codec} has no levels"));
        }
        // librdkafka's -1 is the codec's own default, whichever codec it is.
        self.producer.compression_level = own.or(self.any_level.filter(|level| has_levels && *level != -1));
    }

    fn settle_commit(&mut self, given: &Given) {
        self.consumer.when = match (self.auto_commit, self.auto_commit_interval) {
            (false, _) => When::Manual,
            (true, Duration::ZERO) => When::EachBatch,
            (true, interval) => When::Every(interval),
        };
        self.consumer.when_named = given.contains_key("enable.auto.commit");
    }

    /// Applies the rules to copies: what they settle and warn of is the business of whoever builds the handle.
    fn check(&mut self) {
        let mut client = self.client.clone();
        let mut found = Findings::default();
        client.check_values(&mut found);
        let results =
            [found.finish(), self.producer.clone().check(&client), self.consumer.clone().check(&client)];
        for error in results.into_iter().filter_map(Result::err) {
            self.found.add(error);
        }
    }
}

/// The settings that a file has set by keys of other names.
fn implied(given: &Given) -> impl Iterator<Item = &'static str> {
    let pairs = [
        ("auto.commit.interval.ms", "enable.auto.commit"),
        ("auto.offset.reset", "on_out_of_range"),
        ("compression.gzip.level", "compression.level"),
        ("compression.lz4.level", "compression.level"),
        ("compression.zstd.level", "compression.level"),
        ("partitioner.ignore.keys", "partitioner.class"),
    ];
    pairs.into_iter().filter(|(key, _)| given.contains_key(key)).map(|(_, implied)| implied)
}

/// One value of a file. Each method reads it as something and puts that where it belongs.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) key: &'static str,
    pub(super) text: &'a str,
}

impl Value<'_> {
    pub(super) fn number<T: FromStr>(self, field: &mut T) -> Result<(), ConfigError> {
        *field = self.text.parse().map_err(|_| self.bad("a whole number, and not beyond all bounds"))?;
        Ok(())
    }

    pub(super) fn millis(self, field: &mut Duration) -> Result<(), ConfigError> {
        let millis = self.text.parse().map_err(|_| self.bad("a whole number of milliseconds from 0"))?;
        *field = Duration::from_millis(millis);
        Ok(())
    }

    pub(super) fn seconds(self, field: &mut Duration) -> Result<(), ConfigError> {
        let seconds = self.text.parse().map_err(|_| self.bad("a whole number of seconds from 0"))?;
        *field = Duration::from_secs(seconds);
        Ok(())
    }

    pub(super) fn flag(self, field: &mut bool) -> Result<(), ConfigError> {
        self.choice(field, &[("true", true), ("false", false)])
    }

    pub(super) fn level(self, field: &mut Option<i32>) -> Result<(), ConfigError> {
        let mut level = 0;
        self.number(&mut level)?;
        *field = Some(level);
        Ok(())
    }

    /// Java's -1 and librdkafka's 0 leave the size to the operating system.
    pub(super) fn socket_buffer(self, field: &mut Option<u32>) -> Result<(), ConfigError> {
        *field = match self.text {
            "-1" | "0" => None,
            text => Some(
                text.parse().map_err(|_| self.bad("a number of bytes, or -1 for the operating system's"))?,
            ),
        };
        Ok(())
    }

    /// A name; an empty one counts as not set, as in Java.
    pub(super) fn name(self, field: &mut Option<Str>) -> Result<(), ConfigError> {
        *field = Some(Str::from(self.text)).filter(|name| !name.is_empty());
        Ok(())
    }

    pub(super) fn text(self, field: &mut String) -> Result<(), ConfigError> {
        self.text.clone_into(field);
        Ok(())
    }

    pub(super) fn tls_versions(self, only_13: &mut bool) -> Result<(), ConfigError> {
        let named: Vec<_> = self.items().collect();
        if named.iter().any(|name| !["TLSv1.2", "TLSv1.3"].contains(name)) || !named.contains(&"TLSv1.3") {
            return Err(self.bad("TLSv1.3, or TLSv1.2,TLSv1.3"));
        }
        *only_13 = named.len() == 1;
        Ok(())
    }

    pub(super) fn list(self, field: &mut Vec<String>) -> Result<(), ConfigError> {
        *field = self.items().map(str::to_owned).collect();
        Ok(())
    }

    pub(super) fn compression(self, field: &mut Compression) -> Result<(), ConfigError> {
        let known = Compression::ALL.map(|compression| (compression.name(), compression));
        self.choice(field, &known)
    }

    pub(super) fn choice<T: Copy>(
        self,
        field: &mut T,
        known: &[(&'static str, T)],
    ) -> Result<(), ConfigError> {
        *field = self.find(self.text, known)?;
        Ok(())
    }

    /// A word, or `by_duration:` with a duration as Java writes it.
    pub(super) fn reset(self, field: &mut Reset, known: &[(&'static str, Reset)]) -> Result<(), ConfigError> {
        let Some(duration) = self.text.strip_prefix("by_duration:") else { return self.choice(field, known) };
        let form = "a word like latest, or by_duration:PnDTnHnMnS";
        *field = Reset::ByDuration(iso_duration(duration).ok_or_else(|| self.bad(form))?);
        Ok(())
    }

    /// A list of names or of Java classes of which only the last part counts.
    pub(super) fn choices<T: Clone>(
        self,
        field: &mut Vec<T>,
        known: &[(&'static str, Option<T>)],
    ) -> Result<(), ConfigError> {
        let simple = |name: &'_ str| name.rsplit('.').next().unwrap_or_default().to_owned();
        *field = self.items().map(|item| self.find_built(&simple(item), known)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn items(&self) -> impl Iterator<Item = &str> {
        self.text.split(',').map(str::trim).filter(|item| !item.is_empty())
    }

    fn find<T: Clone>(self, text: &str, known: &[(&'static str, T)]) -> Result<T, ConfigError> {
        let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        found.map(|(_, value)| value.clone()).ok_or_else(|| Value { text, ..self }.none_of(&names()))
    }

    fn find_built<T: Clone>(self, text: &str, known: &[(&'static str, Option<T>)]) -> Result<T, ConfigError> {
        let built: Vec<_> =
            known.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
        self.find(text, known)?.ok_or_else(|| ConfigError::BadValue {
            key: self.key,
            value: text.to_owned(),
            expected: format!("one of {}; this one is not supported yet", built.join(", ")),
            nearest: None,
        })
    }

    fn none_of(self, names: &[&'static str]) -> ConfigError {
        ConfigError::BadValue {
            key: self.key,
            value: self.text.to_owned(),
            expected: format!("one of {}", names.join(", ")),
            nearest: nearest_value(self.text, names.iter().copied()),
        }
    }

    fn bad(self, expected: impl Display) -> ConfigError {
        ConfigError::BadValue {
            key: self.key,
            value: self.text.to_owned(),
            expected: expected.to_string(),
            nearest: None,
        }
    }
}

/// `P1DT2H3M4.5S`, any part of it, as ISO 8601 and Java's `Duration` have it. Not negative.
fn iso_duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text.strip_prefix('P')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    for (mut rest, units) in [(days, &[('D', 86_400)][..]), (time, &[('H', 3_600), ('M', 60), ('S', 1)])] {
        for (unit, seconds) in units {
            let Some((number, after)) = rest.split_once(*unit) else { continue };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
                return None;
            }
            if number.contains('.') && (*unit != 'S' || fraction.is_empty()) {
                return None;
            }
            let nanos = format!("{fraction:0<9}").parse().ok()?;
            let whole = whole.parse::<u64>().ok()?.checked_mul(*seconds)?;
            total = total.checked_add(Duration::new(whole, nanos))?;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(total)
}
