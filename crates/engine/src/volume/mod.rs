//! Directories that outlive containers.
