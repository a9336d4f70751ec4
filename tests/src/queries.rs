//! Everything that the dashboards and the rules ask of Prometheus and Jaeger.

use serde_json::Value;

use crate::prometheus::RULES;

/// The dashboards that are shipped, by name.
pub const DASHBOARDS: [(&str, &str); 4] = [
    ("overview", include_str!("../../deploy/dashboards/overview.json")),
    ("tier1", include_str!("../../deploy/dashboards/tier1.json")),
    ("cloudlet", include_str!("../../deploy/dashboards/cloudlet.json")),
    ("deployment", include_str!("../../deploy/dashboards/deployment.json")),
];

/// Asked of Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Where it is from.
    pub origin: String,
    /// What it asks, without Grafana's variables.
    pub query: String,
}

/// The choice that a variable of a dashboard offers: the values of a label.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Where it is from.
    pub origin: String,
    /// The series whose labels are looked at.
    pub selector: String,
    /// The label.
    pub label: String,
}

/// A search for traces.
#[derive(Debug, Clone)]
pub struct Search {
    /// Where it is from.
    pub origin: String,
    /// The service of a span in the trace.
    pub service: String,
    /// Its name.
    pub operation: String,
}

/// All panels with what they are asked, and the dashboard.
pub fn panels() -> Vec<(&'static str, Value)> {
    let mut found = Vec::new();
    for (name, text) in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(text).unwrap();
        let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
        found.extend(panels.map(|panel| (name, panel.clone())));
    }
    found
}

/// The queries of all panels and rules. An alert's are both sides of its comparison, since it has data itself only
/// while something is wrong.
pub fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for (dashboard, panel) in panels() {
        for target in panel["targets"].as_array().unwrap() {
            if let Some(query) = target["expr"].as_str() {
                let origin = format!("{dashboard}: {}", panel["title"]);
                found.push(Query { origin, query: without_variables(query) });
            }
        }
    }
    for (name, query, is_alert) in rules() {
        let sides = if is_alert { sides(&query) } else { vec![query.as_str()] };
        let of_rule = |side: &str| Query { origin: format!("rule {name}"), query: side.to_owned() };
        found.extend(sides.into_iter().map(of_rule));
    }
    found
}

/// What the variables of the dashboards can be.
pub fn choices() -> Vec<Choice> {
    let mut found = Vec::new();
    for (dashboard, text) in DASHBOARDS {
        let dashboard_json: Value = serde_json::from_str(text).unwrap();
        for variable in dashboard_json["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inside.and_then(|inside| inside.rsplit_once(", ")).unwrap();
            let origin = format!("{dashboard}: {}", variable["name"]);
            found.push(Choice { origin, selector: selector.to_owned(), label: label.to_owned() });
        }
    }
    found
}

/// The searches of all panels.
pub fn searches() -> Vec<Search> {
    let mut found = Vec::new();
    for (dashboard, panel) in panels() {
        for target in panel["targets"].as_array().unwrap().iter().filter(|target| target["queryType"] == "search") {
            let text = |name: &str| target[name].as_str().unwrap().to_owned();
            let origin = format!("{dashboard}: {}", panel["title"]);
            found.push(Search { origin, service: text("service"), operation: text("operation") });
        }
    }
    found
}

/// Name, expression, and whether it is an alert, of every rule.
fn rules() -> Vec<(String, String, bool)> {
    let mut found = Vec::new();
    let mut lines = RULES.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((kind, name)) = line.trim().strip_prefix("- ").and_then(|rest| rest.split_once(": ")) else {
            continue;
        };
        if !["record", "alert"].contains(&kind) {
            continue;
        }
        let first = lines.next().unwrap().trim().strip_prefix("expr: ").unwrap_or_else(|| panic!("no expr: of {name}"));
        let mut query = first.to_owned();
        if first == ">-" {
            query.clear();
            while let Some(line) = lines.next_if(|line| line.starts_with("          ")) {
                query = query + line.trim() + " ";
            }
        }
        found.push((name.to_owned(), query, kind == "alert"));
    }
    found
}

