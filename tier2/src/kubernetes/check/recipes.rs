//! Whether every recipe can be read, and its chart be fetched.

use std::path::Path;

use sinfonia_recipes::Repository;
use sinfonia_wire::ApplicationId;

use super::{ChartCheck, Finding, Verdict};

pub(super) async fn check(repository: &Repository, chart: &ChartCheck) -> Vec<Finding> {
    let Some(directory) = repository.directory() else {
        let sentence = "come from a URL, which does not list them: each is read when it is asked for";
        return vec![Finding::new("recipes", Verdict::Ok, sentence)];
    };
    let applications = match applications(directory) {
        Ok(applications) => applications,
        Err(error) => {
            let sentence = format!("{} cannot be listed: {error}", directory.display());
            return vec![Finding::new("recipes", Verdict::Problem, sentence)];
        }
    };
    let mut findings = vec![];
    let mut charts = 0;
    for application in &applications {
        match look(repository, chart, application).await {
            Ok(()) => charts += 1,
            Err(finding) => findings.push(finding),
        }
    }
    let all = applications.len();
    match all {
        0 => findings.push(Finding::new(
            "recipes",
            Verdict::Problem,
            format!("there is no <uuid>.yaml in {}: nothing can be deployed", directory.display()),
        )),
        _ if findings.is_empty() => {
            findings.push(Finding::new(
                "recipes",
                Verdict::Ok,
                format!("{all} can be read, and their {charts} charts fetched"),
            ));
        }
        _ => {}
    }
    findings
}

async fn look(repository: &Repository, chart: &ChartCheck, application: &ApplicationId) -> Result<(), Finding> {
    let recipe = repository
        .get(application)
        .await
        .map_err(|error| Finding::new("recipes", Verdict::Problem, error.to_string()))?;
    let problem = |reason: String| Finding::new("charts", Verdict::Problem, format!("recipe {application}: {reason}"));
    let source = repository.chart(&recipe).map_err(|error| problem(error.to_string()))?;
    chart(source).await.map_err(problem)
}

/// The applications that have a file, in order.
fn applications(directory: &Path) -> std::io::Result<Vec<ApplicationId>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".yaml"));
        let application: Option<ApplicationId> = stem.and_then(|stem| stem.parse().ok());
        found.extend(application);
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use futures_util::FutureExt as _;
    use sinfonia_recipes::ChartSource;

    use super::*;

    const GOOD: &str = "00000000-0000-0000-0000-000000000001";
    const LOST: &str = "00000000-0000-0000-0000-000000000002";
    const BROKEN: &str = "00000000-0000-0000-0000-000000000003";

    fn charts() -> ChartCheck {
        Arc::new(|source| {
            let lost = matches!(&source, ChartSource::File(file) if file.ends_with("lost-1.0.0.tgz"));
            std::future::ready(if lost { Err("chart lost-1.0.0.tgz is not there".to_owned()) } else { Ok(()) }).boxed()
        })
    }

    #[tokio::test]
    async fn each_recipe_and_chart_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let write = |application: &str, text: &str| {
            fs::write(directory.path().join(format!("{application}.yaml")), text).unwrap();
        };
        fs::write(directory.path().join("values.yaml"), "no recipe").unwrap();
        let repository = Repository::open(directory.path().to_str().unwrap()).unwrap();
        assert_eq!(check(&repository, &charts()).await[0].verdict, Verdict::Problem, "nothing there");
        write(GOOD, "chart: good\nversion: 1.0.0\n");
        assert_eq!(check(&repository, &charts()).await[0].sentence, "1 can be read, and their 1 charts fetched");
        write(LOST, "chart: lost\nversion: 1.0.0\n");
        write(BROKEN, "chart: [\n");
        let findings = check(&repository, &charts()).await;
        assert_eq!(findings.iter().map(|finding| finding.what).collect::<Vec<_>>(), ["charts", "recipes"]);
        assert!(findings[0].sentence.contains(LOST) && findings[0].sentence.contains("not there"));
        assert!(findings[1].sentence.contains(BROKEN), "{}", findings[1].sentence);
    }
}
