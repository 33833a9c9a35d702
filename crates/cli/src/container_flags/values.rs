//! Values of flags: sizes, durations, pairs, mounts, ports, devices and limits, in Docker's notations.

use std::collections::BTreeMap;

use wharf_api::{
    BindOptions, DeviceMapping, DeviceRequest, Mount, PortBinding, ThrottleDevice, TmpfsOptions, Ulimit,
    VolumeDriver, VolumeOptions,
};

/// `64m`, `1.5g`, `1024`: bytes, in powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("invalid size: '{text}'")),
    };
    let number: f64 = number.parse().map_err(|_| format!("invalid size: '{text}'"))?;
    #[expect(clippy::cast_possible_truncation, reason = "sizes beyond 2^53 bytes saturate")]
    Ok((number * 1024_f64.powi(power)) as i64)
}

/// The same, or `-1`.
pub(super) fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// A Go duration (`1m30s`, `250ms`) in nanoseconds.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("time: invalid duration \"{text}\"");
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut total = 0.0;
    if rest == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .ok_or_else(|| format!("time: missing unit in duration \"{text}\""))?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(wrong()),
            };
        rest = &rest[end..];
    }
    if text.trim_start_matches('-').is_empty() {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "292 years are enough")]
    Ok((sign * total) as i64)
}

/// `name=value` pairs; a name alone has the empty value.
pub(super) fn pairs(list: &[String]) -> BTreeMap<String, String> {
    list.iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// `name[=soft[:hard]]`.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let wrong = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `VENDOR/CLASS=NAME`, as the Container Device Interface names devices.
pub(super) fn is_vendors_name(text: &str) -> bool {
    let word = |text: &str, others: &str| {
        let outer = |letter: char| letter.is_ascii_alphanumeric();
        let inner = |letter: char| outer(letter) || others.contains(letter);
        text.starts_with(outer) && text.ends_with(outer) && text.chars().all(inner)
    };
    let parts = text.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
    parts.is_some_and(|((vendor, class), name)| {
        word(vendor, "_-.") && word(class, "_-.") && word(name, "_-.:")
    })
}

/// `host[:container][:permissions]`.
pub(super) fn device(text: &str) -> Result<DeviceMapping, String> {
    let permissions = |text: &str| !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, allowed) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if permissions(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, mode] if permissions(mode) => (host, inside, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    Ok(DeviceMapping {
        path_on_host: host.into(),
        path_in_container: inside.into(),
        cgroup_permissions: allowed.into(),
    })
}

/// `all`, a count, or `count=…,device=…,driver=…,capabilities=…,options=…` pairs; lists are separated by commas in quotes.
pub(super) fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let number = |text: &str| {
        if text == "all" {
            Ok(-1)
        } else {
            text.parse().map_err(|_| {
                format!("invalid argument \"{text}\" for \"--gpus\" flag: count must be an integer")
            })
        }
    };
    let mut request =
        DeviceRequest { count: 1, capabilities: Some(vec![vec!["gpu".into()]]), ..DeviceRequest::default() };
    for field in &fields(text) {
        match field.split_once('=') {
            None => request.count = number(field)?,
            Some(("count", value)) => request.count = number(value)?,
            Some(("driver", value)) => request.driver = value.to_owned(),
            Some(("device", value)) => {
                request.count = 0;
                request.device_ids = Some(value.split(',').map(str::to_owned).collect());
            }
            Some(("capabilities", value)) => {
                request.capabilities = Some(vec![value.split(',').map(str::to_owned).collect()])
            }
            Some((key, _)) => {
                return Err(format!(
                    "invalid argument \"{text}\" for \"--gpus\" flag: unexpected key '{key}' in '{field}'"
                ));
            }
        }
    }
    Ok(request)
}

/// Fields between commas; quotes keep commas inside one.
fn fields(text: &str) -> Vec<String> {
    let (mut list, mut quoted) = (vec![String::new()], false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => list.push(String::new()),
            letter => list.last_mut().into_iter().for_each(|field| field.push(letter)),
        }
    }
    list
}

