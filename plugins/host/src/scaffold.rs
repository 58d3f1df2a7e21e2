//! Files of `plugin new`.
