//! All bytes under the data root: blobs, snapshots, names, leases, reclaim
