//! Which expressions are taken: those that cannot take long, whatever they are evaluated on.

use super::facts;
use cel::{
    common::ast::{Expr, IdedExpr, operators},
    parser::{Expression, Parser},
};
use std::thread;
use thiserror::Error;

/// In bytes.
const LONGEST: usize = 1024;
/// Operators inside one another, and brackets.
const DEEPEST: u16 = 24;
/// The parser goes deeper into some expressions than they are nested, in bytes of stack.
const STACK: usize = 64 << 20;
/// Characters of an expression that errors repeat.
const SHOWN: usize = 120;
/// What may be called beside the operators.
const FUNCTIONS: [&str; 9] = ["size", "contains", "startsWith", "endsWith", "double", "int", "uint", "string", "bool"];
const OPERATORS: [&str; 17] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    operators::IN,
];
/// Macros that are loops.
const LOOPS: [&str; 5] = ["all", "exists", "exists_one", "map", "filter"];

/// Why an expression is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum CheckError {
    #[error("{expression} has {length} bytes; an expression may have {LONGEST}")]
    Long { expression: String, length: usize },
    #[error("{expression} is nested more than {DEEPEST} deep; write it flatter, or as several labels")]
    Deep { expression: String },
    #[error("{expression} is no CEL expression: column {column}: {reason}")]
    Syntax { expression: String, column: isize, reason: String },
    #[error(
        "{expression} has a comprehension (all, exists, exists_one, map, filter), which may take long; state it as \
         conditions on labels and resources"
    )]
    Loop { expression: String },
    #[error("{expression} refers to {name}; there are `cloudlet` and `client`")]
    Variable { expression: String, name: String },
    #[error("{expression} refers to {variable}.{field}; {variable} has {known}")]
    Field { expression: String, variable: String, field: String, known: String },
    #[error("{expression} calls {name}, which is not available; there are {}", FUNCTIONS.join(", "))]
    Function { expression: String, name: String },
    #[error("{expression} makes a map or message, which nothing can be compared to")]
    Literal { expression: String },
}

/// Parses an expression and looks at every part of it.
pub(super) fn parse(text: &str) -> Result<Expression, CheckError> {
    let expression = || shown(text);
    if text.len() > LONGEST {
        return Err(CheckError::Long { expression: expression(), length: text.len() });
    }
    if brackets(text) > DEEPEST {
        return Err(CheckError::Deep { expression: expression() });
    }
    let parsed = thread::scope(|scope| {
        let thread = thread::Builder::new().name("expression".to_owned()).stack_size(STACK);
        let parser = thread.spawn_scoped(scope, || parse_here(text, &expression));
        parser.ok().and_then(|parser| parser.join().ok())
    });
    parsed.unwrap_or_else(|| {
        let reason = "the parser could not deal with it".to_owned();
        Err(CheckError::Syntax { expression: expression(), column: 0, reason })
    })
}

/// How deep brackets and conditionals are nested at most; those inside of strings count as well.
fn brackets(text: &str) -> u16 {
    let (_, deepest) = text.bytes().fold((0u16, 0u16), |(depth, deepest), byte| match byte {
        b'(' | b'[' | b'{' | b'?' => (depth + 1, deepest.max(depth + 1)),
        b')' | b']' | b'}' => (depth.saturating_sub(1), deepest),
        _ => (depth, deepest),
    });
    deepest
}

fn parse_here(text: &str, expression: &impl Fn() -> String) -> Result<Expression, CheckError> {
    let ast = Parser::new().max_recursion_depth(DEEPEST).parse(text).map_err(|errors| {
        // The parser tells its limit only in words.
        if format!("{errors:?}").contains("Recursion limit") {
            return CheckError::Deep { expression: expression() };
        }
        let first = errors.errors.into_iter().next();
        let (column, reason) = first.map_or((0, String::new()), |error| (error.pos.1, error.msg));
        CheckError::Syntax { expression: expression(), column, reason: reason.replace(char::is_control, " ") }
    })?;
    check(&ast, DEEPEST, expression)?;
    Ok(ast)
}

/// Whether a field of this name is read anywhere.
pub(super) fn reads(ast: &IdedExpr, name: &str) -> bool {
    match &ast.expr {
        Expr::Select(select) => select.field == name || reads(&select.operand, name),
        // A name in brackets can be any.
        Expr::Call(call) => {
            call.func_name == operators::INDEX
                || call.target.as_deref().into_iter().chain(&call.args).any(|part| reads(part, name))
        }
        Expr::List(list) => list.elements.iter().any(|part| reads(part, name)),
        _ => false,
    }
}

fn check(ast: &IdedExpr, depth: u16, expression: &impl Fn() -> String) -> Result<(), CheckError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(CheckError::Deep { expression: expression() });
    };
    match &ast.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if fields(name).is_some() => Ok(()),
        Expr::Ident(name) => Err(CheckError::Variable { expression: expression(), name: name.clone() }),
        Expr::Select(select) => {
            if let Expr::Ident(variable) = &select.operand.expr
                && let Some(known) = fields(variable)
                && !known.contains(&select.field.as_str())
            {
                let (variable, field, known) = (variable.clone(), select.field.clone(), known.join(", "));
                return Err(CheckError::Field { expression: expression(), variable, field, known });
            }
            check(&select.operand, depth, expression)
        }
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            if LOOPS.contains(&name) {
                return Err(CheckError::Loop { expression: expression() });
            }
            if !(OPERATORS.contains(&name) || FUNCTIONS.contains(&name) || name == operators::INDEX) {
                return Err(CheckError::Function { expression: expression(), name: name.to_owned() });
            }
            let mut parts = call.target.as_deref().into_iter().chain(&call.args);
            parts.try_for_each(|part| check(part, depth, expression))
        }
        Expr::List(list) => list.elements.iter().try_for_each(|part| check(part, depth, expression)),
        Expr::Comprehension(_) => Err(CheckError::Loop { expression: expression() }),
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err(CheckError::Literal { expression: expression() }),
    }
}

fn fields(variable: &str) -> Option<&'static [&'static str]> {
    match variable {
        "cloudlet" => Some(&facts::CLOUDLET),
        "client" => Some(&facts::CLIENT),
        _ => None,
    }
}

/// On one line, quoted and cut.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
