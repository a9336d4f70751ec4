//! Takes what the API's page needs out of Swagger UI's archive, and compresses it.

use flate2::{Compression, write::DeflateEncoder};
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs::File,
    io::{self, Cursor},
    path::Path,
};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// Where in the archive, below the directory with its version; and under what name `routes/openapi/page.rs` has it.
const FILES: [(&str, &str); 7] = [
    ("dist/favicon-16x16.png", "favicon-16x16.png"),
    ("dist/favicon-32x32.png", "favicon-32x32.png"),
    ("dist/index.css", "index.css"),
    ("dist/swagger-ui-bundle.js", "swagger-ui-bundle.js"),
    ("dist/swagger-ui.css", "swagger-ui.css"),
    ("LICENSE", "swagger-ui-license.txt"),
    ("NOTICE", "swagger-ui-notice.txt"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let directory = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let mut missing = BTreeMap::from(FILES);
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let path = file.name()?.into_owned();
        let Some(name) = path.split_once('/').and_then(|(_, path)| missing.remove(path)) else { continue };
        let compressed = File::create(Path::new(&directory).join(name))?;
        let mut compressor = DeflateEncoder::new(compressed, Compression::best());
        io::copy(&mut file, &mut compressor)?;
        compressor.finish()?;
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("Swagger UI's archive lacks {missing:?}").into()) }
}
