//! What happened: numbered, kept across restarts, replayed for those who ask.
