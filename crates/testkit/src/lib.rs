//! Throw-away daemons, images and namespaces for tests
