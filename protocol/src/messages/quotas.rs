//! Quotas of clients (KIP-546).

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::Str;

message! {
    /// Asks for the quotas of clients (KIP-546).
    DescribeClientQuotasRequest: key 48, versions 0..=1, flexible 1, answer DescribeClientQuotasResponse {
        components: Vec<QuotaFilterComponent>,
        strict:     bool,
    }

    /// Matches a part of an entity: 0 by name, 1 the default, 2 any.
    QuotaFilterComponent {
        entity_type: Str,
        match_type:  i8,
        r#match:     Option<Str> = Some(Str::default()),
    }

    /// The quotas.
    DescribeClientQuotasResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>                 = Some(Str::default()),
        entries:          Option<Vec<DescribedQuota>> = Some(Vec::new()),
    }

    /// The quotas of one entity.
    DescribedQuota {
        entity: Vec<QuotaEntity>,
        values: Vec<QuotaValue>,
    }

    /// A part of an entity: a user, a client id or an address. A null name is the default.
    QuotaEntity {
        entity_type: Str,
        entity_name: Option<Str> = Some(Str::default()),
    }

    /// A quota.
    QuotaValue {
        key:   Str,
        value: f64,
    }

    /// Changes the quotas of clients (KIP-546).
    AlterClientQuotasRequest: key 49, versions 0..=1, flexible 1, answer AlterClientQuotasResponse {
        entries:       Vec<AlterQuota>,
        validate_only: bool,
    }

    /// The changes for one entity.
    AlterQuota {
        entity: Vec<QuotaEntity>,
        ops:    Vec<QuotaOperation>,
    }

    /// A quota to set or to remove.
    QuotaOperation {
        key:    Str,
        value:  f64,
        remove: bool,
    }

    /// The outcome for each entity.
    AlterClientQuotasResponse {
        throttle_time_ms: i32,
        entries:          Vec<AlteredQuota>,
    }

    /// The outcome for one entity.
    AlteredQuota {
        error_code:    ErrorCode,
        error_message: Option<Str>      = Some(Str::default()),
        entity:        Vec<QuotaEntity>,
    }
}
