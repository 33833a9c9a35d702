//! Default routes of a namespace.

use std::net::IpAddr;

use super::{Plane, Target};
use crate::error::Result;
use crate::netlink::{Batch, Channel};
use crate::route;
use crate::types::Attached;

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Through this router.
    Via(IpAddr),
    /// Straight to the link, IPv4.
    OnLink4,
    /// Straight to the link, IPv6.
    OnLink6,
}

impl Gateway {
    fn v6(self) -> bool {
        match self {
            Self::Via(router) => router.is_ipv6(),
            Self::OnLink4 => false,
            Self::OnLink6 => true,
        }
    }

    pub(super) fn add(self, batch: &mut Batch, index: u32, addresses: &[ipnet::IpNet]) {
        match self {
            Self::Via(router) => {
                let on_link = !addresses.iter().any(|net| net.contains(&router));
                route::default_via(batch, index, router, on_link);
            }
            Self::OnLink4 | Self::OnLink6 => route::default_on_link(batch, index, self.v6()),
        }
    }
}

impl Plane {
    /// Replaces a namespace's default routes of both families, when a network was connected or disconnected:
    /// each goes through the endpoint named with it; a family without one has none afterwards.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_gateways(&self, gateways: &[(&Attached, Gateway)], target: Target<'_>) -> Result<()> {
        let mut batch = Batch::new();
        let families = if self.v6 { &[false, true][..] } else { &[false][..] };
        for v6 in families {
            if !gateways.iter().any(|(_, gateway)| gateway.v6() == *v6) {
                route::remove_default(&mut batch, *v6);
            }
        }
        for (attached, gateway) in gateways {
            gateway.add(&mut batch, attached.index, &attached.addresses);
        }
        Channel::borrow(target.route)?.run(batch)
    }
}
