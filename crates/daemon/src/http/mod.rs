//! HTTP: connections, requests, answers, and connections that stop being HTTP.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod connection;
pub(crate) mod hijack;
pub(crate) mod query;
pub(crate) mod registry_auth;
pub(crate) mod route;
pub(crate) mod status;
pub(crate) mod websocket;
