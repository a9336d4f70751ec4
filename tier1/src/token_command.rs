//! `sinfonia-tier1 token`: makes, lists, revokes and rotates tokens, in the database or a file.

mod listing;

use crate::{
    Config,
    access::{self, Grant, Scope, TokensFileError},
    store::{Act, DatabaseError, DatabaseUrls, Listed, OptionsError, TokenStore},
};
use clap::{Args, Subcommand};
use listing::{date, list};
use serde_json::json;
use sinfonia_credentials::{BearerToken, TokenHash};
use sinfonia_wire::{ApplicationId, CloudletId};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

/// The longest name, characters.
const LONGEST_NAME: usize = 100;

/// What to do with tokens. The options of the database may also come from the environment, as those of the server.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token and prints it, once: only its hash is kept
    Create(Create),
    /// Lists tokens, without themselves
    List {
        /// As JSON
        #[arg(long)]
        json: bool,

        /// Where tokens are.
        #[command(flatten)]
        place: Place,
    },
    /// Makes a token count no more, at all replicas within a second
    Revoke {
        /// As `token list` shows it
        id: Uuid,

        /// Where tokens are.
        #[command(flatten)]
        place: Place,
    },
    /// Makes a token that takes the place of another: with the same rights, over the same deployments
    Rotate {
        /// As `token list` shows it
        id: Uuid,

        /// How long the other one still counts, such as 1h
        #[arg(long, default_value = "0s", value_name = "TIME")]
        grace: humantime::Duration,

        /// Where tokens are.
        #[command(flatten)]
        place: Place,
    },
}

/// A token to be made.
#[derive(Args, Clone, Debug)]
pub struct Create {
    /// What it is for; repeat for several
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    scopes: Vec<Scope>,

    /// Who it is for, for people
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,

    /// The only cloudlet it may report for
    #[arg(long, value_name = "UUID")]
    cloudlet: Option<CloudletId>,

    /// It may report for any cloudlet
    #[arg(long, conflicts_with = "cloudlet")]
    any_cloudlet: bool,

    /// The only recipe it may deploy, which may be restricted; repeat for several [default: all that are not]
    #[arg(long = "recipe", value_name = "UUID")]
    recipes: Vec<ApplicationId>,

    /// After what time it counts no more, such as 90d [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<humantime::Duration>,

    #[command(flatten)]
    place: Place,
}

/// Where tokens are.
#[derive(Args, Clone, Debug)]
pub struct Place {
    #[command(flatten)]
    database: DatabaseUrls,

