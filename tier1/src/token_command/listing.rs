use super::TokenCommandError;
use crate::{access::Grant, store::Listed};
use serde_json::json;
use std::io::{self, Write as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Prints tokens on standard output.
pub(super) fn list(tokens: &[Listed], as_json: bool) -> Result<(), TokenCommandError> {
    let mut out = io::stdout().lock();
    let now = OffsetDateTime::now_utc();
    if as_json {
        let all: Vec<_> = tokens.iter().map(|listed| describe(listed, now)).collect();
        return Ok(writeln!(out, "{:#}", serde_json::Value::from(all))?);
    }
    writeln!(out, "{:<36}  {:<20}  {:<14}  {:<8}  {:<20}  FOR", "ID", "NAME", "SCOPES", "STATE", "EXPIRES")?;
    for listed in tokens {
        let Grant { id, name, scopes, cloudlet, recipes, expires, .. } = &listed.grant;
        let scopes = scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let cloudlet = cloudlet.iter().map(|id| format!("cloudlet {id}"));
        let recipes = recipes.iter().flatten().map(|id| format!("recipe {id}"));
        let bounds = cloudlet.chain(recipes).collect::<Vec<_>>().join(", ");
        let expires = expires.map_or_else(|| "never".to_owned(), date);
        let name = name.replace(char::is_control, " ");
        let line =
            format!("{id:<36}  {name:<20}  {scopes:<14}  {:<8}  {expires:<20}  {bounds}", state(&listed.grant, now));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn describe(listed: &Listed, now: OffsetDateTime) -> serde_json::Value {
    let Listed { grant, created, revoked } = listed;
    json!({
        "id": grant.id,
        "name": grant.name,
        "scopes": grant.scopes,
        "cloudlet": grant.cloudlet,
        "recipes": grant.recipes,
        "created": created.map(date),
        "expires": grant.expires.map(date),
        "revoked": revoked.map(date),
        "state": state(grant, now),
    })
}

fn state(grant: &Grant, now: OffsetDateTime) -> &'static str {
    match (grant.is_revoked, grant.is_valid(now)) {
        (true, _) => "revoked",
        (false, true) => "valid",
        (false, false) => "expired",
    }
}

/// In UTC, without fractions of seconds.
pub(super) fn date(date: OffsetDateTime) -> String {
    let date = date.to_offset(time::UtcOffset::UTC);
    date.replace_nanosecond(0).unwrap_or(date).format(&Rfc3339).unwrap_or_default()
}
