//! The fields of spans as log lines show them.

use std::fmt::{self, Write as _};

use serde::Serializer as _;
use tracing::span::Record;
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FormatFields, FormattedFields};

/// Room for the fields of most spans.
const USUAL_LENGTH: usize = 256;

/// Keeps the fields of a span as a JSON object. Unlike `JsonFields`, it does not read and write anew what it has when a
/// field is added, which happens to the span of every request.
#[derive(Debug)]
pub(crate) struct JsonObject;

impl<'writer> FormatFields<'writer> for JsonObject {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        writer.write_str(&object(&fields)?)
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        add_members(&mut current.fields, &object(fields)?);
        Ok(())
    }
}

/// Fields that can take one more, after they were formatted.
pub(crate) trait AddField: Sized {
    /// Adds the field `name` with `value`, which needs no escaping.
    fn add_field(fields: &mut FormattedFields<Self>, name: &str, value: &str);
}

impl AddField for JsonObject {
    fn add_field(fields: &mut FormattedFields<Self>, name: &str, value: &str) {
        add_members(&mut fields.fields, &format!(r#"{{"{name}":"{value}"}}"#));
    }
}

impl AddField for DefaultFields {
    fn add_field(fields: &mut FormattedFields<Self>, name: &str, value: &str) {
        let blank = if fields.fields.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = write!(fields.fields, "{blank}{name}={value}");
    }
}

fn object(fields: &impl RecordFields) -> Result<String, fmt::Error> {
    let mut text = Vec::with_capacity(USUAL_LENGTH);
    let mut json = serde_json::Serializer::new(&mut text);
    let mut visitor = SerdeMapVisitor::new(json.serialize_map(None).map_err(|_| fmt::Error)?);
    fields.record(&mut visitor);
    visitor.finish().map_err(|_| fmt::Error)?;
    String::from_utf8(text).map_err(|_| fmt::Error)
}

/// Adds what the JSON object `more` has to `object`. Of members of the same name, readers take the later.
fn add_members(object: &mut String, more: &str) {
    let (Some(kept), Some(added)) = (object.strip_suffix('}'), more.strip_prefix('{')) else {
        return;
    };
    let separator = if kept.ends_with('{') || added.starts_with('}') { "" } else { "," };
    object.truncate(kept.len());
    object.push_str(separator);
    object.push_str(added);
}

#[cfg(test)]
mod tests {
    use super::add_members;

    #[test]
    fn members_are_added_to_any_object() {
        for (object, more, expected) in [
            ("{}", "{}", "{}"),
            ("{}", r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, "{}", r#"{"a":1}"#),
            (r#"{"a":{}}"#, r#"{"b":"}"}"#, r#"{"a":{},"b":"}"}"#),
        ] {
            let mut object = object.to_owned();
            add_members(&mut object, more);
            assert_eq!(object, expected);
        }
    }
}
