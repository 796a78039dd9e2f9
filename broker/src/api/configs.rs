//! DescribeConfigs, IncrementalAlterConfigs and AlterConfigs: the settings of topics and of the broker.
//!
//! DescribeConfigs versions 1 to 4: whole, but for the documentation (null). IncrementalAlterConfigs versions 0 and 1, and
//! AlterConfigs versions 0 to 2: whole. Honoured: topics, and brokers, whose settings can change while they run where Kafka's
//! can; all nodes share one configuration, so a change that names one of them is a change of all. Refused: groups, client
//! metrics and loggers (INVALID_REQUEST). A topic's change takes effect at once.

use super::{Caller, Refuse};
use crate::core::authorizer::{self, CLUSTER_NAME, Operation};
use crate::core::settings::{BrokerKey, Given, Kind, SettingError, TOPIC_KEYS, TopicKey};
use crate::core::topics::Topic;
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, AlteredConfigsResource, DescribeConfigsRequest,
    DescribeConfigsResource, DescribeConfigsResponse, DescribeConfigsResult, DescribedConfig,
    DescribedConfigSynonym, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    IncrementalAlterableConfig,
};
use ottla_protocol::wire::Str;
use std::collections::BTreeSet;

// Types of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

// Where a value comes from.
const DYNAMIC_TOPIC: i8 = 1;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

// Changes.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// An error code and what to tell the administrator.
type Refused = (ErrorCode, String);

impl From<SettingError> for Refused {
    fn from(error: SettingError) -> Self {
        (ErrorCode::INVALID_CONFIG, error.to_string())
    }
}

fn invalid<T>(reason: String) -> Result<T, Refused> {
    Err((ErrorCode::INVALID_REQUEST, reason))
}

fn whole(code: ErrorCode) -> Refused {
    (code, code.message().to_string())
}

impl Refuse for DescribeConfigsRequest {
    type Response = DescribeConfigsResponse;

    fn refuse(&self, code: ErrorCode) -> DescribeConfigsResponse {
        let results = self.resources.iter().map(|it| described(it, Err(whole(code)))).collect();
        DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
    }
}

impl Refuse for IncrementalAlterConfigsRequest {
    type Response = IncrementalAlterConfigsResponse;

    fn refuse(&self, code: ErrorCode) -> IncrementalAlterConfigsResponse {
        let refused = self.resources.iter();
        let responses =
            refused.map(|it| altered(it.resource_type, &it.resource_name, Err(whole(code)))).collect();
        IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
    }
}

impl Refuse for AlterConfigsRequest {
    type Response = AlterConfigsResponse;

    fn refuse(&self, code: ErrorCode) -> AlterConfigsResponse {
        let refused = self.resources.iter();
        let responses =
            refused.map(|it| altered(it.resource_type, &it.resource_name, Err(whole(code)))).collect();
        AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }
    }
}

fn described(
    asked: &DescribeConfigsResource,
    found: Result<Vec<DescribedConfig>, Refused>,
) -> DescribeConfigsResult {
    let (configs, (error_code, message)) = match found {
        Ok(configs) => (configs, (ErrorCode::NONE, None)),
        Err((code, message)) => (Vec::new(), (code, Some(Str::from(message)))),
    };
    DescribeConfigsResult {
        error_code,
        error_message: message,
        resource_type: asked.resource_type,
        resource_name: asked.resource_name.clone(),
        configs,
    }
}

fn altered(resource_type: i8, name: &Str, outcome: Result<(), Refused>) -> AlteredConfigsResource {
    let (error_code, error_message) = match outcome {
        Ok(()) => (ErrorCode::NONE, None),
        Err((code, message)) => (code, Some(Str::from(message))),
    };
    AlteredConfigsResource { error_code, error_message, resource_type, resource_name: name.clone() }
}

/// The values that a setting has in different places, the one that counts first.
type Places = Vec<(String, Option<String>, i8)>;

fn entry(name: &str, kind: Kind, read_only: bool, mut places: Places, synonyms: bool) -> DescribedConfig {
    let is_sensitive = kind == Kind::Password;
    if is_sensitive {
        places.iter_mut().for_each(|(_, value, _)| *value = None);
    }
    let (_, value, source) = places.first().cloned().unwrap_or((String::new(), None, DEFAULT));
    if !synonyms {
        places.clear();
    }
    let synonym = |(name, value, source): (String, Option<String>, i8)| DescribedConfigSynonym {
        name: Str::from(name),
        value: value.map(Str::from),
        source,
    };
    DescribedConfig {
        name: Str::from(name),
        value: value.map(Str::from),
        read_only,
        config_source: source,
        is_sensitive,
        synonyms: places.into_iter().map(synonym).collect(),
        config_type: kind.wire_type(),
        documentation: None,
    }
}

