//! What a client may ask for at create, checked with the messages clients know.
