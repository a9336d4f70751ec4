//! A Prometheus (Debian's) with the rules of `deploy/prometheus`.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::process::{Running, eventually};
use crate::world::{World, free_port};

/// The rules that are shipped.
pub const RULES: &str = include_str!("../../deploy/prometheus/rules.yaml");

/// It ends when it is dropped.
pub struct Prometheus {
    url: String,
    _running: Running,
}

impl Prometheus {
    /// Starts it on loopback; it scrapes these jobs, and evaluates the rules, four times a second.
    pub fn start(world: &World, jobs: &[(&str, SocketAddr)]) -> Self {
        let directory = world.path("prometheus");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("rules.yaml"), RULES).unwrap();
        let mut config = String::from(
            "global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\n\
             rule_files: [rules.yaml]\nscrape_configs:\n",
        );
        for (job, target) in jobs {
            writeln!(config, "- {{job_name: {job}, static_configs: [{{targets: ['{target}']}}]}}").unwrap();
        }
        fs::write(directory.join("prometheus.yaml"), config).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", directory.join("prometheus.yaml").display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address={listen}"));
        let prometheus = Self { url: format!("http://{listen}"), _running: world.start(command) };
        eventually("Prometheus is ready", || ureq::get(format!("{}/-/ready", prometheus.url)).call().is_ok());
        prometheus
    }

    /// The values of a query now; none if there is no data, or only what is no number.
    ///
    /// # Panics
    /// When it is no query.
    pub fn query(&self, query: &str) -> Vec<f64> {
        let result = &self.get("query", &[("query", query)])["result"];
        // A scalar is a pair, a vector a list of objects.
        let values: Vec<&Value> = match result.as_array().unwrap().as_slice() {
            [Value::Number(_), value] => vec![value],
            series => series.iter().map(|series| &series["value"][1]).collect(),
        };
        let numbers = values.into_iter().map(|value| value.as_str().unwrap().parse::<f64>().unwrap());
        numbers.filter(|value| !value.is_nan()).collect()
    }

    /// The values of a label.
    pub fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let values = self.get(&format!("label/{label}/values"), &[("match[]", selector)]);
        values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("{}/api/v1/{path}", self.url)).query_pairs(parameters.iter().copied());
        let mut answer: Value =
            serde_json::from_str(&request.call().unwrap().body_mut().read_to_string().unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"].take()
    }
}
