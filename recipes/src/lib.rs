//! Where deployment recipes come from: a directory or a URL
