//! Who may do what: tokens with scopes, from a file or the database, and the exceptions for those without one.
//!
//! Everything is decided in memory: no request waits for a database to learn who sent it, and tokens that are known go on
//! being valid while the database is away.

mod caller;
mod file;
mod grant;
mod tokens;

pub(crate) use caller::{Caller, RecipeRefusal, token_invalid, token_missing};
pub use file::TokensFileError;
pub(crate) use file::{check, entry, follow, identified, read};
pub use grant::Scope;
pub(crate) use grant::{Deploying, Grant};
pub(crate) use tokens::Tokens;
