//! The per-container supervisor's loop
