//! What a recipe says about where it may run (`requires:`) and where it rather runs (`prefer:`).

mod check;
mod facts;
#[cfg(test)]
mod tests;

pub use facts::Facts;

use crate::{RecipeError, parse};
use cel::{
    Context, Env, ExecutionError, Value,
    common::{
        types::{CelBool, CelDouble, CelInt, CelUInt},
        value::CowVal,
    },
    parser::Expression as Ast,
};
use sinfonia_wire::Recipe;
use std::sync::{Arc, LazyLock};
use thiserror::Error;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Both expressions of a recipe. Without any, every cloudlet is as good as the next.
#[derive(Debug, Default)]
pub struct Placement {
    /// The condition.
    pub requires: Option<Expression>,
    /// The score.
    pub prefer: Option<Expression>,
}

/// A CEL expression over `cloudlet` and `client` that was checked when its recipe was loaded: it parses, has no loops,
/// and is neither long nor deep, so that evaluating it takes microseconds.
#[derive(Debug)]
pub struct Expression {
    text: String,
    ast: Ast,
    needs_distance: bool,
}

/// Why an expression has no value for a cloudlet.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EvaluationError {
    /// The cloudlet does not say this, or nobody knows.
    #[error("{0} is unknown")]
    Unknown(String),
    /// A value, but of another kind.
    #[error("the value is no {0}")]
    Kind(&'static str),
    /// Types that do not go together, a division by zero and the like.
    #[error("{0}")]
    Failed(String),
}

impl Placement {
    /// Checks what a recipe says; `file` is what errors call it.
    ///
    /// # Errors
    /// [`RecipeError::Invalid`].
    pub fn of(recipe: &Recipe, file: &str) -> Result<Self, RecipeError> {
        let read = |field: &str, text: &Option<String>| {
            let expression = text.as_deref().map(Expression::parse).transpose();
            expression.map_err(|reason| parse::invalid(file, field, reason))
        };
        Ok(Self { requires: read("requires", &recipe.requires)?, prefer: read("prefer", &recipe.prefer)? })
    }

    /// Whether either looks at the distance, which costs something to find out.
    #[must_use]
    pub fn needs_distance(&self) -> bool {
        [&self.requires, &self.prefer].into_iter().flatten().any(|expression| expression.needs_distance)
    }
}

impl Expression {
    fn parse(text: &str) -> Result<Self, check::CheckError> {
        let ast = check::parse(text)?;
        let needs_distance = check::reads(&ast, "distance");
        Ok(Self { text: text.to_owned(), ast, needs_distance })
    }

    /// Whether a recipe may have this expression.
    ///
    /// # Errors
    /// What is wrong with it and what to do.
    pub fn check(text: &str) -> Result<(), String> {
        Self::parse(text).map(drop).map_err(|error| error.to_string())
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its truth.
    ///
    /// # Errors
    /// When something it depends on is unknown, or it is no condition.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, EvaluationError> {
        self.evaluate(facts, |value| {
            value.downcast_ref::<CelBool>().map(|truth| *truth.inner()).ok_or(EvaluationError::Kind("truth value"))
        })
    }

    /// Its number; truth counts 1.
    ///
    /// # Errors
    /// When something it depends on is unknown, or it is no number.
    pub fn score(&self, facts: &Facts<'_>) -> Result<f64, EvaluationError> {
        let number = self.evaluate(facts, |value| {
            let double = value.downcast_ref::<CelDouble>().map(|number| *number.inner());
            let int = || value.downcast_ref::<CelInt>().map(|number| *number.inner() as f64);
            let uint = || value.downcast_ref::<CelUInt>().map(|number| *number.inner() as f64);
            let truth = || value.downcast_ref::<CelBool>().map(|truth| f64::from(u8::from(*truth.inner())));
            double.or_else(int).or_else(uint).or_else(truth).ok_or(EvaluationError::Kind("number"))
        })?;
        if number.is_nan() { Err(EvaluationError::Kind("number")) } else { Ok(number) }
    }

    fn evaluate<T>(
        &self,
        facts: &Facts<'_>,
        read: impl FnOnce(&CowVal<'_, '_>) -> Result<T, EvaluationError>,
    ) -> Result<T, EvaluationError> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        facts.declare(&mut context);
        let value = Value::resolve_val(&self.ast, &context).map_err(|error| match error {
            ExecutionError::NoSuchKey(name) => EvaluationError::Unknown(name.to_string()),
            other => EvaluationError::Failed(other.to_string()),
        })?;
        read(&value)
    }
}
