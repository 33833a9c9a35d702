//! Images: loading, saving, naming, removing.
