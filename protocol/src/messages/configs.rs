//! Configuration of topics, nodes, groups and clients.

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::Str;

message! {
    /// Asks for the configuration of resources.
    DescribeConfigsRequest: key 32, versions 1..=4, flexible 4, answer DescribeConfigsResponse {
        resources:             Vec<DescribeConfigsResource>,
        include_synonyms:      bool,
        include_documentation: bool                         [3..],
    }

    /// A resource to ask about; null keys means all entries.
    DescribeConfigsResource {
        resource_type:      i8,
        resource_name:      Str,
        configuration_keys: Option<Vec<Str>> = Some(Vec::new()),
    }

    /// The configurations.
    DescribeConfigsResponse {
        throttle_time_ms: i32,
        results:          Vec<DescribeConfigsResult>,
    }

    /// The configuration of one resource.
    DescribeConfigsResult {
        error_code:    ErrorCode,
        error_message: Option<Str>          = Some(Str::default()),
        resource_type: i8,
        resource_name: Str,
        configs:       Vec<DescribedConfig>,
    }

    /// A configuration entry.
    DescribedConfig {
        name:          Str,
        value:         Option<Str>                       = Some(Str::default()),
        read_only:     bool,
        config_source: i8                                = -1,
        is_sensitive:  bool,
        synonyms:      Vec<DescribedConfigSynonym>,
        config_type:   i8                          [3..],
        documentation: Option<Str>                 [3..] = Some(Str::default()),
    }

    /// Where else the entry is set, in order of precedence.
    DescribedConfigSynonym {
        name:   Str,
        value:  Option<Str> = Some(Str::default()),
        source: i8,
    }

    /// Replaces the whole configuration of resources. IncrementalAlterConfigs forgets nothing and is to be preferred.
    AlterConfigsRequest: key 33, versions 0..=2, flexible 2, answer AlterConfigsResponse {
        resources:     Vec<AlterConfigsResource>,
        validate_only: bool,
    }

    /// A resource and its new configuration.
    AlterConfigsResource {
        resource_type: i8,
        resource_name: Str,
        configs:       Vec<AlterableConfig>,
    }

    /// A configuration entry.
    AlterableConfig {
        name:  Str,
        value: Option<Str> = Some(Str::default()),
    }

    /// The outcome for each resource.
    AlterConfigsResponse {
        throttle_time_ms: i32,
        responses:        Vec<AlteredConfigsResource>,
    }

    /// The outcome for one resource.
    AlteredConfigsResource {
        error_code:    ErrorCode,
        error_message: Option<Str> = Some(Str::default()),
        resource_type: i8,
        resource_name: Str,
    }

    /// Changes single configuration entries of resources (KIP-339).
    IncrementalAlterConfigsRequest: key 44, versions 0..=1, flexible 1, answer IncrementalAlterConfigsResponse {
        resources:     Vec<IncrementalAlterConfigsResource>,
        validate_only: bool,
    }

    /// A resource and the changes to its configuration.
    IncrementalAlterConfigsResource {
        resource_type: i8,
        resource_name: Str,
        configs:       Vec<IncrementalAlterableConfig>,
    }

    /// A change: 0 set, 1 delete, 2 append, 3 subtract.
    IncrementalAlterableConfig {
        name:             Str,
        config_operation: i8,
        value:            Option<Str> = Some(Str::default()),
    }

    /// The outcome for each resource.
    IncrementalAlterConfigsResponse {
        throttle_time_ms: i32,
        responses:        Vec<AlteredConfigsResource>,
    }

    /// Asks which resources have a configuration (KIP-1142).
    ListConfigResourcesRequest: key 74, versions 0..=1, flexible 0, answer ListConfigResourcesResponse {
        resource_types: Vec<i8> [1..],
    }

    /// The resources.
    ListConfigResourcesResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        config_resources: Vec<ListedConfigResource>,
    }

    /// A resource.
    ListedConfigResource {
        resource_name: Str,
        resource_type: i8  [1..] = 16,
    }
}
