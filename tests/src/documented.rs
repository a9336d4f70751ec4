//! `docs/telemetry.md` as tests read it, and what it should agree with.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::collector::Collector;

const DOCUMENT: &str = include_str!("../../docs/telemetry.md");

/// Attributes that are whole numbers, as semantic conventions have them.
const NUMBERS: [&str; 2] = ["http.response.status_code", "server.port"];

/// What only programs of others that use tier3's library export.
const OF_THE_LIBRARY: (&str, &str) = ("run", "process.executable.name");

/// The document's tables.
pub struct Documented {
    /// Metrics of the OpenTelemetry kind.
    pub metrics: Vec<MetricRow>,
    /// Metrics that are in Prometheus' text only.
    pub plain: Vec<PlainRow>,
    /// Spans.
    pub spans: Vec<SpanRow>,
}

/// A row of the table of metrics.
#[derive(Debug, Clone)]
pub struct MetricRow {
    /// Its name.
    pub name: String,
    /// Its name in Prometheus.
    pub prometheus: String,
    /// As in [`crate::SeenMetric`].
    pub kind: String,
    /// Its unit.
    pub unit: String,
    /// Its attributes.
    pub attributes: BTreeSet<String>,
    /// The programs it is of, such as `tier2` and `tier2 on Kubernetes`.
    pub of: Vec<String>,
}

/// A row of the table of Prometheus' own metrics.
#[derive(Debug, Clone)]
pub struct PlainRow {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its labels.
    pub labels: BTreeSet<String>,
}

/// A row of the table of spans.
#[derive(Debug, Clone)]
pub struct SpanRow {
    /// Its name, or a template of it.
    pub name: String,
    /// Its name in logs and in the code.
    pub logged: String,
    /// `server`, `client` or `internal`.
    pub kind: String,
    /// Its attributes.
    pub attributes: BTreeSet<String>,
    /// As in [`MetricRow`].
    pub of: Vec<String>,
}

impl Documented {
    /// Reads the document.
    ///
    /// # Panics
    /// When it has not the form it should have.
    pub fn read() -> Self {
        let metrics = rows("metric").into_iter().map(|row| MetricRow {
            name: word(&row[0]),
            prometheus: word(&row[1]),
            kind: row[2].clone(),
            unit: word(&row[3]),
            attributes: words(&row[4]),
            of: list(&row[5]),
        });
        let plain = rows("in Prometheus").into_iter().map(|row| PlainRow {
            name: word(&row[0]),
            kind: row[1].clone(),
            labels: words(&row[2]),
        });
        let spans = rows("span").into_iter().map(|row| SpanRow {
            name: word(&row[0]),
            logged: word(&row[1]),
            kind: row[2].clone(),
            attributes: words(&row[3]),
            of: list(&row[4]),
        });
        Self { metrics: metrics.collect(), plain: plain.collect(), spans: spans.collect() }
    }

    /// What was exported and is not in the document, or otherwise there.
    pub fn undocumented(&self, collector: &Collector) -> Vec<String> {
        let mut complaints = BTreeSet::new();
        for ((service, name), seen) in collector.metrics() {
            let row = self.metrics.iter().find(|row| row.name == name && is_of(&row.of, &service));
            let agrees = row.is_some_and(|row| {
                row.kind == seen.kind && row.unit == seen.unit && seen.attributes.is_subset(&row.attributes)
            });
            if !agrees {
                complaints.insert(format!("metric {name} of {service}: {seen:?}, documented: {row:?}"));
            }
        }
        for (service, span) in collector.spans() {
            let attributes: BTreeSet<_> = span.attributes.iter().map(|attribute| attribute.key.clone()).collect();
            for attribute in span.attributes.iter().filter(|attribute| NUMBERS.contains(&attribute.key.as_str())) {
                let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
                if !matches!(value, Some(Value::IntValue(_))) {
                    complaints.insert(format!("{} of span {} of {service}: {value:?}", attribute.key, span.name));
                }
            }
            let row = self.row(&service, &span.name, span.kind);
            if row.is_none_or(|row| !attributes.is_subset(&row.attributes)) {
                let (name, kind) = (&span.name, span.kind);
                complaints
                    .insert(format!("span {name} of {service} (kind {kind}): {attributes:?}, documented: {row:?}"));
            }
        }
        complaints.into_iter().collect()
    }

    /// What the document says of these programs and none exported.
    pub fn unseen(&self, collector: &Collector, programs: &[&str]) -> Vec<String> {
        let mut complaints = Vec::new();
        let metrics = collector.metrics();
        for row in &self.metrics {
            for program in row.of.iter().filter(|program| programs.contains(&program.as_str())) {
                let seen = metrics.get(&(service(program), row.name.clone())).cloned().unwrap_or_default();
                if seen.kind.is_empty() || seen.attributes != row.attributes {
                    complaints.push(format!("metric of {program}: {row:?}, seen: {seen:?}"));
                }
            }
        }
        let mut spans = BTreeMap::<(String, &str), BTreeSet<String>>::new();
        for (service, span) in collector.spans() {
            if let Some(row) = self.row(&service, &span.name, span.kind) {
                let attributes = span.attributes.into_iter().map(|attribute| attribute.key);
                spans.entry((service, row.name.as_str())).or_default().extend(attributes);
            }
        }
        for row in &self.spans {
            for program in row.of.iter().filter(|program| programs.contains(&program.as_str())) {
                let seen = spans.get(&(service(program), row.name.as_str()));
                let missing = |name: &&String| {
                    (row.name.as_str(), name.as_str()) != OF_THE_LIBRARY
                        && !seen.is_some_and(|attributes| attributes.contains(*name))
                };
                if seen.is_none() || row.attributes.iter().any(|name| missing(&name)) {
                    complaints.push(format!("span of {program}: {row:?}, seen: {seen:?}"));
                }
            }
        }
        complaints
    }

