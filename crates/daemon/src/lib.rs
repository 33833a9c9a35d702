//! HTTP: routes, versions, status codes, hijack, configuration, start-up
