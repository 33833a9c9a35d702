//! Decoding by the rules of Go's `encoding/json`, which every client of the Docker API relies on: field names
//! match in any case, `null` leaves the zero value, the last of several equal names counts.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value;

/// A document that cannot be read, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Reads one document; there may be white space behind it, but nothing else.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let document = match documents.next() {
        None => return Err(DecodeError("invalid JSON: got EOF while reading request body".to_owned())),
        Some(Err(error)) if error.is_eof() => {
            return Err(DecodeError("invalid JSON: unexpected EOF".to_owned()));
        }
        Some(Err(error)) => return Err(DecodeError(format!("invalid JSON: {error}"))),
        Some(Ok(document)) => document,
    };
    if !bytes[documents.byte_offset()..].iter().all(u8::is_ascii_whitespace) {
        return Err(DecodeError("unexpected content after JSON".to_owned()));
    }
    from_value(document).map_err(|DecodeError(text)| DecodeError(format!("invalid JSON: {text}")))
}

/// Reads a document that was parsed already.
pub fn from_value<T: DeserializeOwned>(document: Value) -> Result<T, DecodeError> {
    T::deserialize(Document { value: document, field: "" })
}

/// A value and the name of the field it stands in.
struct Document {
    value: Value,
    field: &'static str,
}

impl Document {
    fn mismatch(&self, wanted: &str) -> DecodeError {
        let found = match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if self.field.is_empty() {
            DecodeError(format!("json: cannot unmarshal {found} into Go value of type {wanted}"))
        } else {
            DecodeError(format!(
                "json: cannot unmarshal {found} into Go struct field .{} of type {wanted}",
                self.field
            ))
        }
    }

    fn inner(&self, value: Value) -> Self {
        Self { value, field: self.field }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $kind:ty, $go:literal;)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let number = match &self.value {
                Value::Null => Some(0),
                Value::Number(number) => number
                    .as_i64()
                    .and_then(|number| <$kind>::try_from(number).ok())
                    .or_else(|| number.as_u64().and_then(|number| <$kind>::try_from(number).ok())),
                _ => None,
            };
            match (number, &self.value) {
                (Some(number), _) => visitor.$visit(number),
                (None, Value::Number(number)) => Err(DecodeError(format!(
                    "json: cannot unmarshal number {number} into Go struct field .{} of type {}", self.field, $go
                ))),
                _ => Err(self.mismatch($go)),
            }
        }
    )* };
}

impl<'de> Deserializer<'de> for Document {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => visit_number(&number, visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.mismatch("bool")),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int32";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            Value::String(text) => visitor.visit_string(text),
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let items = match self.value {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            _ => return Err(self.mismatch("[]string")),
        };
        let field = self.field;
        SeqDeserializer::new(items.into_iter().map(|value| Self { value, field })).deserialize_seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let mut items = match &self.value {
            Value::Null => Vec::new(),
            Value::Array(items) => items.clone(),
            _ => return Err(self.mismatch("[2]uint")),
        };
        // A Go array takes what is there, zero for the rest, and drops what is too much.
        items.resize(length, Value::Null);
        self.inner(Value::Array(items)).deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let fields = match self.value {
            Value::Null => serde_json::Map::new(),
            Value::Object(fields) => fields,
            _ => return Err(self.mismatch("map[string]string")),
        };
        let field = self.field;
        MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, Self { value, field })))
            .deserialize_map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let given = match self.value {
            Value::Null => serde_json::Map::new(),
            Value::Object(fields) => fields,
            _ => return Err(self.mismatch(name)),
        };
        let mut fields: Vec<(&'static str, Self)> = Vec::with_capacity(given.len());
        for (name, value) in given {
            let exact = names.iter().find(|known| **known == name);
            let known = exact.or_else(|| names.iter().find(|known| known.eq_ignore_ascii_case(&name)));
            let Some(&field) = known.filter(|_| !value.is_null()) else { continue };
            fields.retain(|(other, _)| *other != field);
            fields.push((field, Self { value, field }));
        }
        MapDeserializer::new(fields.into_iter()).deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::String(text) => {
                let text: StringDeserializer<DecodeError> = text.into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        f32 f64 i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier
    }
}

impl IntoDeserializer<'_, DecodeError> for Document {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn visit_number<'de, V: Visitor<'de>>(
    number: &serde_json::Number,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    match (number.as_i64(), number.as_u64()) {
        (Some(number), _) => visitor.visit_i64(number),
        (None, Some(number)) => visitor.visit_u64(number),
        (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
    }
}

/// Reads a command: a list of words, or one string that stands for a list of one.
pub(crate) fn str_slice<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Words;

    impl<'de> Visitor<'de> for Words {
        type Value = Option<Vec<String>>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a string or a list of strings")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.to_owned()]))
        }

        fn visit_i64<E: de::Error>(self, _number: i64) -> Result<Self::Value, E> {
            Err(E::custom("json: cannot unmarshal number into Go value of type string"))
        }

        fn visit_u64<E: de::Error>(self, _number: u64) -> Result<Self::Value, E> {
            Err(E::custom("json: cannot unmarshal number into Go value of type string"))
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut words: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(word) = words.next_element::<String>()? {
                list.push(word);
            }
            Ok(Some(list))
        }
    }

    deserializer.deserialize_any(Words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerConfig, CreateRequest, HostConfig};

    #[test]
    fn names_match_in_any_case_and_null_is_zero() {
        let body = br#"{"image":"busybox","TTY":null,"cmd":"ls","Labels":null,"ENV":["A=b",null],
            "hostconfig":{"memory":null,"Memory":5,"consolesize":[1],"Binds":[]},"Unknown":{"a":1}}"#;
        let request: CreateRequest = from_slice(body).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, Some(vec!["ls".to_owned()]));
        assert_eq!(request.config.labels, None);
        assert_eq!(request.config.env, Some(vec!["A=b".to_owned(), String::new()]));
        let host = request.host_config.unwrap();
        assert_eq!((host.memory, host.console_size, host.binds), (5, [1, 0], Some(Vec::new())));
    }

    #[test]
    fn errors_are_in_the_words_of_the_original() {
        let error = |body: &[u8]| from_slice::<ContainerConfig>(body).unwrap_err().to_string();
        assert_eq!(error(b""), "invalid JSON: got EOF while reading request body");
        assert_eq!(error(b"{\"Cmd"), "invalid JSON: unexpected EOF");
        assert_eq!(error(b"{} {}"), "unexpected content after JSON");
        assert_eq!(
            error(br#"{"Cmd":3}"#),
            "invalid JSON: json: cannot unmarshal number into Go value of type string"
        );
        assert_eq!(
            error(br#"{"Tty":"a"}"#),
            "invalid JSON: json: cannot unmarshal string into Go struct field .Tty of type bool"
        );
    }

    #[test]
    fn documents_survive_a_round_trip() {
        let host = HostConfig {
            memory: 7,
            port_bindings: Some([("80/tcp".to_owned(), None)].into()),
            ..HostConfig::default()
        };
        let text = serde_json::to_vec(&host).unwrap();
        assert_eq!(from_slice::<HostConfig>(&text).unwrap(), host);
        assert_eq!(serde_json::from_slice::<HostConfig>(&text).unwrap(), host);
    }
}