/// `path:rate`, the rate as bytes or as a plain number.
pub(super) fn throttle(text: &str) -> Result<ThrottleDevice, String> {
    let wrong = || format!("bad format: {text}");
    let (path, rate) = text.rsplit_once(':').ok_or_else(wrong)?;
    let rate = u64::try_from(bytes(rate)?).map_err(|_| wrong())?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `[[ip:]host:]container[/protocol]`, ranges included: (container port, binding) each.
pub(crate) fn publish(text: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let wrong = |why: &str| format!("{why}: {text}");
    let (spec, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (front, container) =
        spec.rsplit_once(':').map_or((None, spec), |(front, container)| (Some(front), container));
    let (address, host) = match front {
        None => ("", ""),
        Some(front) if front.starts_with('[') => {
            let (address, host) = front.split_once(']').ok_or_else(|| wrong("invalid address"))?;
            (&address[1..], host.trim_start_matches(':'))
        }
        Some(front) => front.rsplit_once(':').unwrap_or(("", front)),
    };
    let inside = range(container).ok_or_else(|| format!("Invalid containerPort: {container}"))?;
    let binding = |port: String| PortBinding { host_ip: address.to_owned(), host_port: port };
    if host.is_empty() {
        return Ok(inside.map(|port| (format!("{port}/{protocol}"), binding(String::new()))).collect());
    }
    let outside = range(host).ok_or_else(|| format!("Invalid hostPort: {host}"))?;
    if inside.clone().count() == 1 && outside.clone().count() > 1 {
        return Ok(vec![(format!("{}/{protocol}", inside.start()), binding(host.to_owned()))]);
    }
    if inside.clone().count() != outside.clone().count() {
        return Err(format!("Invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    Ok(inside
        .zip(outside)
        .map(|(inside, outside)| (format!("{inside}/{protocol}"), binding(outside.to_string())))
        .collect())
}

/// `80` or `8000-8010`.
pub(super) fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// `--mount`'s comma separated pairs.
pub(super) fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { r#type: "volume".into(), ..Mount::default() };
    let (mut bind, mut volume, mut tmpfs) =
        (BindOptions::default(), VolumeOptions::default(), TmpfsOptions::default());
    let mut driver = VolumeDriver::default();
    for field in &fields(text) {
        let (key, value) = field.split_once('=').map_or((&**field, None), |(key, value)| (key, Some(value)));
        if value.is_none()
            && !matches!(key, "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "idmap")
        {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        let given = || value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"));
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("invalid value for {key}: {other}")),
        };
        match key.to_ascii_lowercase().as_str() {
            "type" => mount.r#type = given()?.to_ascii_lowercase(),
            "source" | "src" => mount.source = source(given()?),
            "target" | "dst" | "destination" => mount.target = given()?.to_owned(),
            "readonly" | "ro" => mount.read_only = flag()?,
            "idmap" => value.unwrap_or("true").clone_into(&mut mount.idmap),
            "consistency" => mount.consistency = given()?.to_owned(),
            "bind-propagation" => bind.propagation = given()?.to_owned(),
            "bind-nonrecursive" => bind.non_recursive = flag()?,
            "bind-recursive" => recursive(given()?, &mut bind)?,
            "volume-subpath" => volume.subpath = given()?.to_owned(),
            "volume-nocopy" => volume.no_copy = flag()?,
            "volume-label" => drop(volume.labels.get_or_insert_default().insert(
                given()?.split_once('=').map_or(given()?, |(name, _)| name).to_owned(),
                given()?.split_once('=').map_or("", |(_, value)| value).to_owned(),
            )),
            "volume-driver" => driver.name = given()?.to_owned(),
            "volume-opt" => drop(driver.options.get_or_insert_default().insert(
                given()?.split_once('=').map_or(given()?, |(name, _)| name).to_owned(),
                given()?.split_once('=').map_or("", |(_, value)| value).to_owned(),
            )),
            "image-subpath" => mount.image_options.get_or_insert_default().subpath = given()?.to_owned(),
            "tmpfs-size" => tmpfs.size_bytes = bytes(given()?)?,
            "tmpfs-mode" => {
                tmpfs.mode = u32::from_str_radix(given()?, 8)
                    .map_err(|_| format!("invalid value for {key}: {}", value.unwrap_or("")))?;
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    if driver != VolumeDriver::default() {
        volume.driver_config = Some(driver);
    }
    mount.bind_options = (bind != BindOptions::default()).then_some(bind);
    mount.volume_options = (volume != VolumeOptions::default()).then_some(volume);
    mount.tmpfs_options = (tmpfs != TmpfsOptions::default()).then_some(tmpfs);
    Ok(mount)
}

fn recursive(value: &str, bind: &mut BindOptions) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => bind.non_recursive = true,
        "writable" => bind.read_only_non_recursive = true,
        "readonly" => bind.read_only_force_recursive = true,
        other => {
            return Err(format!(
                "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

/// A relative bind source is relative to where the command runs.
pub(super) fn source(text: &str) -> String {
    if text == "." || text.starts_with("./") || text.starts_with("../") || text == ".." {
        let absolute = std::env::current_dir().unwrap_or_default().join(text);
        return std::path::absolute(&absolute)
            .unwrap_or(absolute)
            .to_string_lossy()
            .trim_end_matches("/.")
            .to_owned();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("64m"), Ok(67_108_864));
        assert_eq!(bytes("1.5KiB"), Ok(1536));
        assert_eq!(bytes("10"), Ok(10));
        assert!(bytes("ten").is_err());
    }

    #[test]
    fn devices_have_vendors_names_or_paths() {
        for name in ["vendor.com/class=name", "nvidia.com/gpu=all", "a/b=GPU-1:0"] {
            assert!(is_vendors_name(name), "{name}");
        }
        for path in ["/dev/null", "/dev/x=y", "vendor.com/class", "a/b/c=d", "a/b=", "/dev/a:/dev/b:rw"] {
            assert!(!is_vendors_name(path), "{path}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m30s"), Ok(90_000_000_000));
        assert_eq!(duration("250ms"), Ok(250_000_000));
        assert!(duration("5").is_err());
        assert!(duration("").is_err());
    }

    #[test]
    fn ports() {
        let one = |text: &str| {
            publish(text)
                .unwrap()
                .into_iter()
                .map(|(port, binding)| format!("{port}={}:{}", binding.host_ip, binding.host_port))
                .collect::<Vec<_>>()
        };
        assert_eq!(one("80"), ["80/tcp=:"]);
        assert_eq!(one("8080:80/udp"), ["80/udp=:8080"]);
        assert_eq!(one("127.0.0.1:8080:80"), ["80/tcp=127.0.0.1:8080"]);
        assert_eq!(one("[::1]:8080:80"), ["80/tcp=::1:8080"]);
        assert_eq!(one("127.0.0.1::80"), ["80/tcp=127.0.0.1:"]);
        assert_eq!(one("8000-8001:80-81"), ["80/tcp=:8000", "81/tcp=:8001"]);
        assert_eq!(one("8000-8009:80"), ["80/tcp=:8000-8009"]);
        assert!(publish("x:80").is_err());
    }

    #[test]
    fn mounts() {
        let parsed = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        assert_eq!(
            (parsed.r#type.as_str(), parsed.source.as_str(), parsed.target.as_str(), parsed.read_only),
            ("bind", "/a", "/b", true)
        );
        assert_eq!(parsed.bind_options.unwrap().propagation, "rslave");
        assert!(mount("type=bind,src=/a").is_err());
    }

    #[test]
    fn gpu_requests() {
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("\"device=0,1\",driver=x").unwrap().device_ids.unwrap(), ["0", "1"]);
        assert!(gpus("many").is_err());
    }

    #[test]
    fn limits_and_devices() {
        assert_eq!(ulimit("nofile=10:20").unwrap(), Ulimit { name: "nofile".into(), soft: 10, hard: 20 });
        assert!(ulimit("nofile=30:20").is_err());
        assert_eq!(device("/dev/a:/dev/b:r").unwrap().cgroup_permissions, "r");
        assert_eq!(device("/dev/a:rw").unwrap().path_in_container, "/dev/a");
    }
}
