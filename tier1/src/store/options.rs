//! Where the database is, from the command line, the environment and files.

use clap::Args;
use sqlx::postgres::PgConnectOptions;
use std::{fmt, fs, io, path::PathBuf, str::FromStr, time::Duration};
use thiserror::Error;
use url::Url;

const HISTORY_STEP: u32 = 60;
const HISTORY_DAYS: u16 = 7;

/// Which Postgres remembers what tier1 knows, and for how long.
#[derive(Args, Clone, Debug)]
pub struct DatabaseConfig {
    /// Where it is.
    #[command(flatten)]
    pub urls: DatabaseUrls,

    /// Least time between two entries of a cloudlet in the metrics history, seconds; 0 for every report
    #[arg(long, env = "SINFONIA_HISTORY_STEP", default_value_t = HISTORY_STEP, value_name = "SECONDS")]
    pub history_step: u32,

    /// How long the metrics history is kept, days
    #[arg(
        long,
        env = "SINFONIA_HISTORY_DAYS",
        default_value_t = HISTORY_DAYS,
        value_name = "DAYS",
        value_parser = clap::value_parser!(u16).range(1..=3650)
    )]
    pub history_days: u16,
}

/// Where Postgres is.
#[derive(Args, Clone, Debug, Default)]
pub struct DatabaseUrls {
    /// Postgres that remembers cloudlets, the same for any number of tier1s; without it all is in memory only. A
    /// URL with a password does not belong on the command line: use the environment or --database-url-file
    #[arg(
        long,
        env = "SINFONIA_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with = "database_url_file"
    )]
    pub database_url: Option<DatabaseUrl>,

    /// File with that URL
    #[arg(long, env = "SINFONIA_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,

    /// The same Postgres past a transaction pooler, for LISTEN and migrations
    #[arg(
        long,
        env = "SINFONIA_DATABASE_DIRECT_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with = "database_direct_url_file"
    )]
    pub database_direct_url: Option<DatabaseUrl>,

    /// File with that URL
    #[arg(long, env = "SINFONIA_DATABASE_DIRECT_URL_FILE", value_name = "FILE")]
    pub database_direct_url_file: Option<PathBuf>,
}

/// A `postgres://` URL, which may hold a password: it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// What is wrong with the options of the database. URLs are not repeated.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// A file cannot be read.
    #[error("database URL file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a URL of Postgres.
    #[error("{option} is no Postgres URL such as postgres://user@host:5432/database: {reason}")]
    Invalid {
        /// Which option.
        option: &'static str,
        /// What is wrong, without the URL.
        reason: String,
    },
    /// Without the main one.
    #[error("--database-direct-url is of no use without --database-url")]
    DirectAlone,
    /// Anybody on the machine can see it.
    #[error(
        "the command line holds a database password, which every user of this machine can see: give the URL by \
         SINFONIA_DATABASE_URL or --database-url-file, and change the password"
    )]
    Exposed,
}

/// What is needed to connect.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// For everything.
    pub main: PgConnectOptions,
    /// For LISTEN and migrations, where a pooler stands in front.
    pub direct: Option<PgConnectOptions>,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { urls: DatabaseUrls::default(), history_step: HISTORY_STEP, history_days: HISTORY_DAYS }
    }
}

impl DatabaseConfig {
    /// Refuses a command line that shows a database password.
    ///
    /// # Errors
    /// If an argument is, or ends in, a Postgres URL with a password.
    pub fn check_arguments(arguments: impl IntoIterator<Item = String>) -> Result<(), OptionsError> {
        let exposed = |argument: String| {
            let start = argument.find("postgres://").or_else(|| argument.find("postgresql://"));
            let url = start.and_then(|start| Url::parse(&argument[start..]).ok());
            url.is_some_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
        };
        if arguments.into_iter().any(exposed) { Err(OptionsError::Exposed) } else { Ok(()) }
    }

    /// As [`DatabaseUrls::addresses`].
    ///
    /// # Errors
    /// The same.
    pub(crate) fn addresses(&self) -> Result<Option<Addresses>, OptionsError> {
        self.urls.addresses()
    }

