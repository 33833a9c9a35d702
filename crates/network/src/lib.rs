//! Networks as the kernel sees them: drivers, addresses, ports, nftables, names, the net helper.