    /// What is in a program's text for Prometheus and not in the document, or otherwise there.
    pub fn undocumented_in_text(&self, program: &str, text: &str) -> Vec<String> {
        let service = service(program);
        let mut complaints = BTreeSet::new();
        let kinds: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        for (family, kind) in &kinds {
            // Every exporter of OpenTelemetry's has it.
            if *family == "target_info" {
                continue;
            }
            if self.in_text(&service, family).is_none_or(|(documented, _)| documented != *kind) {
                complaints.insert(format!("{family}, {kind}"));
            }
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, labels) = sample(line);
            let family = ["", "_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix));
            let Some(family) = family.into_iter().find(|family| kinds.contains_key(family)) else {
                complaints.insert(format!("{name} without a type"));
                continue;
            };
            let documented = self.in_text(&service, family).map(|(_, labels)| labels).unwrap_or_default();
            let unknown: Vec<_> =
                labels.iter().filter(|label| *label != "le" && !documented.contains(*label)).collect();
            if family != "target_info" && !unknown.is_empty() {
                complaints.insert(format!("labels {unknown:?} of {family}"));
            }
        }
        complaints.into_iter().collect()
    }

    /// The type and the labels that a metric has in the text of a service.
    fn in_text(&self, service: &str, family: &str) -> Option<(&str, BTreeSet<String>)> {
        let plain = self.plain.iter().find(|row| row.name == family && service == "sinfonia-gateway");
        if let Some(row) = plain {
            return Some((row.kind.as_str(), row.labels.clone()));
        }
        let row = self.metrics.iter().find(|row| row.prometheus == family && is_of(&row.of, service))?;
        let kind = if row.kind == "updowncounter" { "gauge" } else { row.kind.as_str() };
        Some((kind, row.attributes.iter().map(|name| name.replace('.', "_")).collect()))
    }

    fn row(&self, service: &str, name: &str, kind: i32) -> Option<&SpanRow> {
        let kind = match SpanKind::try_from(kind) {
            Ok(SpanKind::Server) => "server",
            Ok(SpanKind::Client) => "client",
            _ => "internal",
        };
        self.spans.iter().find(|row| row.kind == kind && is_of(&row.of, service) && is_like(&row.name, name))
    }
}

/// Whether a name is the template's.
fn is_like(template: &str, name: &str) -> bool {
    let is_method = |word: &str| word == "_OTHER" || word.bytes().all(|byte| byte.is_ascii_uppercase());
    match template {
        "{method}" => is_method(name),
        "{method} {route}" => match name.split_once(' ') {
            Some((method, route)) => is_method(method) && route.starts_with('/'),
            None => is_method(name),
        },
        _ => template == name,
    }
}

/// The `service.name` of a program in the document.
fn service(program: &str) -> String {
    format!("sinfonia-{}", program.split(' ').next().unwrap())
}

fn is_of(programs: &[String], service_name: &str) -> bool {
    programs.iter().any(|program| service(program) == service_name)
}

/// The name and the labels' names of a line of Prometheus' text.
fn sample(line: &str) -> (&str, BTreeSet<String>) {
    let Some((name, rest)) = line.split_once('{') else { return (line.split(' ').next().unwrap(), BTreeSet::new()) };
    let mut labels = BTreeSet::new();
    let mut rest = rest;
    // No value of ours holds an escaped quotation mark.
    while let Some((label, after)) = rest.split_once("=\"") {
        labels.insert(label.trim_start_matches(',').to_owned());
        rest = after.split_once('"').unwrap().1;
    }
    (name, labels)
}

/// The rows of the table whose first column has this heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let begins = format!("| {heading} |");
    let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(&begins));
    let columns = cells(lines.next().unwrap_or_else(|| panic!("no table of {heading}"))).len();
    let rows: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    for row in &rows {
        assert_eq!(row.len(), columns, "{row:?}");
    }
    assert!(!rows.is_empty(), "an empty table of {heading}");
    rows
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn word(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

fn words(cell: &str) -> BTreeSet<String> {
    cell.split(',').map(|part| word(part.trim())).filter(|word| !word.is_empty()).collect()
}

fn list(cell: &str) -> Vec<String> {
    cell.split(',').map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_prometheus_follow_from_the_others() {
        for row in Documented::read().metrics {
            let mut name = row.name.replace('.', "_");
            if row.unit == "s" {
                name += "_seconds";
            }
            if row.kind == "counter" {
                name += "_total";
            }
            assert_eq!(row.prometheus, name);
        }
    }

    #[test]
    fn templates() {
        for (template, name, is) in [
            ("{method}", "POST", true),
            ("{method}", "report", false),
            ("{method} {route}", "GET /healthz", true),
            ("{method} {route}", "_OTHER", true),
            ("{method} {route}", "GET healthz", false),
            ("report", "report", true),
            ("report", "reports", false),
        ] {
            assert_eq!(is_like(template, name), is, "{template} {name}");
        }
    }

    #[test]
    fn samples() {
        assert_eq!(sample("up 1"), ("up", BTreeSet::new()));
        let labels = ["a", "b"].map(str::to_owned).into();
        assert_eq!(sample("x{a=\"{1}, c=2\",b=\"\"} 3"), ("x", labels));
    }
}
