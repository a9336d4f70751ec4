//! The files of the page: Swagger UI's as `build.rs` took them out of its archive, and ours that start it.

use std::io::{self, Read as _};

use flate2::read::DeflateDecoder;

/// A file as the page asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    name: &'static str,
    /// Its media type.
    pub(super) media: &'static str,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Plain(&'static str),
    /// Without any frame (RFC 1951).
    Deflated(&'static [u8]),
}

macro_rules! plain {
    ($name:literal, $media:expr) => {
        File { name: $name, media: $media, content: Content::Plain(include_str!(concat!("page/", $name))) }
    };
}

macro_rules! deflated {
    ($name:literal, $media:expr) => {
        File {
            name: $name,
            media: $media,
            content: Content::Deflated(include_bytes!(concat!(env!("OUT_DIR"), "/", $name))),
        }
    };
}

const CSS: &str = "text/css";
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript";
const PNG: &str = "image/png";
const TEXT: &str = "text/plain; charset=utf-8";

const FILES: [File; 9] = [
    plain!("index.html", HTML),
    plain!("start.js", JAVASCRIPT),
    deflated!("favicon-16x16.png", PNG),
    deflated!("favicon-32x32.png", PNG),
    deflated!("index.css", CSS),
    deflated!("swagger-ui-bundle.js", JAVASCRIPT),
    deflated!("swagger-ui.css", CSS),
    deflated!("swagger-ui-license.txt", TEXT),
    deflated!("swagger-ui-notice.txt", TEXT),
];

/// The file of this name.
pub(super) fn file(name: &str) -> Option<File> {
    FILES.into_iter().find(|file| file.name == name)
}

impl File {
    /// What is in it. Who takes it compressed gets it so from the server, as everything else.
    ///
    /// # Errors
    /// None, as long as the archive was sound.
    pub(super) fn content(self) -> io::Result<Vec<u8>> {
        match self.content {
            Content::Plain(text) => Ok(text.into()),
            Content::Deflated(bytes) => {
                let mut content = Vec::new();
                DeflateDecoder::new(bytes).read_to_end(&mut content)?;
                Ok(content)
            }
        }
    }
}
