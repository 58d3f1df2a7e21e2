//! Arithmetic on plain f32 slices. Every result row has the same bits whatever the number of rows or threads.

pub mod activation;
pub mod attention;
pub mod matmul;
pub mod norm;
pub mod rotary;
mod widest;

pub(crate) use widest::widest;

/// Splits `rows` into a few chunks a thread; at least one row each.
pub fn rows_per_task(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads() * 4).max(1)
}
