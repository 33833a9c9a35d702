//! The domain: containers, images, volumes, networks, exec, events, health
