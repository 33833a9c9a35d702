//! Go templates over JSON documents, with the functions that Docker's client adds.
//!
//! Docker evaluates its own typed structures. What that shows is kept: an absent pointer prints `<nil>`, a null list
//! `[]`, a null map `map[]`, and fields that the daemon leaves out when empty may be named all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use gotmpl::{MissingKey, Template, TemplateError, Value};
use serde_json::Value as Json;

use crate::error::CliError;

/// Fields that are maps; null is shown as an empty one.
const MAPS: [&str; 17] = [
    "Annotations",
    "Attributes",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "GraphDriver",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];
/// Fields that are pointers.
const POINTERS: [&str; 16] = [
    "ClusterVolume",
    "Descriptor",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "Platform",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "UsageData",
    "BindOptions",
];
/// Fields that documents leave out when they are empty: where they belong (by a field that is always there) and
/// their names; those of the third list are strings.
const OPTIONAL: [(&str, &[&str], &[&str]); 4] = [
    ("RestartCount", &["SizeRw", "SizeRootFs", "ImageManifestDescriptor"], &[]),
    ("OOMKilled", &["Health"], &[]),
    ("AttachStdin", &["Healthcheck", "ExposedPorts", "StopTimeout", "Shell"], &["StopSignal", "MacAddress"]),
    ("NetworkMode", &["Init", "Mounts", "Annotations", "StorageOpt", "Tmpfs", "Sysctls"], &[]),
];

/// A list that was null, known by its address so that `json` can say so.
static NO_LIST: LazyLock<Arc<[Value]>> = LazyLock::new(|| Arc::from(Vec::new()));
/// A map that was null.
static NO_MAP: LazyLock<Arc<BTreeMap<Arc<str>, Value>>> = LazyLock::new(|| Arc::new(BTreeMap::new()));

/// `\t` and `\n` as they are typed on a command line.
pub(crate) fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Compiles a template; the error is Go's text without what went before it.
pub(crate) fn compile(source: &str) -> Result<Template, String> {
    let text =
        |arguments: &[Value], at: usize| arguments.get(at).map(ToString::to_string).unwrap_or_default();
    let string = |text: String| Ok::<Value, TemplateError>(Value::String(text.into()));
    let count = |arguments: &[Value], at: usize| {
        arguments.get(at).and_then(Value::as_int).and_then(|count| usize::try_from(count).ok())
    };
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
            string(text(arguments, 0).chars().take(count(arguments, 1).unwrap_or(usize::MAX)).collect())
        })
        .func("pad", move |arguments| {
            let blanks = |at: usize| " ".repeat(count(arguments, at).unwrap_or(0));
            let text = text(arguments, 0);
            string(if text.is_empty() { text } else { format!("{}{text}{}", blanks(1), blanks(2)) })
        })
        .func("index", index)
        // Docker's rows have a method of this name.
        .func("label", |arguments| match (arguments.first(), arguments.get(1)) {
            (Some(Value::Map(row)), Some(name)) => match row.get("Label") {
                Some(Value::Map(labels)) => {
                    Ok(labels.get(&*name.to_string()).cloned().unwrap_or_else(|| Value::String("".into())))
                }
                _ => Ok(name.clone()),
            },
            _ => Ok(Value::String("".into())),
        })
        .parse(&source.replace(".Label \"", "label $ \"").replace(".Label `", "label $ `"));
    parsed.map_err(|error| error.to_string())
}

