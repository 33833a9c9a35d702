//! `--format`: tables with Docker's headers, JSON lines, and Go templates ([`crate::template`]) over rows and documents.

use serde_json::Value as Json;

use crate::error::{CliError, print};
use crate::template::{compile, render, unescape, value};

/// A row: each field's value, in any order. A field `Label` holds the labels as a map, for `{{.Label "name"}}`.
pub(crate) type Row = Vec<(&'static str, Json)>;

/// A column: its field and its header.
pub(crate) type Column = (&'static str, &'static str);

/// Shows `rows` by `format`: nothing or `table` is the table of the first `shown` of `columns`; `table TEMPLATE` a
/// table of the template's fields; `json` a document a line; anything else a template a line.
pub(crate) fn rows(
    format: Option<&str>,
    columns: &[Column],
    shown: &[&str],
    rows: &[Row],
) -> Result<(), CliError> {
    let template = match format.unwrap_or("table") {
        "json" => return rows.iter().try_for_each(|row| print(&document_line(row))),
        "" | "table" => shown.iter().map(|field| format!("{{{{.{field}}}}}")).collect::<Vec<_>>().join("\t"),
        other => match other.strip_prefix("table") {
            Some(template) => unescape(template.trim_start()),
            None => {
                let template = parse(&unescape(other))?;
                return rows.iter().try_for_each(|row| print(&fill(&template, &object(row))?));
            }
        },
    };
    let template = parse(&template)?;
    let header = Json::Object(
        columns.iter().map(|(field, header)| ((*field).to_owned(), Json::from(*header))).collect(),
    );
    let mut lines = vec![fill(&template, &header)?];
    for row in rows {
        lines.push(fill(&template, &object(row))?);
    }
    crate::table::print(&lines)
}

fn parse(source: &str) -> Result<gotmpl::Template, CliError> {
    compile(source).map_err(|error| CliError::new(format!("failed to parse template: {error}")))
}

fn fill(template: &gotmpl::Template, data: &Json) -> Result<String, CliError> {
    render(template, &value(data)).map_err(|error| error.within("failed to execute template").with_code(1))
}

fn object(row: &Row) -> Json {
    Json::Object(row.iter().map(|(field, value)| ((*field).to_owned(), value.clone())).collect())
}

/// A row on a line, with what HTML gives a meaning escaped as Go does it.
fn document_line(row: &Row) -> String {
    let plain: Row = row.iter().filter(|(field, _)| *field != "Label").cloned().collect();
    escape_html(&object(&plain).to_string())
}

fn escape_html(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// Shows a document by a template (`inspect --format`, `info --format`). A template that is none is exit code 64.
pub(crate) fn document(format: &str, document: &Json) -> Result<String, CliError> {
    if format == "json" {
        return Ok(escape_html(&document.to_string()));
    }
    let template = compile(&unescape(format))
        .map_err(|error| CliError::new(format!("template parsing error: {error}")).with_code(64))?;
    render(&template, &value(document)).map_err(|error| error.within("template parsing error"))
}

/// Indented by four blanks, its fields in the order they came in, as Go's `json.Indent` does it.
pub(crate) fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut letters = json.chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("    ", depth));
    };
    while let Some(letter) = letters.next() {
        if quoted {
            text.push(letter);
            (quoted, escaped) = (letter != '"' || escaped, letter == '\\' && !escaped);
            continue;
        }
        match letter {
            '"' => {
                quoted = true;
                text.push(letter);
            }
            '{' | '[' => {
                text.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(letter);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            letter if letter.is_ascii_whitespace() => {}
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_gos() {
        let data =
            json!({ "Name": "/x", "State": { "Running": true }, "List": ["a", "b"], "Map": { "k": "v" } });
        assert_eq!(document("{{.Name}} {{.State.Running}}", &data).unwrap(), "/x true");
        assert_eq!(document("{{json .List}} {{join .List \",\"}}", &data).unwrap(), "[\"a\",\"b\"] a,b");
        assert_eq!(document("{{range $k, $v := .Map}}{{$k}}={{$v}}{{end}}", &data).unwrap(), "k=v");
        assert_eq!(document("{{upper .Name}}\\t{{index .List 1}}", &data).unwrap(), "/X\tb");
        assert!(document("{{.Missing}}", &data).is_err());
        assert!(document("{{.Name", &data).is_err());
    }

    #[test]
    fn documents_are_indented_in_their_order() {
        assert_eq!(
            indented(r#"[{"b":1,"a":[],"c":"x{\"}"}]"#),
            "[\n    {\n        \"b\": 1,\n        \"a\": [],\n        \"c\": \"x{\\\"}\"\n    }\n]"
        );
        assert_eq!(indented("[]"), "[]");
    }

    #[test]
    fn lines_are_escaped_as_go_does() {
        assert_eq!(
            document_line(&vec![("Ports", json!("80->80")), ("Label", json!({ "a": "b" }))]),
            r#"{"Ports":"80-\u003e80"}"#
        );
    }
}
