//! Options of the local driver: what is mounted as the volume instead of its own directory.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Checks `type`, `device`, `o` and `size`.
///
/// # Errors
/// Docker's words, without `create NAME: ` before them.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(name) = options.keys().find(|name| !matches!(name.as_str(), "type" | "device" | "o" | "size"))
    {
        return Err(Error::invalid(format!("invalid option: {name:?}")));
    }
    if options.contains_key("size") {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    let given = |name: &str| options.get(name).is_some_and(|value| !value.is_empty());
    for needed in ["device", "type"] {
        if !options.is_empty() && !given(needed) {
            return Err(Error::invalid(format!("missing required option: {needed:?}")));
        }
    }
    Ok(())
}

/// A mount: its file system type (`none` for a bind), device and options.
pub(super) type DeviceMount = (String, String, Vec<String>);

/// The mount that the options stand for, none where there are none.
pub(super) fn mount(options: &BTreeMap<String, String>) -> Option<DeviceMount> {
    let device = options.get("device")?;
    let flags: Vec<String> =
        options.get("o").map(|o| o.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let kind = options.get("type").cloned().unwrap_or_default();
    let bind = kind == "none" || kind == "bind" || flags.iter().any(|flag| flag == "bind" || flag == "rbind");
    Some((if bind { "none".to_owned() } else { kind }, device.clone(), flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn refusals_are_the_recorded_ones() {
        let text = |pairs: &[(&str, &str)]| check(&options(pairs)).unwrap_err().message().to_owned();
        assert_eq!(text(&[("foo", "x")]), "invalid option: \"foo\"");
        assert_eq!(text(&[("o", "size=1m")]), "missing required option: \"device\"");
        assert_eq!(text(&[("type", "tmpfs")]), "missing required option: \"device\"");
        assert_eq!(text(&[("device", "/x")]), "missing required option: \"type\"");
        assert_eq!(text(&[("size", "1m")]), "quota size requested but no quota support");
        assert!(check(&options(&[])).is_ok());
    }

    #[test]
    fn binds_are_told_from_file_systems() {
        let kind = |pairs: &[(&str, &str)]| mount(&options(pairs)).map(|(kind, ..)| kind);
        assert_eq!(kind(&[("type", "none"), ("o", "bind"), ("device", "/srv")]).as_deref(), Some("none"));
        assert_eq!(
            kind(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=1.2.3.4")]).as_deref(),
            Some("nfs")
        );
        assert_eq!(kind(&[]), None);
    }
}
