//! Devices by the Container Device Interface: a vendor's files on the machine say what a container needs to use a device
//! (CDI specification 1.0, <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>).
//!
//! The files are read when a container asks for a device and when the engine's state is asked for, so that a new one
//! counts at once. `--gpus` asks for devices of the kinds that vendors of GPUs name theirs.

mod document;
mod inject;
mod registry;

pub(super) use inject::inject;
pub(crate) use registry::Registry;

/// The kinds of devices that `--gpus` means, by the name of the driver.
const GPUS: [(&str, &str); 2] = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu")];