    /// A file instead of the database, for the server's --tokens-file
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
}

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum TokenCommandError {
    /// Neither database nor file.
    #[error("where are the tokens? give --database-url (or SINFONIA_DATABASE_URL), or --tokens-file")]
    NoPlace,
    /// Options do not go together.
    #[error("{0}")]
    Invalid(&'static str),
    /// Files are changed by hand.
    #[error("tokens in {}: {advice}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// No such token.
    #[error("there is no token {0} that counts: `sinfonia-tier1 token list` shows all")]
    Unknown(Uuid),
    /// Where the database is, is not clear.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The database does not do it.
    #[error("the database cannot be used: {0}")]
    Database(#[from] DatabaseError),
    /// The file is of no use.
    #[error(transparent)]
    TokensFile(#[from] TokensFileError),
    /// The entry or list cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Where tokens are, in the end.
enum Tokens {
    Database(Box<TokenStore>),
    File(PathBuf),
}

/// Does what was asked for; `config` is what the server would use.
///
/// # Errors
/// See [`TokenCommandError`].
pub async fn run(command: TokenCommand, config: &Config) -> Result<(), TokenCommandError> {
    // Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = match &command {
        TokenCommand::Create(create) => &create.place,
        TokenCommand::List { place, .. } | TokenCommand::Revoke { place, .. } | TokenCommand::Rotate { place, .. } => {
            place
        }
    };
    match (open(place, config).await?, command) {
        (Tokens::Database(store), command) => {
            let result = in_database(&store, command).await;
            store.close().await;
            result
        }
        (Tokens::File(path), command) => in_file(&path, command),
    }
}

async fn open(place: &Place, config: &Config) -> Result<Tokens, TokenCommandError> {
    if let Some(path) = &place.tokens_file {
        return Ok(Tokens::File(path.clone()));
    }
    let addresses = match place.database.addresses()? {
        None => config.database.addresses()?,
        given => given,
    };
    match (addresses, &config.tokens_file) {
        (Some(addresses), _) => Ok(Tokens::Database(Box::new(TokenStore::open(addresses).await?))),
        (None, Some(path)) => Ok(Tokens::File(path.clone())),
        (None, None) => Err(TokenCommandError::NoPlace),
    }
}

async fn in_database(store: &TokenStore, command: TokenCommand) -> Result<(), TokenCommandError> {
    let actor = actor();
    let act = |action, id: Uuid, detail| Act { actor: &actor, action, subject: format!("token {id}"), detail };
    match command {
        TokenCommand::Create(create) => {
            let (token, grant) = create.make()?;
            let detail = json!({"name": grant.name, "scopes": grant.scopes});
            store.create(&grant, &act("token.create", grant.id, Some(detail))).await?;
            show(&token, &grant)
        }
        TokenCommand::List { json, .. } => list(&store.list().await?, json),
        TokenCommand::Revoke { id, .. } => {
            if !store.revoke(id, &act("token.revoke", id, None)).await? {
                return Err(TokenCommandError::Unknown(id));
            }
            Ok(writeln!(io::stderr(), "Token {id} is revoked.")?)
        }
        TokenCommand::Rotate { id, grace, .. } => {
            let token = BearerToken::random();
            let hash = TokenHash::of(token.expose());
            let rotated = store.rotate(id, hash, grace.into(), &act("token.rotate", id, None)).await?;
            show(&token, &rotated.ok_or(TokenCommandError::Unknown(id))?)
        }
    }
}

fn in_file(path: &Path, command: TokenCommand) -> Result<(), TokenCommandError> {
    let by_hand = |advice| Err(TokenCommandError::File { path: path.to_owned(), advice });
    match command {
        TokenCommand::Create(create) => {
            let (token, grant) = create.make()?;
            append(path, &grant)?;
            show(&token, &access::identified(grant))
        }
        TokenCommand::List { json, .. } => {
            let grants = access::read(path)?;
            let listed = |grant| Listed { grant, created: None, revoked: None };
            list(&grants.into_iter().map(listed).collect::<Vec<_>>(), json)
        }
        TokenCommand::Revoke { .. } => by_hand("remove its entry, and tier1 takes note within seconds"),
        TokenCommand::Rotate { .. } => {
            by_hand("create one of the same name, which is then the same holder's, and remove the old entry")
        }
    }
}

impl Create {
    fn make(self) -> Result<(BearerToken, Grant), TokenCommandError> {
        let Self { scopes, name, cloudlet, any_cloudlet, recipes, expires, .. } = self;
        let [reports, deploys] = [Scope::Report, Scope::Deploy].map(|scope| scopes.contains(&scope));
        let wrong = match (reports, cloudlet.is_some() || any_cloudlet) {
            (true, false) => "--scope report needs --cloudlet UUID, or --any-cloudlet",
            (false, true) => "--cloudlet and --any-cloudlet are for --scope report",
            _ if !deploys && !recipes.is_empty() => "--recipe is for --scope deploy",
            _ => "",
        };
        if !wrong.is_empty() {
            return Err(TokenCommandError::Invalid(wrong));
        }
        let expires = expires.map(|time| OffsetDateTime::now_utc().checked_add((*time).try_into().ok()?));
        let too_late = TokenCommandError::Invalid("--expires is too far in the future: leave it away");
        let expires = expires.map(|expires| expires.ok_or(too_late)).transpose()?;
        let token = BearerToken::random();
        let id = Uuid::new_v4();
        let hash = TokenHash::of(token.expose());
        let recipes = Some(recipes).filter(|recipes| !recipes.is_empty());
        let grant = Grant { id, principal: id, name, hash, scopes, cloudlet, recipes, expires, is_revoked: false };
        Ok((token, grant))
    }
}

fn name(text: &str) -> Result<String, String> {
    let is_short = (1..=LONGEST_NAME).contains(&text.chars().count());
    if !is_short || text.contains(char::is_control) {
        return Err(format!("a name is 1 to {LONGEST_NAME} characters on one line"));
    }
    Ok(text.to_owned())
}

/// Adds an entry to a file, which is made if missing and has to be good before and after.
fn append(path: &Path, grant: &Grant) -> Result<(), TokenCommandError> {
    let unusable = |source| TokensFileError::File { path: path.to_owned(), source };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unusable(error).into()),
    };
    if !text.is_empty() {
        access::read(path)?;
    }
    let entry = access::entry(grant).map_err(io::Error::other)?;
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    access::check(path, &[&text, gap, &entry].concat())?;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all([gap, &entry].concat().as_bytes()));
    written.map_err(|error| unusable(error).into())
}

/// Prints a token on standard output, all else beside it.
fn show(token: &BearerToken, grant: &Grant) -> Result<(), TokenCommandError> {
    let Grant { id, name, expires, .. } = grant;
    let expires = expires.map_or_else(|| "never expires".to_owned(), |expires| format!("expires {}", date(expires)));
    writeln!(io::stderr(), "Token {id} ({name}) {expires}. It is shown this once:")?;
    writeln!(io::stdout(), "{}", token.expose())?;
    Ok(())
}

/// Who runs this, for the record.
fn actor() -> String {
    let user = fs::metadata("/proc/self").map_or_else(|_| "unknown".to_owned(), |process| process.uid().to_string());
    format!("command line of user {user}")
}
