//! Deciding at create what will be mounted where, and making the volumes that takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use wharf_api::{ContainerConfig, HostConfig, Mount, MountPoint, VolumeCreateRequest};

use super::points::{
    Kind, Point, ReadOnlyReach, check_absolute, check_target, clean, is_propagation, parse_bind, parse_owner,
};
use super::points::{parse_volumes_from, writable};
use super::tmpfs;
use crate::error::{Error, Result};
use crate::volume::{ANONYMOUS, Volumes, random_name};

/// What registering needs of the engine.
#[derive(Clone, Copy)]
pub struct Register<'a> {
    /// The container's id; it becomes a user of its volumes.
    pub id: &'a str,
    /// The engine's data root, whose mounts a container must not pin.
    pub data_root: &'a Path,
    /// Volumes.
    pub volumes: &'a Volumes,
    /// The mount points of another container, found by id, name or prefix.
    pub points_of: &'a dyn Fn(&str) -> Option<Vec<Point>>,
    /// The id of an image by any of its names, for `--mount type=image`.
    pub image_id: &'a dyn Fn(&str) -> Result<String>,
}

impl fmt::Debug for Register<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Register").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Makes the mount points of a container from its binds, mounts, `VolumesFrom` and the volumes of its (merged)
/// configuration, and the volumes they name. Sleeps in the kernel. After an error, or when create fails later on, call
/// [`Volumes::release`] for the container.
///
/// # Errors
/// Docker's words and classes for every wrong specification.
pub fn register(
    ask: &Register<'_>,
    config: &ContainerConfig,
    host: &HostConfig,
) -> Result<(Vec<Point>, Vec<String>)> {
    let mut points: BTreeMap<String, Point> = BTreeMap::new();
    let mut warnings = Vec::new();
    for spec in host.volumes_from.iter().flatten() {
        for point in from_container(ask, spec)? {
            points.insert(point.destination.clone(), point);
        }
    }
    let mut taken: BTreeSet<String> = host.tmpfs.iter().flatten().map(|(path, _)| clean(path)).collect();
    let mut add = |point: Point, points: &mut BTreeMap<String, Point>| {
        if !taken.insert(point.destination.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", point.destination)));
        }
        points.insert(point.destination.clone(), point);
        Ok(())
    };
    for raw in host.binds.iter().flatten() {
        let mut point = parse_bind(raw, &host.volume_driver)?;
        let explicit = raw.splitn(3, ':').nth(2).is_some_and(|mode| mode.split(',').any(is_propagation));
        around_data_root(ask, &mut point, explicit)?;
        add(point, &mut points)?;
    }
    let mut requests: BTreeMap<String, &Mount> = BTreeMap::new();
    for mount in host.mounts.iter().flatten() {
        let mut point = parse_mount(mount)?;
        let explicit = mount.bind_options.as_ref().is_some_and(|options| !options.propagation.is_empty());
        around_data_root(ask, &mut point, explicit)?;
        if point.kind == Kind::Image {
            point.source = (ask.image_id)(&point.name)?;
            warnings.push("Image mount is an experimental feature".to_owned());
        }
        requests.insert(point.destination.clone(), mount);
        add(point, &mut points)?;
    }
    for path in config.volumes.iter().flatten().map(|(path, _)| path) {
        let destination = clean(path);
        if taken.contains(&destination) || points.contains_key(&destination) {
            continue;
        }
        let point = Point {
            anonymous: true,
            copy: true,
            driver: host.volume_driver.clone(),
            ..Point::new(Kind::Volume, path)
        };
        points.insert(destination, Point { mode: String::new(), ..make_volume(ask, point, None)? });
    }
    // Binds and mounts last: volumes are made only once everything was found in order.
    let mut made = Vec::new();
    for (destination, point) in points {
        let wanted = point.kind == Kind::Volume && point.source.is_empty();
        made.push(if wanted { labelled(ask, point, requests.get(&destination).copied())? } else { point });
    }
    for point in &made {
        if point.kind == Kind::Volume {
            ask.volumes.reference(&point.name, ask.id)?;
        }
    }
    Ok((made, warnings))
}