    /// Least time between two entries of a cloudlet's history.
    pub(crate) fn step(&self) -> Duration {
        Duration::from_secs(self.history_step.into())
    }
}

impl DatabaseUrls {
    /// Where to connect; none without a database.
    ///
    /// # Errors
    /// If a file cannot be read or a URL is none.
    pub(crate) fn addresses(&self) -> Result<Option<Addresses>, OptionsError> {
        let main = url(self.database_url.as_ref(), self.database_url_file.as_ref())?;
        let direct = url(self.database_direct_url.as_ref(), self.database_direct_url_file.as_ref())?;
        let (main, direct) = match (main, direct) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(OptionsError::DirectAlone),
            (Some(main), direct) => (main, direct),
        };
        let main = main.options("--database-url")?;
        let direct = direct.map(|url| url.options("--database-direct-url")).transpose()?;
        Ok(Some(Addresses { main, direct }))
    }
}

fn url(given: Option<&DatabaseUrl>, file: Option<&PathBuf>) -> Result<Option<DatabaseUrl>, OptionsError> {
    let Some(path) = file else { return Ok(given.cloned()) };
    let text = fs::read_to_string(path).map_err(|source| OptionsError::Unreadable { path: path.to_owned(), source })?;
    Ok(Some(DatabaseUrl(text.trim().to_owned())))
}

impl DatabaseUrl {
    fn options(&self, option: &'static str) -> Result<PgConnectOptions, OptionsError> {
        let invalid = |reason: String| OptionsError::Invalid { option, reason };
        let parsed = Url::parse(&self.0).map_err(|error| invalid(error.to_string()))?;
        if !matches!(parsed.scheme(), "postgres" | "postgresql") {
            return Err(invalid(format!("its scheme is {}", parsed.scheme())));
        }
        let options = PgConnectOptions::from_str(&self.0).map_err(|error| invalid(error.to_string()))?;
        // Poolers refuse settings that they do not know.
        Ok(options.application_name("sinfonia-tier1").extra_float_digits(None))
    }
}

impl From<&str> for DatabaseUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for DatabaseUrl {
    // What is wrong is said later: here the parser would show the URL beside it.
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(main: Option<&str>, direct: Option<&str>) -> DatabaseUrls {
        DatabaseUrls {
            database_url: main.map(Into::into),
            database_direct_url: direct.map(Into::into),
            ..DatabaseUrls::default()
        }
    }

    #[test]
    fn without_a_url_there_is_no_database() {
        assert!(config(None, None).addresses().unwrap().is_none());
        assert!(matches!(config(None, Some("postgres://host/db")).addresses(), Err(OptionsError::DirectAlone)));
    }

    #[test]
    fn urls_are_checked_and_never_shown() {
        for url in
            ["hush", "https://user:hush@host/", "postgres://user:hush@host:99999/", "postgres://u:hush@h/?sslmode=x"]
        {
            let config = config(Some(url), None);
            let error = config.addresses().unwrap_err();
            let shown = format!("{error} {error:?} {config:?}");
            assert!(!shown.contains("hush") && shown.contains("--database-url"), "{shown}");
        }
    }

    #[test]
    fn a_file_holds_a_url() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        let config = DatabaseUrls { database_url_file: Some(path.clone()), ..DatabaseUrls::default() };
        assert!(config.addresses().unwrap_err().to_string().contains("cannot be read"));
        fs::write(&path, "postgres://somebody@db.example:6543/cloudlets\n").unwrap();
        let main = config.addresses().unwrap().unwrap().main;
        assert_eq!((main.get_host(), main.get_port(), main.get_database()), ("db.example", 6543, Some("cloudlets")));
    }

    #[test]
    fn passwords_on_the_command_line_are_refused() {
        let check = |argument: &str| DatabaseConfig::check_arguments(["tier1".to_owned(), argument.to_owned()]);
        assert!(check("--database-url=postgres://user:hush@host/db").is_err());
        assert!(check("postgresql://user@host/db?password=hush").is_err());
        assert!(check("--database-url=postgres://user@host/db").is_ok());
        assert!(check("http://user:hush@recipes/").is_ok());
    }
}
