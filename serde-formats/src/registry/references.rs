//! The schemas that a schema refers to, and theirs.
//!
//! Invariant: each is fetched once, and what a registry claims ends at [`REFERENCES_MAX`], also where it goes round in circles.

use super::Registry;
use super::error::{RegistryError, RegistryErrorKind};
use super::schema::{RegistrySchema, SchemaReference, SchemaVersion, Version};

/// Schemas that one schema may need.
const REFERENCES_MAX: usize = 256;

/// What is known of the way, and where it goes on.
enum Step {
    Enter(SchemaReference),
    Leave(SchemaVersion),
}

pub(super) async fn resolve(
    registry: &Registry,
    schema: &RegistrySchema,
) -> Result<Vec<SchemaVersion>, RegistryError> {
    let mut found: Vec<SchemaVersion> = Vec::new();
    let mut seen: Vec<(String, i32)> = Vec::new();
    let mut way: Vec<Step> = schema.references.iter().rev().cloned().map(Step::Enter).collect();
    while let Some(step) = way.pop() {
        let reference = match step {
            Step::Leave(version) => {
                found.push(version);
                continue;
            }
            Step::Enter(reference) => reference,
        };
        let place = (reference.subject.clone(), reference.version);
        if seen.contains(&place) {
            continue;
        }
        if seen.len() >= REFERENCES_MAX {
            let message = format!("a schema refers to more than {REFERENCES_MAX} others");
            return Err(RegistryError::new(RegistryErrorKind::InvalidSchema, message));
        }
        seen.push(place);
        let version = registry.version(&reference.subject, Version::Number(reference.version)).await?;
        let more: Vec<_> = version.schema.references.iter().rev().cloned().map(Step::Enter).collect();
        way.push(Step::Leave(version));
        way.extend(more);
    }
    Ok(found)
}