/// The sides of a comparison that are not numbers.
fn sides(query: &str) -> Vec<&str> {
    let (mut depth, mut quoted) = (0, false);
    let mut at = None;
    for (index, character) in query.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '(' | '{' | '[' if !quoted => depth += 1,
            ')' | '}' | ']' if !quoted => depth -= 1,
            '<' | '>' | '=' | '!' if depth == 0 && !quoted => {
                at = Some(index);
                break;
            }
            _ => {}
        }
    }
    let (left, right) = query.split_at(at.unwrap_or_else(|| panic!("no comparison: {query}")));
    let right = right.trim_start_matches(['<', '>', '=', '!']);
    [left, right].into_iter().map(str::trim).filter(|side| side.parse::<f64>().is_err()).collect()
}

/// Grafana's variables, all of which stand for everything.
fn without_variables(query: &str) -> String {
    let mut left = query.replace("$__rate_interval", "5m");
    while let Some(start) = left.find('$') {
        let end = left[start + 1..].find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let end = end.map_or(left.len(), |length| start + 1 + length);
        left.replace_range(start..end, ".*");
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn names(directory: &str, extension: &str) -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let entries = fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.extension().is_some_and(|of| of == extension));
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_dashboard_is_tested() {
        assert_eq!(names("deploy/dashboards", "json"), DASHBOARDS.map(|(name, _)| name.to_owned()).into());
    }

    #[test]
    fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
        let named = RULES.lines().filter_map(|line| line.trim().strip_prefix("runbook: docs/runbooks/"));
        let named: BTreeSet<_> = named.map(|file| file.strip_suffix(".md").unwrap().to_owned()).collect();
        assert_eq!(names("docs/runbooks", "md"), named);
        assert_eq!(rules().iter().filter(|(_, _, is_alert)| *is_alert).count(), named.len());
    }

    #[test]
    fn panels_say_what_they_show_and_use_variables_that_are_there() {
        for (name, text) in DASHBOARDS {
            let dashboard: Value = serde_json::from_str(text).unwrap();
            let variables = dashboard["templating"]["list"].as_array().unwrap();
            let is_known =
                |word: &str| word.starts_with("__") || variables.iter().any(|variable| variable["name"] == *word);
            for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
                let title = &panel["title"];
                assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {title}");
                assert!(!panel["targets"].as_array().unwrap().is_empty(), "{name}: {title}");
                let text = panel.to_string();
                for word in text.split('$').skip(1) {
                    let word = word.trim_start_matches('{');
                    let end = word.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
                    assert!(is_known(&word[..end.unwrap()]), "{name}: {title}: ${word}");
                }
            }
        }
    }

    #[test]
    fn dashboards_have_ids_of_their_own_and_panels_do_not_overlap() {
        let mut uids = BTreeSet::new();
        for (name, text) in DASHBOARDS {
            let dashboard: Value = serde_json::from_str(text).unwrap();
            assert!(uids.insert(dashboard["uid"].to_string()), "{name}");
            let mut taken = BTreeSet::new();
            let mut ids = BTreeSet::new();
            for panel in dashboard["panels"].as_array().unwrap() {
                assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {}", panel["title"]);
                let place = |field: &str| panel["gridPos"][field].as_u64().unwrap();
                assert!(place("x") + place("w") <= 24, "{name}: {}", panel["title"]);
                for x in place("x")..place("x") + place("w") {
                    for y in place("y")..place("y") + place("h") {
                        assert!(taken.insert((x, y)), "{name}: {} lies on another", panel["title"]);
                    }
                }
            }
        }
    }

    #[test]
    fn sides_of_comparisons() {
        assert_eq!(sides("up{job=~\"a\"} == 0"), ["up{job=~\"a\"}"]);
        assert_eq!(sides("a < 0.75 * b"), ["a", "0.75 * b"]);
        assert_eq!(sides("sum by (a) (b{c!=\"\"}) != 1"), ["sum by (a) (b{c!=\"\"})"]);
    }

    #[test]
    fn variables() {
        assert_eq!(without_variables("a{b=~\"$c\"}[$__rate_interval]"), "a{b=~\".*\"}[5m]");
    }

    #[test]
    fn there_are_queries_of_every_kind() {
        assert!(queries().len() > 60 && choices().len() >= 4 && searches().len() >= 4);
        assert!(queries().iter().all(|query| !query.query.contains('$')));
    }
}
