//! `--format`: Go templates over documents, tables with Docker's headers, and JSON lines.

use std::sync::Arc;

use gotmpl::{MissingKey, Template, TemplateError, Value};
use serde_json::Value as Json;

use crate::error::{CliError, print};

/// A column of a table: its field, its header, and the value a row shows.
pub(crate) type Row = Vec<(&'static str, &'static str, Json)>;

/// Shows `rows` by `format`: nothing or `table` is the default table of `columns`; `table TEMPLATE` a table of the
/// template's fields; `json` a document a line; anything else a template a line.
pub(crate) fn rows(format: Option<&str>, columns: &[&str], rows: &[Row]) -> Result<(), CliError> {
    let template = match format.unwrap_or("table") {
        "json" => return rows.iter().try_for_each(|row| print(&object(row).to_string())),
        "" | "table" => columns.iter().map(|field| format!("{{{{.{field}}}}}")).collect::<Vec<_>>().join("\t"),
        other => match other.strip_prefix("table") {
            Some(template) => unescape(template.trim_start()),
            None => {
                let template = compile(&unescape(other))?;
                return rows.iter().try_for_each(|row| print(&render(&template, &value(&object(row)))?));
            }
        },
    };
    let compiled = compile(&template)?;
    let header = rows.first().map_or_else(Vec::new, |row| row.iter().map(|(field, header, _)| (*field, *header)).collect());
    let mut lines = vec![head(&template, columns, &header)?];
    for row in rows {
        lines.push(render(&compiled, &value(&object(row)))?);
    }
    crate::table::print(&lines)
}

/// The header line: the template with each field's header in place of its value.
fn head(template: &str, columns: &[&str], known: &[(&str, &str)]) -> Result<String, CliError> {
    let mut headers = serde_json::Map::new();
    for field in columns {
        headers.insert((*field).to_owned(), Json::String(default_header(field)));
    }
    for (field, header) in known {
        headers.insert((*field).to_owned(), Json::String((*header).to_owned()));
    }
    render(&compile(template)?, &value(&Json::Object(headers)))
}

/// `CreatedSince` → `CREATED SINCE`; used where no row tells better.
fn default_header(field: &str) -> String {
    match field {
        "ID" => "CONTAINER ID".into(),
        "RunningFor" | "CreatedSince" => "CREATED".into(),
        _ => field.to_uppercase(),
    }
}

fn object(row: &Row) -> Json {
    Json::Object(row.iter().map(|(field, _, value)| ((*field).to_owned(), value.clone())).collect())
}

/// Shows a document by a template (`inspect --format`, `info --format`).
pub(crate) fn document(format: &str, document: &Json) -> Result<String, CliError> {
    if format == "json" {
        return Ok(document.to_string());
    }
    render(&compile(&unescape(format))?, &value(document))
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn compile(source: &str) -> Result<Template, CliError> {
    let text = |arguments: &[Value], at: usize| arguments.get(at).map(ToString::to_string).unwrap_or_default();
    let string = |text: String| Ok::<Value, TemplateError>(Value::String(text.into()));
    let parsed = Template::new("")
        .missing_key(MissingKey::Error)
        .func("json", move |arguments| string(arguments.first().map(json).unwrap_or(Json::Null).to_string()))
        .func("upper", move |arguments| string(text(arguments, 0).to_uppercase()))
        .func("lower", move |arguments| string(text(arguments, 0).to_lowercase()))
        .func("title", move |arguments| string(title(&text(arguments, 0))))
        .func("join", move |arguments| string(join(arguments)))
        .func("split", move |arguments| {
            let (whole, by) = (text(arguments, 0), text(arguments, 1));
            Ok(Value::List(whole.split(by.as_str()).map(|part| Value::String(part.into())).collect()))
        })
        .func("truncate", move |arguments| {
            let length = arguments.get(1).and_then(Value::as_int).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
            string(text(arguments, 0).chars().take(length).collect())
        })
        .func("pad", move |arguments| {
            let blanks = |at: usize| arguments.get(at).and_then(Value::as_int).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            string(format!("{}{}{}", " ".repeat(blanks(1)), text(arguments, 0), " ".repeat(blanks(2))))
        })
        .parse(source);
    parsed.map_err(|error| CliError::new(format!("template parsing error: {error}")))
}

fn join(arguments: &[Value]) -> String {
    let by = arguments.get(1).map(ToString::to_string).unwrap_or_default();
    match arguments.first() {
        Some(Value::List(list)) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(&by),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn render(template: &Template, data: &Value) -> Result<String, CliError> {
    template.execute_to_string(data).map_err(|error| CliError::new(format!("template: {error}")).with_code(1))
}

/// A document as template data.
fn value(document: &Json) -> Value {
    match document {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int),
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(list) => Value::List(list.iter().map(value).collect()),
        Json::Object(fields) => {
            Value::Map(Arc::new(fields.iter().map(|(name, field)| (Arc::from(name.as_str()), value(field))).collect()))
        }
    }
}

/// And back, for the `json` function.
fn json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::String(text.to_string()),
        Value::List(list) => Json::Array(list.iter().map(json).collect()),
        Value::Map(fields) => Json::Object(fields.iter().map(|(name, field)| (name.to_string(), json(field))).collect()),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_gos() {
        let data = json!({ "Name": "/x", "State": { "Running": true }, "List": ["a", "b"], "Map": { "k": "v" } });
        assert_eq!(document("{{.Name}} {{.State.Running}}", &data).unwrap(), "/x true");
        assert_eq!(document("{{json .List}} {{join .List \",\"}}", &data).unwrap(), "[\"a\",\"b\"] a,b");
        assert_eq!(document("{{range $k, $v := .Map}}{{$k}}={{$v}}{{end}}", &data).unwrap(), "k=v");
        assert_eq!(document("{{upper .Name}}\\t{{index .List 1}}", &data).unwrap(), "/X\tb");
        assert!(document("{{.Missing}}", &data).is_err());
        assert!(document("{{.Name", &data).is_err());
    }
}
