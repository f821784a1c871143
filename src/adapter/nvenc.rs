//! Rows of one family.

use super::Adapter;

pub(super) static ALL: &[Adapter] = &[];
