//! Dataverse's rows, read back by their keys.

use serde_json::Value;

use super::{Dynamics, id_column, literal};
use crate::crm::{
    HttpAnswer, HttpRequest, Token, Verdict, query,
    reader::{Reader, Standing},
};

/// Keys of forty digits in one address, which has a longest length.
const READ_MAX: usize = 50;

impl Reader for Dynamics {
    fn read_max(&self) -> usize {
        READ_MAX
    }

    fn read(&self, keys: &[String], fields: &[String], token: &Token) -> HttpRequest {
        let any: Vec<_> = keys.iter().map(|key| format!("{} eq {}", self.key, literal(key))).collect();
        let id = id_column(&self.set);
        // What binds a row is read as the column that holds the other's id.
        let column = |field: &String| field.strip_suffix(BIND).map_or_else(|| field.clone(), lookup);
        let columns: Vec<_> = [id, self.key.clone()].into_iter().chain(fields.iter().map(column)).collect();
        let path = format!("{}?{}", self.set, query(&[("$select", &columns.join(",")), ("$filter", &any.join(" or "))]));
        self.request("GET", &path, "application/json", Vec::new(), token)
    }

    fn read_back(&self, answer: &HttpAnswer) -> Result<Vec<Standing>, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let rows = body.get("value").and_then(Value::as_array);
        let Some(rows) = rows.filter(|_| answer.status == 200) else { return Err(self.refused(None, answer)) };
        let standing = |row: &Value| {
            let mut fields = row.as_object()?.clone();
            let text = |value: Option<Value>| value.and_then(|v| v.as_str().map(str::to_owned));
            let (id, key) = (text(fields.remove(&id_column(&self.set)))?, text(fields.remove(&self.key))?);
            if let Some((link, column)) = self.link.as_ref().and_then(|link| Some((link, lookup(link.to.strip_suffix(BIND)?))))
                && let Some(person) = text(fields.remove(&column))
            {
                fields.insert(link.to.clone(), Value::String(link.value.replace("{id}", &person)));
            }
            let set = fields.into_iter().filter(|(name, value)| !value.is_null() && !name.contains('@') || self.binds(name)).collect();
            // A key is compared without regard to case; ours is in lower case.
            Some(Standing { key: key.to_ascii_lowercase(), id, fields: set })
        };
        Ok(rows.iter().filter_map(standing).collect())
    }
}

impl Dynamics {
    fn binds(&self, name: &str) -> bool {
        self.link.as_ref().is_some_and(|link| link.to == name)
    }
}

/// What a property that binds a row ends with.
const BIND: &str = "@odata.bind";

/// The column that a property binds: what may point to several tables names the one that it points to, `regardingobjectid_contact_phonecall`.
fn lookup(property: &str) -> String {
    let several = ["regardingobjectid", "customerid"].into_iter().find(|name| property.starts_with(name));
    format!("_{}_value", several.map_or_else(|| property.to_lowercase(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_read_as_its_column() {
        assert_eq!(lookup("regardingobjectid_contact_phonecall"), "_regardingobjectid_value");
        assert_eq!(lookup("offhook_Contact"), "_offhook_contact_value");
    }
}
