//! `RUN --mount=type=…`: comma-separated fields, quoted as CSV.

use super::super::error::suggest;

/// One mount of a `RUN`; its texts are still unexpanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// What kind.
    pub kind: MountKind,
    /// Where it appears; empty: the kind's default.
    pub target: String,
    /// A stage, an image or a named context that it is from.
    pub from: Option<String>,
    /// The path in there.
    pub source: Option<String>,
    /// `Some(true)`: read-only was asked for.
    pub read_only: Option<bool>,
    /// The name of a cache, secret or agent.
    pub id: Option<String>,
    /// Whether a secret or agent must be there.
    pub required: bool,
    /// The variable that a secret is put into.
    pub env: Option<String>,
    /// How a cache is shared.
    pub sharing: Sharing,
    /// Bytes a tmpfs may hold.
    pub size: Option<u64>,
    /// Mode of a cache directory, secret or socket.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// The kinds of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the client's.
    Secret,
    /// The client's SSH agent.
    Ssh,
}

/// How builds share a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All write.
    #[default]
    Shared,
    /// A second one gets another.
    Private,
    /// A second one waits.
    Locked,
}

const KEYS: [&str; 17] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "id",
    "env",
    "sharing",
    "mode",
    "size",
];

impl MountSpec {
    /// Reads the fields of one `--mount`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut spec = Self::empty();
        let mut kind_said = false;
        for field in fields(text) {
            let (key, value) =
                field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
            let key = key.to_ascii_lowercase();
            if key == "type" {
                kind_said = true;
                spec.kind = kind(value.unwrap_or_default())?;
                continue;
            }
            match (flag_value(&key, value)?, value) {
                (Some(on), _) => spec.set_flag(&key, on),
                (None, Some(value)) => spec.set(&key, value, &field)?,
                (None, None) => return Err(unexpected(&key, &field)),
            }
        }
        if !kind_said && text.is_empty() {
            return Err("invalid field '' must be a key=value pair".to_owned());
        }
        spec.check()?;
        Ok(spec)
    }

    const fn empty() -> Self {
        Self {
            kind: MountKind::Bind,
            target: String::new(),
            from: None,
            source: None,
            read_only: None,
            id: None,
            required: false,
            env: None,
            sharing: Sharing::Shared,
            size: None,
            mode: None,
            uid: None,
            gid: None,
        }
    }

    fn set_flag(&mut self, key: &str, on: bool) {
        match key {
            "required" => self.required = on,
            "readonly" | "ro" => self.read_only = Some(on),
            _ => self.read_only = Some(!on),
        }
    }

    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("invalid value for {what}: {value}");
        match key {
            "from" => self.from = Some(value.to_owned()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "id" => self.id = Some(value.to_owned()),
            "env" => self.env = Some(value.to_owned()),
            "sharing" => self.sharing = sharing(value)?,
            "size" => self.size = Some(size(value).ok_or_else(|| wrong("size"))?),
            "mode" => self.mode = Some(u32::from_str_radix(value, 8).map_err(|_| wrong("mode"))?),
            "uid" => self.uid = Some(value.parse().map_err(|_| wrong("uid"))?),
            "gid" => self.gid = Some(value.parse().map_err(|_| wrong("gid"))?),
            _ => return Err(unexpected(key, field)),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let needs_target = matches!(self.kind, MountKind::Bind | MountKind::Cache | MountKind::Tmpfs);
        if needs_target && self.target.is_empty() {
            return Err("invalid mount target \"/\"".to_owned());
        }
        let name = self.kind.name();
        if self.kind != MountKind::Cache && self.sharing != Sharing::Shared {
            return Err(format!("invalid cache sharing set for {name} mount"));
        }
        if self.from.is_some() && !matches!(self.kind, MountKind::Bind | MountKind::Cache) {
            return Err(format!("'from' is not allowed for {name} mount"));
        }
        if self.kind == MountKind::Secret
            && self.id.is_none()
            && self.source.is_none()
            && self.target.is_empty()
        {
            return Err("invalid secret mount. one of source, target required".to_owned());
        }
        if self.size.is_some() && self.kind != MountKind::Tmpfs {
            return Err(format!("'size' is not allowed for {name} mount"));
        }
        Ok(())
    }
}

impl MountKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

fn kind(value: &str) -> Result<MountKind, String> {
    let kinds = [MountKind::Bind, MountKind::Cache, MountKind::Tmpfs, MountKind::Secret, MountKind::Ssh];
    let lower = value.to_ascii_lowercase();
    let found = kinds.into_iter().find(|kind| kind.name() == lower);
    found.ok_or_else(|| {
        suggest(format!("unsupported mount type \"{value}\""), value, kinds.map(MountKind::name))
    })
}

fn sharing(value: &str) -> Result<Sharing, String> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(suggest(
            format!("unsupported sharing value \"{value}\""),
            value,
            ["shared", "private", "locked"],
        )),
    }
}

/// The value of a field that is on by being there; `None`: the field is no such one.
fn flag_value(key: &str, value: Option<&str>) -> Result<Option<bool>, String> {
    if !matches!(key, "readonly" | "ro" | "readwrite" | "rw" | "required") {
        return Ok(None);
    }
    match value {
        None => Ok(Some(true)),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(value) => Err(format!("invalid value for {key}: {value}")),
    }
}

fn unexpected(key: &str, field: &str) -> String {
    suggest(format!("unexpected key '{key}' in '{field}'"), key, KEYS)
}

/// A size with Docker's units: `10m`, `1GiB`.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|part: char| !part.is_ascii_digit()).unwrap_or(lower.len());
    let number: u64 = lower[..digits].parse().ok()?;
    let shift = match lower[digits..].trim().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The comma-separated fields of a CSV line; a quoted field may hold commas.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for next in text.chars() {
        match next {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            next => fields.last_mut().into_iter().for_each(|field| field.push(next)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let cache =
            MountSpec::parse("type=cache,dst=/c,sharing=locked,uid=1000,mode=0755,\"id=a,b\"").unwrap();
        assert_eq!(
            (cache.kind, cache.sharing, cache.uid, cache.mode),
            (MountKind::Cache, Sharing::Locked, Some(1000), Some(0o755))
        );
        assert_eq!(cache.id.as_deref(), Some("a,b"));
        let bind = MountSpec::parse("target=/x,rw,from=base").unwrap();
        assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, Some(false)));
        assert_eq!(MountSpec::parse("type=tmpfs,target=/t,size=2m").unwrap().size, Some(2 << 20));
    }

    #[test]
    fn wrong_fields_are_refused() {
        let refused = |text: &str| MountSpec::parse(text).unwrap_err();
        assert_eq!(refused("type=cahce,target=/x"), "unsupported mount type \"cahce\" (did you mean cache?)");
        assert_eq!(
            refused("type=cache,tagret=/x"),
            "unexpected key 'tagret' in 'tagret=/x' (did you mean target?)"
        );
        assert_eq!(refused("type=cache"), "invalid mount target \"/\"");
        assert_eq!(refused("type=secret"), "invalid secret mount. one of source, target required");
        assert_eq!(refused("type=tmpfs,target=/x,size=y"), "invalid value for size: y");
    }
}
