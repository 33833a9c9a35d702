//! What an opening engine makes of what it finds.