impl Cluster {
    pub(crate) fn describe_configs(
        &mut self,
        _: Now,
        caller: &Caller,
        request: DescribeConfigsRequest,
    ) -> DescribeConfigsResponse {
        let describe = |asked: &DescribeConfigsResource| {
            let (of, name) = (asked.resource_type, &asked.resource_name);
            let allowed = self.may(caller, Operation::DescribeConfigs, of, name);
            let found = allowed.and_then(|()| match of {
                TOPIC => self.described_topic(&asked.resource_name, request.include_synonyms),
                BROKER => self.described_broker(caller, &asked.resource_name, request.include_synonyms),
                other => invalid(format!("resources of type {other} have no configuration here")),
            });
            let wanted = asked.configuration_keys.as_deref().unwrap_or_default();
            let found = found.map(|mut entries| {
                entries.retain(|entry| wanted.is_empty() || wanted.contains(&entry.name));
                entries
            });
            described(asked, found)
        };
        let results = request.resources.iter().map(describe).collect();
        DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
    }

    fn described_topic(&self, name: &str, synonyms: bool) -> Result<Vec<DescribedConfig>, Refused> {
        let topic = self.known_topic(name)?;
        let describe = |key: &TopicKey| {
            let own = topic.settings.given.get(key.name);
            let fallback = key.fallback(&self.settings.given);
            let scaled = fallback.as_ref().map(|(_, text)| text.to_string());
            let value = own.cloned().or(scaled).unwrap_or_else(|| key.default.to_string());
            let own = own.map(|text| (key.name.to_string(), Some(text.clone()), DYNAMIC_TOPIC));
            // The broker's are shown in their own units.
            let given = fallback.map(|(name, _)| {
                (name.to_string(), self.settings.given.get(name).cloned(), self.source_of(name))
            });
            let last = key.fallbacks.last().map_or(key.name, |(name, _)| name);
            let default = BrokerKey::find(last).map_or(Some(key.default.to_string()), |key| key.default);
            let places = own.into_iter().chain(given).chain([(last.to_string(), default, DEFAULT)]).collect();
            let entry = entry(key.name, key.kind, false, places, synonyms);
            DescribedConfig { value: Some(Str::from(value)), ..entry }
        };
        Ok(TOPIC_KEYS.iter().map(describe).collect())
    }

    fn described_broker(
        &self,
        caller: &Caller,
        name: &str,
        synonyms: bool,
    ) -> Result<Vec<DescribedConfig>, Refused> {
        let is_default = name.is_empty();
        if !is_default && name.parse() != Ok(caller.node) {
            let reason = format!(
                "Unexpected broker id, expected {} or empty string, but received {name}",
                caller.node
            );
            return invalid(reason);
        }
        let mut entries = Vec::new();
        for key in BrokerKey::all() {
            let given = |map: &Given, source| {
                map.get(key.name).map(|text| (key.name.to_string(), Some(text.clone()), source))
            };
            let dynamic = given(&self.dynamic, DYNAMIC_DEFAULT_BROKER);
            if is_default && dynamic.is_none() {
                continue;
            }
            let fixed = given(&self.fixed, STATIC_BROKER);
            let default = key.default.clone().map(|text| (key.name.to_string(), Some(text), DEFAULT));
            let places: Places = dynamic.into_iter().chain(fixed).chain(default).collect();
            entries.push(entry(key.name, key.kind, !key.dynamic, places, synonyms));
        }
        Ok(entries)
    }

    fn source_of(&self, name: &str) -> i8 {
        if self.dynamic.contains_key(name) { DYNAMIC_DEFAULT_BROKER } else { STATIC_BROKER }
    }

    fn known_topic(&self, name: &str) -> Result<&Topic, Refused> {
        let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no topic {name}"));
        self.topics.get(name).ok_or_else(unknown)
    }

    pub(crate) fn incremental_alter_configs(
        &mut self,
        now: Now,
        caller: &Caller,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let named = request.resources.iter().map(|it| (it.resource_type, &*it.resource_name));
        let twice = repeated(named);
        let alter = |(it, twice): (&_, bool)| {
            let it: &ottla_protocol::messages::IncrementalAlterConfigsResource = it;
            let (of, name) = (it.resource_type, &it.resource_name);
            let outcome = match twice {
                true => invalid(format!("{name} is named twice")),
                false => self.alterable(caller, of, name).and_then(|mut given| {
                    change(of, &mut given, &it.configs)?;
                    self.put_overrides(now, of, name, given, request.validate_only)
                }),
            };
            altered(of, name, outcome)
        };
        let responses = request.resources.iter().zip(twice).map(alter).collect();
        IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
    }

