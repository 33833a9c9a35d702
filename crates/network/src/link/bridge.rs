//! Bridges and their ports.

use super::{NEWLINK, SETLINK, attribute, header, kind, route_localnet};
use crate::netlink::{Batch, flags};
use crate::types::MacAddress;

/// How many ports a bridge has: `BR_MAX_PORTS` of the kernel is 1,024, and number 0 is not given out.
pub(crate) const MAX_PORTS: usize = 1023;

/// What a bridge is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgeOptions<'a> {
    pub(crate) name: &'a str,
    /// Without one of its own a bridge takes that of a port and changes it as ports come and go, which every
    /// neighbour would have to notice.
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    /// Tells whose it is.
    pub(crate) alias: &'a str,
    /// Whether ports published on 127.0.0.1 lead into it.
    pub(crate) localnet: bool,
}

/// Makes a bridge, down.
pub(crate) fn create_bridge(batch: &mut Batch, options: &BridgeOptions<'_>) {
    let name = options.name;
    batch.message(NEWLINK, flags::CREATE | flags::EXCL, &header(0, None), format!("create bridge {name}"));
    batch.text(attribute::IFNAME, name);
    batch.bytes(attribute::ADDRESS, &options.mac.0);
    batch.native(attribute::MTU, options.mtu);
    kind(batch, "bridge", |_| {});
    batch.message(SETLINK, 0, &header(0, None), format!("configure bridge {name}"));
    batch.text(attribute::IFNAME, name);
    batch.text(attribute::IFALIAS, options.alias);
    route_localnet(batch, options.localnet);
}

/// How a bridge treats one of its ports; `None`: as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortOptions {
    /// What came in by it may leave by it: a container reaches itself through a published port where
    /// `br_netfilter` translates within the bridge.
    pub(crate) hairpin: Option<bool>,
    /// It is cut off from other such ports.
    pub(crate) isolated: Option<bool>,
}

/// Within a message that changes an interface which is on a bridge.
pub(super) fn port_options(batch: &mut Batch, options: PortOptions) {
    /// `IFLA_INFO_SLAVE_KIND` and `IFLA_INFO_SLAVE_DATA`.
    const KIND: u16 = 4;
    const DATA: u16 = 5;
    /// `IFLA_BRPORT_MODE` and `IFLA_BRPORT_ISOLATED`.
    const MODE: u16 = 4;
    const ISOLATED: u16 = 33;
    batch.nest(attribute::LINKINFO, |info| {
        info.text(KIND, "bridge");
        info.nest(DATA, |port| {
            for (attribute, value) in [(MODE, options.hairpin), (ISOLATED, options.isolated)] {
                if let Some(value) = value {
                    port.bytes(attribute, &[u8::from(value)]);
                }
            }
        });
    });
}

/// Changes how a bridge treats one of its ports.
pub(crate) fn set_port(batch: &mut Batch, index: u32, options: PortOptions) {
    batch.message(NEWLINK, 0, &header(index, None), "configure bridge port");
    port_options(batch, options);
}
