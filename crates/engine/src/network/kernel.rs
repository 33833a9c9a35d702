//! The kernel's side of networks: the plane and the net helper, opened together when first needed.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use wharf_network::helper::Helper;
use wharf_network::plane::Plane;
use wharf_network::types::{Attached, Network, Settings};

use super::Networks;
use crate::error::Result;

/// Held while a subnet is chosen and its bridge made, or taken away: other engines of this host choose too.
const SUBNETS: &str = "/run/lock/wharf-subnets";

/// The kernel's side.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(super) plane: Plane,
    pub(super) helper: Helper,
}

impl Networks {
    /// The kernel's side, opened if it is not. Sleeps.
    ///
    /// # Errors
    /// What the net helper or the kernel refused.
    pub(super) fn kernel(&self) -> Result<Arc<Kernel>> {
        let mut slot = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = &*slot {
            return Ok(kernel.clone());
        }
        let kernel = Arc::new(self.open_kernel().map_err(|error| error.context("open networks"))?);
        *slot = Some(kernel.clone());
        Ok(kernel)
    }

    /// The kernel's side, if it is open.
    pub(super) fn opened(&self) -> Option<Arc<Kernel>> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn open_kernel(&self) -> Result<Kernel> {
        let (instance, exec_root) = (&self.config.instance, &self.config.exec_root);
        let helper = Helper::ensure(instance, exec_root, self.executable.as_fd())?;
        let plane = Plane::open(self.plane_settings(), helper.firewall()?)?;
        let _choosing = SubnetLock::take();
        self.settle_default(&plane.host_subnets()?)?;
        let (networks, attached) = self.wanted();
        let done = plane.reconcile(&networks, &attached)?;
        if !done.swept.is_empty() {
            tracing::info!("interfaces without an owner were removed: {}", done.swept.join(", "));
        }
        for (network, why) in &done.failed {
            tracing::warn!("network {network} could not be made again: {why}");
        }
        for endpoint in done.lost {
            tracing::warn!("the interface of endpoint {endpoint} is gone");
        }
        Ok(Kernel { plane, helper })
    }

    /// Takes everything out of the kernel, where no container runs that needs it: a next daemon makes it again.
    /// Sleeps.
    pub(crate) fn close(&self) {
        let in_use = self.state().sandboxes.values().any(|sandbox| sandbox.has_links());
        let opened = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kernel) = opened.filter(|_| !in_use)
            && let Err(error) = kernel.plane.dismantle()
        {
            tracing::warn!("close networks: {error}");
        }
    }

    /// All that the kernel should have.
    fn wanted(&self) -> (Vec<Network>, Vec<Attached>) {
        let state = self.state();
        let kernel = |network: &Arc<super::Known>| network.kernel(&self.config.instance, self.settings());
        let networks = state.known.values().filter_map(kernel).collect();
        let endpoints = state.sandboxes.values().flat_map(|sandbox| &sandbox.endpoints);
        (networks, endpoints.filter_map(|endpoint| endpoint.attached.clone()).collect())
    }

    fn plane_settings(&self) -> Settings {
        let network = self.settings();
        Settings {
            instance: self.config.instance.clone(),
            run_dir: self.run_dir(),
            firewall4: network.iptables,
            firewall6: network.ip6tables,
            ip_forward: network.ip_forward,
            forward_guard: network.forward_guard,
            publish_policy: network.publish_policy,
            publish_allow: network.publish_allow.clone(),
            host_root: PathBuf::from("/"),
        }
    }

    fn run_dir(&self) -> PathBuf {
        self.config.exec_root.join("net")
    }

    /// Opens the kernel's side where clients could otherwise not be told the truth: the default network has no
    /// subnet before.
    pub(super) async fn ready(self: &Arc<Self>) -> Result<()> {
        let undecided = |network: Arc<super::Known>| network.definition.subnets.is_empty();
        if !self.find("bridge").is_ok_and(undecided) {
            return Ok(());
        }
        let networks = self.clone();
        self.pools.run(crate::pools::Class::Network, move || networks.kernel().map(drop)).await
    }
}

/// The right to choose subnets on this host; without the file, nobody else has it either.
pub(super) struct SubnetLock(#[expect(dead_code, reason = "held")] Option<std::fs::File>);

impl SubnetLock {
    pub(super) fn take() -> Self {
        let file = std::fs::File::options().create(true).append(true).open(SUBNETS);
        Self(file.and_then(|file| file.lock().map(|()| file)).ok())
    }
}
