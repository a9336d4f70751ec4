//! What Helm's complaints mean. Helm has no other way to tell than its words, which are those of Helm 3, of the API
//! server and of the chart's author.

use super::HelmError;
use crate::kubernetes::text;

mod forbidden;
#[cfg(test)]
mod tests;

/// The longest reason, characters.
const REASON_LIMIT: usize = 400;

/// Words about charts that do not become objects. The author's own words come after these.
const BROKEN: [&str; 10] = [
    "execution error at (",
    "parse error at (",
    "YAML parse error on ",
    "template: ",
    "unable to build kubernetes objects ",
    "Chart.yaml file is missing",
    "chart.metadata",
    "validation: ",
    "cannot load ",
    "unexpected EOF",
];

/// Words of a connection that broke, or of an API server that cannot answer now.
const UNREACHABLE: [&str; 14] = [
    "Kubernetes cluster unreachable",
    "dial tcp",
    "connection refused",
    "connection reset by peer",
    "i/o timeout",
    "TLS handshake timeout",
    "http2: ",
    "net/http: ",
    "context deadline exceeded",
    "etcdserver: ",
    "server is currently unable to handle the request",
    "server was unable to return a response",
    "apiserver is shutting down",
    "Too Many Requests",
];

/// The cause in what Helm wrote to its standard error.
pub(super) fn classify(complaints: &str) -> HelmError {
    let words = essence(complaints);
    let reason = || text::line(words.strip_prefix("Kubernetes cluster unreachable: ").unwrap_or(&words), REASON_LIMIT);
    let says = |part: &str| words.contains(part);
    // First, because a chart's author can make it say anything after that.
    if BROKEN.iter().any(|start| words.starts_with(start)) || says("does not appear to be a gzipped archive") {
        return HelmError::ChartInvalid(reason());
    }
    if says("another operation (install/upgrade/rollback) is in progress")
        || says("has no deployed releases")
        || says("release: already exists")
        || says("cannot re-use a name that is still in use")
    {
        return HelmError::Busy;
    }
    if let Some(values) = words.split_once("values don't meet the specifications of the schema") {
        return HelmError::ValuesInvalid(values_reason(values.1));
    }
    if let Some(path) = text::between(&words, "path \"", "\" not found") {
        return HelmError::ChartNotFound { chart: text::line(path, REASON_LIMIT) };
    }
    if says("provide credentials") || says("Unauthorized") || is_about_records(&words) {
        return HelmError::NoRights(reason());
    }
    if UNREACHABLE.iter().any(|part| says(part)) {
        return HelmError::Unreachable(reason());
    }
    if says("because it is being terminated") || (says("namespaces \"") && words.ends_with("\" not found")) {
        return HelmError::NamespaceEnding;
    }
    if let Some(error) = forbidden::refusal(&words) {
        return error;
    }
    if let Some((_, hook)) = words.split_once("failed pre-").or_else(|| words.split_once("failed post-")) {
        let hook = hook.split_once(':').map_or(hook, |(_, rest)| rest);
        let hook = hook.replace("timed out waiting for the condition", "it did not end in time");
        return HelmError::Hook(text::line(&hook, REASON_LIMIT));
    }
    if says(" is invalid: ") || says("exists and cannot be imported") || says("Too long: ") || says("entity too large")
    {
        return HelmError::ChartInvalid(reason());
    }
    HelmError::Failed(if words.is_empty() { "it does not say why".to_owned() } else { reason() })
}

/// Helm's words as one line.
pub(super) fn reason(complaints: &str) -> String {
    text::line(&essence(complaints), REASON_LIMIT)
}

/// The error alone: no log lines of Helm's libraries, none of its prefixes, lists of one as their only item.
fn essence(complaints: &str) -> String {
    let lines = complaints.lines().map(str::trim).filter(|line| !line.is_empty() && !is_log(line));
    let lines = lines.map(|line| line.strip_prefix("* ").unwrap_or(line));
    let lines = lines.map(without_count).filter(|line| !line.is_empty());
    let mut words = lines.collect::<Vec<_>>().join("\n");
    // Before it may stand the log of a hook, which says what its author likes.
    if let Some(begin) = words.rfind("\nError: ") {
        words.drain(..=begin);
    }
    for prefix in ["Error:", "UPGRADE FAILED:", "INSTALLATION FAILED:"] {
        if let Some(rest) = words.strip_prefix(prefix) {
            words = rest.trim_start().to_owned();
        }
    }
    words
}

/// klog lines as `I1124 19:13:34.590819   23005 warnings.go:107] ...`, and Helm's own warnings.
fn is_log(line: &str) -> bool {
    let klog = line.starts_with(['I', 'W', 'E', 'F'])
        && line.get(1..5).is_some_and(|date| date.bytes().all(|byte| byte.is_ascii_digit()))
        && line.contains(".go:");
    klog || line.starts_with("WARNING: ") || line.starts_with("level=") || line.starts_with("coalesce.go:")
}

/// `1 error occurred:` announces a list, at the end of a line.
fn without_count(line: &str) -> &str {
    let counted = line.strip_suffix(" error occurred:").or_else(|| line.strip_suffix(" errors occurred:"));
    let Some(counted) = counted else { return line };
    counted.trim_end_matches(|character: char| character.is_ascii_digit()).trim_end()
}

/// Helm's own records are Secrets that the account may always use, once its rights are known.
fn is_about_records(words: &str) -> bool {
    let records = [
        "query: failed to query",
        "create: failed to create",
        "get: failed to get",
        "list: failed to list",
        "update: failed to update",
    ];
    records.iter().any(|start| words.starts_with(start))
        && words.contains(" cannot ")
        && words.contains("resource \"secrets\"")
}

/// `- at '/port': got string, want integer` for each value that does not fit.
fn values_reason(list: &str) -> String {
    let items: Vec<String> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- at '"))
        .filter_map(|item| item.split_once("': "))
        .map(|(path, problem)| match path.trim_start_matches('/').replace('/', ".") {
            path if path.is_empty() => problem.to_owned(),
            path => format!("{path}: {problem}"),
        })
        .collect();
    let all = if items.is_empty() {
        list.trim_start_matches("(s) in the following chart(s):").trim()
    } else {
        &items.join("; ")
    };
    text::line(all, REASON_LIMIT)
}