/// A volume of a bind or mount; such ones show the mode `z` when they have no other.
fn labelled(ask: &Register<'_>, point: Point, request: Option<&Mount>) -> Result<Point> {
    let mut point = make_volume(ask, point, request)?;
    if point.mode.is_empty() {
        "z".clone_into(&mut point.mode);
    }
    Ok(point)
}

fn make_volume(ask: &Register<'_>, mut point: Point, request: Option<&Mount>) -> Result<Point> {
    let options = request.and_then(|mount| mount.volume_options.as_ref());
    let mut labels = options.and_then(|options| options.labels.clone());
    let unnamed = point.name.is_empty();
    if unnamed {
        point.name = random_name();
        labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
    }
    let request = VolumeCreateRequest {
        name: point.name.clone(),
        driver: point.driver.clone(),
        labels,
        driver_opts: options
            .and_then(|options| options.driver_config.as_ref())
            .and_then(|driver| driver.options.clone()),
        cluster_volume_spec: None,
    };
    let volume = ask.volumes.make_for(&request, ask.id, unnamed)?;
    point.name = volume.name;
    point.source = volume.mountpoint;
    point.driver = volume.driver;
    Ok(point)
}

/// The points of another container, with at most the rights that `spec` leaves.
fn from_container(ask: &Register<'_>, spec: &str) -> Result<Vec<Point>> {
    let (name, mode) = parse_volumes_from(spec)?;
    let points = (ask.points_of)(name).ok_or_else(|| Error::invalid(format!("No such container: {name}")))?;
    let with_rights =
        |point: Point| Point { rw: point.rw && writable(mode), mode: String::new(), copy: false, ..point };
    Ok(points.into_iter().map(with_rights).collect())
}

/// A bind of a directory around the data root would pin the engine's own mounts, so it has to be a slave or shared.
fn around_data_root(ask: &Register<'_>, point: &mut Point, explicit: bool) -> Result<()> {
    if point.kind != Kind::Bind {
        return Ok(());
    }
    let (source, root) = (Path::new(&point.source), ask.data_root);
    if !root.starts_with(source) && !source.starts_with(root) {
        return Ok(());
    }
    if !explicit {
        "rslave".clone_into(&mut point.propagation);
        return Ok(());
    }
    if matches!(point.propagation.as_str(), "rslave" | "rshared") {
        return Ok(());
    }
    let why = "must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root";
    let (root, source) = (root.display(), &point.source);
    Err(Error::invalid(format!(
        "invalid mount config: {why}, daemon root: \"{root}\", bind mount source: {source:?}, propagation: {:?}",
        point.propagation
    )))
}