/// An element by its position or name; the name that a map of strings lacks gives the empty string, as Go's zero value.
fn index(arguments: &[Value]) -> Result<Value, TemplateError> {
    let Some((whole, path)) = arguments.split_first() else {
        return Err(TemplateError::Exec("wrong number of args for index: want at least 1 got 0".to_owned()));
    };
    path.iter().try_fold(whole.clone(), |found, step| match &found {
        Value::Map(map) if map.values().all(|value| matches!(value, Value::String(_))) => {
            let element = found.index(step)?;
            Ok(if matches!(element, Value::Nil) { Value::String("".into()) } else { element })
        }
        _ => found.index(step),
    })
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

/// Executes a template.
pub(crate) fn render(template: &Template, data: &Value) -> Result<String, CliError> {
    let text = template.execute_to_string(data).map_err(|error| {
        let text = error.to_string();
        // Go finds unknown functions when it parses: exit code 64 of a template that is none.
        let code = if text.starts_with("undefined function") { 64 } else { 1 };
        CliError::new(text).with_code(code)
    })?;
    // Null is the nil of a Go structure here, never a missing entry of a map.
    Ok(text.replace("<no value>", "<nil>"))
}

/// A document as template data.
pub(crate) fn value(document: &Json) -> Value {
    named("", document)
}

fn named(name: &str, document: &Json) -> Value {
    match document {
        Json::Null if matches!(name, "" | ".") || POINTERS.contains(&name) => Value::Nil,
        Json::Null if MAPS.contains(&name) => Value::Map(NO_MAP.clone()),
        Json::Null => Value::List(NO_LIST.clone()),
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(list) => Value::List(list.iter().map(|item| named(".", item)).collect()),
        Json::Object(fields) => {
            let mut map: BTreeMap<Arc<str>, Value> =
                fields.iter().map(|(name, field)| (Arc::from(name.as_str()), named(name, field))).collect();
            for (_, absent, strings) in OPTIONAL.iter().filter(|(mark, ..)| fields.contains_key(*mark)) {
                for name in *absent {
                    map.entry(Arc::from(*name)).or_insert_with(|| named(name, &Json::Null));
                }
                for name in *strings {
                    map.entry(Arc::from(*name)).or_insert_with(|| Value::String("".into()));
                }
            }
            Value::Map(Arc::new(map))
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
        Value::List(list) if Arc::ptr_eq(list, &NO_LIST) => Json::Null,
        Value::Map(map) if Arc::ptr_eq(map, &NO_MAP) => Json::Null,
        Value::List(list) => Json::Array(list.iter().map(json).collect()),
        Value::Map(fields) => {
            let shown =
                fields.iter().filter(|(name, field)| &***name != "Label" && !left_out(fields, name, field));
            Json::Object(shown.map(|(name, field)| (name.to_string(), json(field))).collect())
        }
        _ => Json::Null,
    }
}

/// Whether an empty field is one that its document leaves out.
fn left_out(fields: &BTreeMap<Arc<str>, Value>, name: &str, field: &Value) -> bool {
    let empty = match field {
        Value::Nil => true,
        Value::String(text) => text.is_empty(),
        Value::List(list) => Arc::ptr_eq(list, &NO_LIST),
        Value::Map(map) => Arc::ptr_eq(map, &NO_MAP),
        _ => false,
    };
    empty
        && OPTIONAL.iter().any(|(mark, absent, strings)| {
            fields.contains_key(*mark) && (absent.contains(&name) || strings.contains(&name))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(template: &str, data: &Json) -> String {
        render(&compile(template).unwrap(), &value(data)).unwrap()
    }

    #[test]
    fn null_is_shown_as_go_shows_it() {
        let data = json!({ "Binds": null, "Labels": null, "PidsLimit": null });
        assert_eq!(show("{{.Binds}} {{.Labels}} {{.PidsLimit}} {{len .Binds}}", &data), "[] map[] <nil> 0");
        assert_eq!(show("{{json .Binds}} {{json .Labels}} {{json .PidsLimit}}", &data), "null null null");
    }

    #[test]
    fn fields_left_out_may_be_named() {
        let data = json!({ "State": { "OOMKilled": false, "Status": "exited" } });
        assert_eq!(show("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", &data), "none");
        assert_eq!(show("{{json .State}}", &data), r#"{"OOMKilled":false,"Status":"exited"}"#);
        assert!(render(&compile("{{.State.Nope}}").unwrap(), &value(&data)).is_err());
    }

    #[test]
    fn labels_are_asked_for_by_name() {
        let data = json!({ "Label": { "a": "1" }, "Name": "x" });
        assert_eq!(show("{{.Name}} {{.Label \"a\"}} {{.Label \"b\"}}|", &data), "x 1 |");
        assert_eq!(show("{{json .}}", &data), r#"{"Name":"x"}"#);
    }

    #[test]
    fn what_a_map_of_strings_lacks_is_empty() {
        let data = json!({ "Labels": { "a": "1" }, "Ports": { "80/tcp": null }, "List": ["x"] });
        assert_eq!(show("<{{index .Labels \"a\"}}> <{{index .Labels \"b\"}}>", &data), "<1> <>");
        assert_eq!(show("{{index .List 0}}", &data), "x");
    }

    #[test]
    fn functions_are_dockers() {
        let data = json!({ "Name": "/x", "List": ["a", "b"], "Text": "a,b", "Big": u64::MAX });
        assert_eq!(
            show("{{join .List \"-\"}} {{upper .Name}} {{title .Text}} {{truncate .Text 2}}", &data),
            "a-b /X A,b a,"
        );
        assert_eq!(
            show("{{range split .Text \",\"}}<{{.}}>{{end}}{{pad .Name 1 2}}|{{.Big}}", &data),
            "<a><b> /x  |18446744073709551615"
        );
    }
}