    pub(crate) fn alter_configs(
        &mut self,
        now: Now,
        caller: &Caller,
        request: AlterConfigsRequest,
    ) -> AlterConfigsResponse {
        let named = request.resources.iter().map(|it| (it.resource_type, &*it.resource_name));
        let twice = repeated(named);
        let mut responses = Vec::new();
        for (it, twice) in request.resources.iter().zip(twice) {
            let (of, name) = (it.resource_type, &it.resource_name);
            let outcome = match twice {
                true => invalid(format!("{name} is named twice")),
                false => {
                    let sets = it.configs.iter().map(|config| IncrementalAlterableConfig {
                        name: config.name.clone(),
                        config_operation: SET,
                        value: config.value.clone(),
                    });
                    let mut given = Given::new();
                    let changed = change(of, &mut given, &sets.collect::<Vec<_>>());
                    changed
                        .and_then(|()| self.alterable(caller, of, name).map(|_| ()))
                        .and_then(|()| self.put_overrides(now, of, name, given, request.validate_only))
                }
            };
            responses.push(altered(of, name, outcome));
        }
        AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }
    }

    /// Whether somebody may do this with the configuration of a resource.
    fn may(&self, caller: &Caller, operation: Operation, of: i8, name: &str) -> Result<(), Refused> {
        let checked = match of {
            TOPIC => self.access.check(caller, authorizer::Kind::Topic, name, operation),
            _ => self.access.check(caller, authorizer::Kind::Cluster, CLUSTER_NAME, operation),
        };
        checked.map_err(whole)
    }

    /// What a resource overrides now, for somebody who may change it.
    fn alterable(&self, caller: &Caller, of: i8, name: &str) -> Result<Given, Refused> {
        self.may(caller, Operation::AlterConfigs, of, name)?;
        self.overrides(of, name)
    }

    /// What a resource overrides now.
    fn overrides(&self, of: i8, name: &str) -> Result<Given, Refused> {
        match of {
            TOPIC => Ok(self.known_topic(name)?.settings.given.clone()),
            BROKER => {
                let is_node = name.parse().is_ok_and(|id| self.nodes.contains_key(&id));
                match name.is_empty() || is_node {
                    true => Ok(self.dynamic.clone()),
                    false => invalid(format!("there is no node {name}")),
                }
            }
            other => invalid(format!("resources of type {other} have no configuration here")),
        }
    }

    fn put_overrides(
        &mut self,
        now: Now,
        of: i8,
        name: &str,
        given: Given,
        validate_only: bool,
    ) -> Result<(), Refused> {
        let failed = |error| (ErrorCode::KAFKA_STORAGE_ERROR, format!("it cannot be written: {error}"));
        if of == TOPIC {
            let settings = self.topic_settings(given)?;
            return match validate_only {
                true => Ok(()),
                false => self.change_topic(now, name, settings).map_err(failed),
            };
        }
        let settings = self.configured(&given)?;
        match validate_only {
            true => Ok(()),
            false => self.reconfigure(now, settings, given).map_err(failed),
        }
    }
}

/// For each resource, whether it is named more than once.
fn repeated<'a>(named: impl Iterator<Item = (i8, &'a str)> + Clone) -> Vec<bool> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<(i8, &str)> = named.clone().filter(|it| !seen.insert(*it)).collect();
    named.map(|it| twice.contains(&it)).collect()
}

/// Changes what a resource overrides, as asked.
fn change(of: i8, given: &mut Given, asked: &[IncrementalAlterableConfig]) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    for change in asked {
        let name = &*change.name;
        if !seen.insert(name) {
            return invalid(format!("{name} is named twice"));
        }
        let (name, kind, default) = match of {
            TOPIC => {
                let key = TopicKey::find(name)?;
                (key.name, key.kind, Some(key.default.to_string()))
            }
            _ => {
                let key = BrokerKey::find(name)?;
                if !key.dynamic {
                    return invalid(format!("Cannot update these configs dynamically: {name}"));
                }
                (key.name, key.kind, key.default)
            }
        };
        let value = || match change.value.as_deref() {
            Some(value) => Ok(value.trim()),
            None => invalid(format!("Null value not supported for : {name}")),
        };
        let list = || {
            let now = given.get(name).cloned().or(default.clone()).unwrap_or_default();
            now.split(',').map(|it| it.trim().to_string()).filter(|it| !it.is_empty()).collect::<Vec<_>>()
        };
        let text = match change.config_operation {
            SET => value()?.to_string(),
            DELETE => {
                given.remove(name);
                continue;
            }
            APPEND | SUBTRACT if !matches!(kind, Kind::List(_)) => {
                return Err((
                    ErrorCode::INVALID_CONFIG,
                    format!("Can't append or subtract: {name} is no list"),
                ));
            }
            APPEND => {
                let mut words = list();
                let more = value()?.split(',').map(|it| it.trim().to_string());
                more.for_each(|word| words.extend((!words.contains(&word)).then_some(word)));
                words.join(",")
            }
            SUBTRACT => {
                let mut words = list();
                let less: Vec<&str> = value()?.split(',').map(str::trim).collect();
                words.retain(|word| !less.contains(&&**word));
                words.join(",")
            }
            other => return invalid(format!("{other} is no change of a setting")),
        };
        kind.check(name, &text)?;
        given.insert(name.to_string(), text);
    }
    Ok(())
}