/// Checks a `--mount` and makes a point of it; volumes and images are not looked at yet.
///
/// # Errors
/// `invalid mount config for type "…": …`.
pub fn parse_mount(mount: &Mount) -> Result<Point> {
    point_of(mount)
        .map_err(|why| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.r#type)))
}

fn point_of(mount: &Mount) -> Result<Point, String> {
    check_target(&mount.target)?;
    let no = |present: bool, field: &str| {
        if present { Err(format!("field {field} must not be specified")) } else { Ok(()) }
    };
    let source = || {
        if mount.source.is_empty() {
            Err("field Source must not be empty".to_owned())
        } else {
            Ok(mount.source.clone())
        }
    };
    let bind = mount.bind_options.clone().unwrap_or_default();
    let owner = match mount.idmap.as_str() {
        "" => None,
        text => Some(parse_owner(text).ok_or_else(|| format!("invalid idmap: {text}"))?),
    };
    no(owner.is_some() && !matches!(mount.r#type.as_str(), "bind" | "volume"), "Idmap")?;
    let point = |kind| Point { rw: !mount.read_only, owner, ..Point::new(kind, &mount.target) };
    match mount.r#type.as_str() {
        "bind" => {
            source()?;
            if !bind.propagation.is_empty() && !is_propagation(&bind.propagation) {
                return Err(format!("invalid propagation mode: {}", bind.propagation));
            }
            no(mount.volume_options.is_some(), "VolumeOptions")?;
            no(mount.image_options.is_some(), "ImageOptions")?;
            check_absolute(&mount.source)?;
            if !bind.create_mountpoint && !Path::new(&mount.source).exists() {
                return Err(format!("bind source path does not exist: {}", mount.source));
            }
            let propagation =
                if bind.propagation.is_empty() { "rprivate".to_owned() } else { bind.propagation.clone() };
            let source = clean(&mount.source);
            let (non_recursive, make_source, reach) =
                (bind.non_recursive, bind.create_mountpoint, reach(&bind));
            Ok(Point { source, propagation, non_recursive, make_source, reach, ..point(Kind::Bind) })
        }
        "volume" => {
            no(mount.bind_options.is_some(), "BindOptions")?;
            no(mount.image_options.is_some(), "ImageOptions")?;
            volume_of(mount, point(Kind::Volume))
        }
        "tmpfs" => {
            no(mount.bind_options.is_some(), "BindOptions")?;
            no(mount.image_options.is_some(), "ImageOptions")?;
            no(!mount.source.is_empty(), "Source")?;
            let given = mount.tmpfs_options.clone().unwrap_or_default();
            let further = given.options.unwrap_or_default();
            let options = tmpfs::from_mount(given.size_bytes, given.mode, &further, mount.read_only)
                .map_err(|error| error.message().to_owned())?;
            Ok(Point { options, ..point(Kind::Tmpfs) })
        }
        "image" => {
            no(mount.bind_options.is_some(), "BindOptions")?;
            no(mount.volume_options.is_some(), "VolumeOptions")?;
            let name = source()?;
            let subpath = mount.image_options.clone().unwrap_or_default().subpath;
            check_subpath(&subpath)?;
            Ok(Point { name, subpath, rw: false, propagation: "rprivate".to_owned(), ..point(Kind::Image) })
        }
        _ => Err("mount type unknown".to_owned()),
    }
}

fn volume_of(mount: &Mount, point: Point) -> Result<Point, String> {
    let options = mount.volume_options.clone().unwrap_or_default();
    let anonymous = mount.source.is_empty();
    if !options.subpath.is_empty() && anonymous {
        return Err("must not set Subpath when using anonymous volumes".to_owned());
    }
    check_subpath(&options.subpath)?;
    if mount.read_only && anonymous {
        return Err("must not set ReadOnly mode when using anonymous volumes".to_owned());
    }
    Ok(Point {
        name: mount.source.clone(),
        driver: options.driver_config.map(|driver| driver.name).unwrap_or_default(),
        // Into a part of a volume nothing is copied.
        copy: !options.no_copy && options.subpath.is_empty(),
        subpath: options.subpath,
        anonymous,
        ..point
    })
}

fn check_subpath(subpath: &str) -> Result<(), String> {
    let inside = subpath.is_empty() || (!subpath.starts_with('/') && !clean(subpath).starts_with(".."));
    if inside { Ok(()) } else { Err("subpath must be a relative path within the volume".to_owned()) }
}

fn reach(options: &wharf_api::BindOptions) -> ReadOnlyReach {
    match (options.read_only_non_recursive, options.read_only_force_recursive) {
        (false, false) => ReadOnlyReach::IfPossible,
        (true, false) => ReadOnlyReach::TopOnly,
        (false, true) => ReadOnlyReach::Forced,
        (true, true) => ReadOnlyReach::Contradictory,
    }
}

impl Point {
    /// The point as inspect shows it.
    pub fn document(&self) -> MountPoint {
        MountPoint {
            r#type: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::{BindOptions, ImageMountOptions, VolumeOptions};

    fn refusal(mount: &Mount) -> String {
        parse_mount(mount).unwrap_err().message().to_owned()
    }

    fn mount(kind: &str, source: &str, target: &str) -> Mount {
        let (kind, source, target) = (kind.to_owned(), source.to_owned(), target.to_owned());
        Mount { r#type: kind, source, target, ..Mount::default() }
    }

    #[test]
    fn mounts_are_refused_as_recorded() {
        let cases = [
            (mount("", "", ""), "field Target must not be empty"),
            (mount("bind", "", "/x"), "field Source must not be empty"),
            (mount("bind", "rel", "/x"), "invalid mount path: 'rel' mount path must be absolute"),
            (mount("bind", "/nonexist8", "/x"), "bind source path does not exist: /nonexist8"),
            (mount("bind", "/tmp", "/"), "invalid specification: destination can't be '/'"),
            (mount("bind", "/tmp", "x"), "invalid mount path: 'x' mount path must be absolute"),
            (mount("tmpfs", "a", "/x"), "field Source must not be specified"),
            (mount("image", "", "/x"), "field Source must not be empty"),
            (mount("npipe", "a", "/x"), "mount type unknown"),
            (
                Mount { read_only: true, ..mount("volume", "", "/x") },
                "must not set ReadOnly mode when using anonymous volumes",
            ),
            (
                Mount { image_options: Some(ImageMountOptions::default()), ..mount("tmpfs", "", "/x") },
                "field ImageOptions must not be specified",
            ),
            (
                Mount {
                    bind_options: Some(BindOptions {
                        propagation: "foo".to_owned(),
                        ..BindOptions::default()
                    }),
                    ..mount("bind", "/tmp", "/x")
                },
                "invalid propagation mode: foo",
            ),
            (
                Mount {
                    volume_options: Some(VolumeOptions {
                        subpath: "../x".to_owned(),
                        ..VolumeOptions::default()
                    }),
                    ..mount("volume", "v3", "/x")
                },
                "subpath must be a relative path within the volume",
            ),
        ];
        for (mount, why) in cases {
            assert_eq!(refusal(&mount), format!("invalid mount config for type \"{}\": {why}", mount.r#type));
        }
    }

    fn ask(volumes: &Volumes, config: &ContainerConfig, host: &HostConfig) -> Result<Vec<Point>> {
        let donor =
            || Some(vec![Point { rw: true, source: "/etc".to_owned(), ..Point::new(Kind::Bind, "/from") }]);
        let register_ask = Register {
            id: "c1",
            data_root: Path::new("/nowhere"),
            volumes,
            points_of: &|name| if name == "donor" { donor() } else { None },
            image_id: &|name| Err(Error::not_found(format!("No such image: {name}:latest"))),
        };
        register(&register_ask, config, host).map(|(points, _)| points)
    }

    fn binds(binds: &[&str]) -> HostConfig {
        let binds = binds.iter().map(|bind| (*bind).to_owned()).collect();
        HostConfig { binds: Some(binds), ..HostConfig::default() }
    }

    #[test]
    fn points_come_from_every_source_once() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let path = |path: &str| (path.to_owned(), wharf_api::Empty::default());
        let config = ContainerConfig {
            volumes: Some([path("/x"), path("/y/../z")].into()),
            ..ContainerConfig::default()
        };
        let host =
            HostConfig { volumes_from: Some(vec!["donor:ro".to_owned()]), ..binds(&["v1:/x", "/data"]) };
        let points = ask(&volumes, &config, &host).unwrap();
        let seen: Vec<_> =
            points.iter().map(|point| (point.destination.as_str(), point.mode.as_str(), point.rw)).collect();
        assert_eq!(seen, [("/data", "z", true), ("/from", "", false), ("/x", "z", true), ("/z", "", true)]);
        assert_eq!((points[2].name.as_str(), points[3].anonymous), ("v1", true));
        assert!(points[3].source.ends_with("_data"));
    }

    #[test]
    fn a_place_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let text = |host: &HostConfig| {
            ask(&volumes, &ContainerConfig::default(), host).unwrap_err().message().to_owned()
        };
        assert_eq!(text(&binds(&["v1:/x", "/etc:/x/"])), "Duplicate mount point: /x");
        let tmpfs = Some([("/x".to_owned(), String::new())].into());
        assert_eq!(text(&HostConfig { tmpfs, ..binds(&["v1:/x"]) }), "Duplicate mount point: /x");
        let from = Some(vec!["zz".to_owned()]);
        assert_eq!(
            text(&HostConfig { volumes_from: from, ..HostConfig::default() }),
            "No such container: zz"
        );
        assert_eq!(volumes.names(), Vec::<String>::new());
    }
}
