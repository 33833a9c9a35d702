//! What builds here: one worker, which is this engine.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::types::{BuildkitVersion, WorkerRecord};
use bollard_buildkit_proto::pb;
use wharf_engine::Engine;
use wharf_oci::Platform;

/// The version of BuildKit whose API this is.
const VERSION: &str = concat!("v0.29.0+wharf.", env!("CARGO_PKG_VERSION"));

/// What answers.
pub(super) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "github.com/wharf-engine/wharf".to_owned(),
        version: VERSION.to_owned(),
        revision: String::new(),
    }
}

/// The worker. That it says by what its images are kept is how `buildx` knows that it exports archives, the cache, and
/// images of several platforms.
pub(super) fn record(engine: &Engine) -> WorkerRecord {
    let mut labels = HashMap::from([
        ("org.mobyproject.buildkit.worker.executor".to_owned(), "wharf".to_owned()),
        ("org.mobyproject.buildkit.worker.snapshotter".to_owned(), "wharf".to_owned()),
    ]);
    if let Some(gateway) = engine.networks.host_gateways().first() {
        labels.insert("org.mobyproject.buildkit.worker.moby.host-gateway-ip".to_owned(), gateway.to_string());
    }
    WorkerRecord {
        id: engine.config.instance.clone(),
        labels,
        platforms: platforms().iter().map(platform).collect(),
        gc_policy: Vec::new(),
        buildkit_version: Some(version()),
        cdi_devices: Vec::new(),
    }
}

/// The workers, as a frontend's environment has them.
pub(super) fn document(engine: &Engine) -> String {
    let record = record(engine);
    serde_json::json!([{
        "id": record.id,
        "labels": record.labels,
        "platforms": platforms(),
        "buildkitVersion": {"package": version().package, "version": VERSION, "revision": ""},
    }])
    .to_string()
}

/// What this machine runs by itself, and what the kernel hands to an emulator.
fn platforms() -> Vec<Platform> {
    let host = Platform::host();
    let mut all = vec![host.clone()];
    let known = [
        ("qemu-aarch64", "linux/arm64"),
        ("qemu-x86_64", "linux/amd64"),
        ("qemu-arm", "linux/arm/v7"),
        ("qemu-riscv64", "linux/riscv64"),
        ("qemu-ppc64le", "linux/ppc64le"),
        ("qemu-s390x", "linux/s390x"),
        ("qemu-i386", "linux/386"),
    ];
    for (handler, platform) in known {
        let enabled = std::fs::read_to_string(format!("/proc/sys/fs/binfmt_misc/{handler}"));
        let platform = platform.parse::<Platform>();
        if let (Ok(state), Ok(platform)) = (enabled, platform)
            && state.starts_with("enabled")
            && platform.architecture != host.architecture
        {
            all.push(platform);
        }
    }
    all
}

fn platform(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}
