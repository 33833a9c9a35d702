//! What a container changed in its image.
