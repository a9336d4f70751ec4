use std::collections::BTreeSet;

/// A kind of object whose availability is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of Kubernetes")]
pub enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    Pod,
}

/// Which kinds a release has, which is what has to be watched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kinds(BTreeSet<Kind>);

impl Kinds {
    /// Every kind: for a release of which nothing is known.
    #[must_use]
    pub fn all() -> Self {
        use Kind::{DaemonSet, Deployment, Job, Pod, ReplicaSet, StatefulSet};
        Self([Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, Pod].into())
    }

    /// The kinds in a release's manifest as Helm writes it: YAML documents. A list counts as every kind.
    #[must_use]
    pub fn of_manifest(manifest: &str) -> Self {
        let mut kinds = BTreeSet::new();
        let mut document = Vec::new();
        for line in manifest.lines().chain(["---"]) {
            if !line.starts_with("---") {
                document.push(line);
                continue;
            }
            match kind_of(&document) {
                Some(Named::Workload(kind)) => drop(kinds.insert(kind)),
                Some(Named::Other) | None => {}
                Some(Named::Unclear) => return Self::all(),
            }
            document.clear();
        }
        Self(kinds)
    }

    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the kind is among them.
    #[must_use]
    pub fn contains(&self, kind: Kind) -> bool {
        self.0.contains(&kind)
    }
}

enum Named {
    Workload(Kind),
    Other,
    Unclear,
}

/// None for a document without content.
fn kind_of(document: &[&str]) -> Option<Named> {
    let mut content = document.iter().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let kind = document.iter().find_map(|line| line.strip_prefix("kind:"));
    content.next()?;
    let Some(kind) = kind else { return Some(Named::Unclear) };
    let kind = kind.split(" #").next().unwrap_or(kind).trim().trim_matches(['"', '\'']);
    Some(match kind {
        "Deployment" => Named::Workload(Kind::Deployment),
        "StatefulSet" => Named::Workload(Kind::StatefulSet),
        "DaemonSet" => Named::Workload(Kind::DaemonSet),
        "ReplicaSet" => Named::Workload(Kind::ReplicaSet),
        "Job" => Named::Workload(Kind::Job),
        "Pod" => Named::Workload(Kind::Pod),
        "" => Named::Unclear,
        list if list.ends_with("List") => Named::Unclear,
        _ => Named::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_in_manifests() {
        let manifest = "---\n# Source: a\napiVersion: v1\nkind: Service\nmetadata:\n  name: a\n---\n# Source: b\nkind: Deployment # here\nspec:\n  kind: Pod\n--- # Source: c\n\n# nothing\n---\n\"apiVersion\": v1\nkind: \"Job\"\n";
        assert_eq!(Kinds::of_manifest(manifest), Kinds([Kind::Deployment, Kind::Job].into()));
        assert!(Kinds::of_manifest("").is_empty());
        assert!(Kinds::of_manifest("---\nkind: ConfigMap\n").is_empty());
    }

    #[test]
    fn unclear_manifests_may_hold_every_kind() {
        for manifest in ["kind: List\nitems: []\n", "{\"kind\": \"Pod\"}\n", "kind:\n  Pod\n", "? kind\n: Pod\n"] {
            assert_eq!(Kinds::of_manifest(manifest), Kinds::all(), "{manifest}");
        }
    }
}
