//! Bearer tokens (RFC 6750): where a program finds its own, and how those of others are recognised.
//!
//! A token is never shown, and comes from a file or the environment, since every user of a machine sees command lines.
//! Who may do what with one is not known here.

mod hash;
mod source;
mod token;

pub use hash::{HashError, TokenHash};
pub use source::{FileStamp, SourceError, TokenSource, stamp, warn_if_exposed};
pub use token::{BearerToken, TokenError, bearer};
