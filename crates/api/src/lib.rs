//! Docker Engine API documents, versions, and a client
