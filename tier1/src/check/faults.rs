//! Everything that is wrong with a document, where reading it would stop at the first.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Deserializer, Path, Segment, Track};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

/// More are not told: by then something else is the matter with the document.
const MOST: usize = 100;

/// What is wrong with a document that should be a `T`.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Each with the path of the field at fault.
    pub(super) errors: Vec<String>,
    /// Paths of fields that a `T` does not have.
    pub(super) unknown: Vec<String>,
}

impl Faults {
    /// Takes out what is wrong and reads the rest again, until nothing is.
    pub(super) fn of<T: DeserializeOwned>(mut document: Value) -> Self {
        let mut faults = Self::default();
        let mut removed = Removed::default();
        while faults.errors.len() < MOST {
            faults.unknown.clear();
            let mut track = Track::new();
            let reader = Deserializer::new(&document, &mut track);
            let read: Result<T, _> = serde_ignored::deserialize(reader, |path| {
                // An option in between is no part of the path that people know.
                faults.unknown.push(path.to_string().replace(".?", ""));
            });
            let Err(reason) = read else { break };
            let path = track.path();
            let reason = reason.to_string();
            let place = removed.take(&mut document, &path);
            if !removed.is_missed(place.as_deref(), &reason) {
                let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
                faults.errors.push(format!("{place}{reason}"));
            }
            // Of the document as a whole, such as a field that is missing.
            if place.is_none() {
                break;
            }
        }
        faults
    }
}

/// What was taken out.
#[derive(Default)]
struct Removed {
    /// Items of lists, by the path of the list: their numbers, in order.
    items: HashMap<String, Vec<usize>>,
    /// Paths of fields.
    fields: HashSet<String>,
}

impl Removed {
    /// Whether a field is said to be missing only because it was taken out.
    fn is_missed(&self, place: Option<&str>, reason: &str) -> bool {
        let name = reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        name.is_some_and(|name| self.fields.contains(&joined(place.unwrap_or_default(), name)))
    }

    /// Takes out what is at the path, and tells where it was at first. None for the document itself.
    fn take(&mut self, document: &mut Value, path: &Path) -> Option<String> {
        let mut at = document;
        let mut place = String::new();
        let mut segments = path.iter().peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            at = match (segment, at) {
                (Segment::Map { key }, Value::Object(fields)) => {
                    place = joined(&place, key);
                    if is_last {
                        self.fields.insert(place.clone());
                        return fields.remove(key).map(|_| place);
                    }
                    fields.get_mut(key)?
                }
                (Segment::Seq { index }, Value::Array(items)) => {
                    let removed = self.items.entry(place.clone()).or_default();
                    let first = removed.iter().fold(*index, |number, gone| number + usize::from(*gone <= number));
                    let _ = write!(place, "[{first}]");
                    if is_last {
                        let position = removed.partition_point(|gone| *gone < first);
                        removed.insert(position, first);
                        return (*index < items.len()).then(|| items.remove(*index)).map(|_| place);
                    }
                    items.get_mut(*index)?
                }
                _ => return None,
            };
        }
        None
    }
}

fn joined(place: &str, field: &str) -> String {
    if place.is_empty() { field.to_owned() } else { format!("{place}.{field}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Sample {
        count: u8,
        list: Option<Vec<u8>>,
        inner: Option<Inner>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        flag: bool,
    }

    #[test]
    fn all_faults_are_told_with_their_places() {
        let faults = Faults::of::<Sample>(json!({
            "count": 300, "list": [1, -2, 3, "four", 5, 600], "inner": {"flag": 7, "flog": true}, "lost": 1
        }));
        let places: Vec<_> = faults.errors.iter().filter_map(|error| error.split(": ").next()).collect();
        assert_eq!(places, ["count", "inner.flag", "list[1]", "list[3]", "list[5]"]);
        let faults = Faults::of::<Sample>(json!({"count": 1, "inner": {"flag": true, "flog": 1}, "lost": 1}));
        assert_eq!((faults.errors.len(), faults.unknown), (0, vec!["inner.flog".to_owned(), "lost".to_owned()]));
    }
}
