use crate::{Loaded, Placement, RecipeError};
use sinfonia_wire::Recipe;
use std::sync::Arc;

/// Larger files are refused: no recipe is that long.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// Reads a recipe; `file` is what errors call it.
pub(crate) fn recipe(text: &str, file: &str) -> Result<Loaded, RecipeError> {
    let mut field = None;
    let recipe: Recipe = serde_saphyr::with_deserializer_from_str(text, |document| {
        serde_path_to_error::deserialize(document).map_err(|error| {
            let path = error.path();
            field = path.iter().next().map(|_| path.to_string());
            error.into_inner()
        })
    })
    .map_err(|error| invalid(file, field.as_deref().unwrap_or("document"), error.without_snippet()))?;
    let placement = Placement::of(&recipe, file)?;
    Ok(Loaded { recipe: Arc::new(recipe), placement: Arc::new(placement) })
}

pub(crate) fn too_large(file: &str) -> RecipeError {
    invalid(file, "document", format!("it is larger than {MAX_BYTES} bytes"))
}

pub(crate) fn invalid(file: &str, field: &str, reason: impl ToString) -> RecipeError {
    RecipeError::Invalid { file: file.to_owned(), field: field.to_owned(), reason: reason.to_string() }
}
