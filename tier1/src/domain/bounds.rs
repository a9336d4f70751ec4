//! How much a report may say: everybody asked for a cloudlet reads it, and a database has to take and add up all of it.

use sinfonia_wire::CloudletInfo;
use thiserror::Error;

/// Places one cloudlet may be at, and resources and labels it may have.
const ENTRIES: usize = 100;
/// Networks in one list.
const NETWORKS: usize = 1_000;
/// Characters of a name.
const NAME: usize = 256;
/// Characters of a label's value.
const VALUE: usize = 1_024;
/// Largest reading, of either sign. Sums of squares of larger ones may be infinite.
const READING: f64 = 1e18;

/// Which limit a report is beyond.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum BoundsError {
    /// Too many of them.
    #[error("{what} has {count} entries: report at most {limit}")]
    Entries {
        /// Member of the report.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Too long.
    #[error("{what} has {length} characters: report at most {limit}")]
    Length {
        /// Whose text it is.
        what: String,
        /// Its characters.
        length: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Not for people, and not for databases.
    #[error("{what} has the control character {character:?}: leave it out")]
    Control {
        /// Whose text it is.
        what: String,
        /// The first one.
        character: char,
    },
    /// Not a measurement of anything.
    #[error("resource {name:?} is {value:e}: report at most {READING:e}, of either sign")]
    Reading {
        /// Name of the resource.
        name: String,
        /// The reading.
        value: f64,
    },
}

/// Checks what a cloudlet says of itself.
///
/// # Errors
/// The first limit that it is beyond.
pub fn check(info: &CloudletInfo) -> Result<(), BoundsError> {
    let networks = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
    entries("locations", info.locations.as_ref().map_or(0, Vec::len), ENTRIES)?;
    entries("local_networks", networks(&info.local_networks), NETWORKS)?;
    entries("accepted_clients", networks(&info.accepted_clients), NETWORKS)?;
    entries("rejected_clients", networks(&info.rejected_clients), NETWORKS)?;
    entries("resources", info.resources.iter().count(), ENTRIES)?;
    entries("labels", info.labels.len(), ENTRIES)?;
    info.name.as_ref().map_or(Ok(()), |name| text(|| "the name".to_owned(), name, NAME))?;
    for (name, value) in info.resources.iter() {
        text(|| format!("the resource {}", shown(name)), name, NAME)?;
        if value.abs() > READING {
            return Err(BoundsError::Reading { name: name.to_owned(), value });
        }
    }
    for (name, value) in &info.labels {
        text(|| format!("the label {}", shown(name)), name, NAME)?;
        text(|| format!("the value of the label {}", shown(name)), value, VALUE)?;
    }
    Ok(())
}

fn entries(what: &'static str, count: usize, limit: usize) -> Result<(), BoundsError> {
    if count > limit { Err(BoundsError::Entries { what, count, limit }) } else { Ok(()) }
}

fn text(what: impl Fn() -> String, text: &str, limit: usize) -> Result<(), BoundsError> {
    // There are never more characters than bytes.
    if text.len() > limit {
        let length = text.chars().count();
        if length > limit {
            return Err(BoundsError::Length { what: what(), length, limit });
        }
    }
    let control = text.chars().find(|character| character.is_control());
    control.map_or(Ok(()), |character| Err(BoundsError::Control { what: what(), character }))
}

/// As much of a name as is needed to find it.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(members: Value) -> Result<(), String> {
        let mut report = json!({"endpoint": "http://cloudlet/api/v1/deploy"});
        report.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        check(&serde_json::from_value(report).unwrap()).map_err(|error| error.to_string())
    }

    fn numbered(count: usize, value: impl Into<Value>) -> Value {
        let value = value.into();
        (0..count).map(|number| (format!("n{number}"), value.clone())).collect::<serde_json::Map<_, _>>().into()
    }

    #[test]
    fn what_a_cloudlet_may_well_say_is_taken() {
        let networks = vec!["10.0.0.0/8"; NETWORKS];
        let all = json!({
            "name": "é".repeat(NAME),
            "locations": vec![[1, 2]; ENTRIES],
            "local_networks": networks,
            "accepted_clients": networks,
            "rejected_clients": networks,
            "resources": numbered(ENTRIES, -1e18),
            "labels": numbered(ENTRIES, "x".repeat(VALUE)),
        });
        assert_eq!(checked(all), Ok(()));
        assert_eq!(checked(json!({})), Ok(()));
    }

    #[test]
    fn what_is_beyond_is_named() {
        for (members, reason) in [
            (json!({"name": "é".repeat(NAME + 1)}), "the name has 257 characters: report at most 256"),
            (json!({"name": "a\u{0}b"}), r"the name has the control character '\0': leave it out"),
            (json!({"locations": vec![[1, 2]; ENTRIES + 1]}), "locations has 101 entries: report at most 100"),
            (json!({"local_networks": vec!["::/0"; NETWORKS + 1]}), "local_networks has 1001 entries"),
            (json!({"accepted_clients": vec!["::/0"; NETWORKS + 1]}), "accepted_clients has 1001 entries"),
            (json!({"rejected_clients": vec!["::/0"; NETWORKS + 1]}), "rejected_clients has 1001 entries"),
            (json!({"resources": numbered(ENTRIES + 1, 1)}), "resources has 101 entries"),
            (json!({"resources": {"a\u{0}": 1}}), r#"the resource "a\0" has the control character"#),
            (json!({"resources": {"x".repeat(NAME + 1): 1}}), "characters: report at most 256"),
            (json!({"resources": {"cpu": -1e19}}), r#"resource "cpu" is -1e19: report at most 1e18, of either sign"#),
            (json!({"labels": numbered(ENTRIES + 1, "")}), "labels has 101 entries"),
            (json!({"labels": {"a\n": ""}}), r#"the label "a\n" has the control character '\n'"#),
            (json!({"labels": {"a": "\u{7f}"}}), r#"the value of the label "a" has the control character"#),
            (json!({"labels": {"a": "x".repeat(VALUE + 1)}}), "1025 characters: report at most 1024"),
        ] {
            let error = checked(members).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
