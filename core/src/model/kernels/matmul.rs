//! The one matrix product: `out[i][j] = sum_k a[i][k] * b[k][j]`.
//!
//! `b` is packed into panels of 32 columns. Every element is one chain of fused multiply-adds over k, from 0 upwards,
//! in one lane: its bits do not depend on the number of rows, on blocking, on threads, nor on AVX2 or AVX-512. The
//! accumulators stay in registers over all of k; a panel of up to 16,000 rows fits the second-level cache.
#![expect(unsafe_code, reason = "vector kernels over raw pointers, picked at run time")]

use rayon::prelude::*;

/// Columns of a panel.
pub const PANEL: usize = 32;
/// Rows that are worked on together: what one thread keeps in its second-level cache beside a panel.
const ROWS: usize = 96;
/// Below this many multiply-adds a second thread costs more than it gives.
const PARALLEL_FROM: usize = 1 << 17;

/// The right-hand side of a product, in panels: `panels[p][k][j]` is column `32 p + j` of row `k`; missing columns are 0.
#[derive(Debug, Clone)]
pub struct Packed {
    panels: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl Packed {
    /// Packs a right-hand side given by strides: element (k, j) is `b[k * row + j * column]`.
    ///
    /// # Panics
    /// When `b` is shorter than the strides say.
    pub fn new(b: &[f32], depth: usize, columns: usize, row: usize, column: usize) -> Self {
        let count = columns.div_ceil(PANEL);
        let mut panels = vec![0.0; count * depth * PANEL];
        let fill = |(p, panel): (usize, &mut [f32])| {
            let width = PANEL.min(columns - p * PANEL);
            if column == 1 {
                for (k, line) in panel.chunks_exact_mut(PANEL).enumerate() {
                    let start = k * row + p * PANEL;
                    line[..width].copy_from_slice(&b[start..start + width]);
                }
            } else {
                for j in 0..width {
                    let source = &b[(p * PANEL + j) * column..];
                    for k in 0..depth {
                        panel[k * PANEL + j] = source[k * row];
                    }
                }
            }
        };
        if depth > 0 {
            match panels.len() > PARALLEL_FROM {
                true => panels.par_chunks_mut(depth * PANEL).enumerate().for_each(fill),
                false => panels.chunks_mut(depth * PANEL).enumerate().for_each(fill),
            }
        }
        Self { panels, depth, columns }
    }

    /// Packs a weight `[columns, depth]` (one row an output), so that `a @ weight^T` can be computed.
    pub fn of_weight(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        Self::new(weight, inputs, outputs, 1, inputs)
    }

    /// Rows of the right-hand side.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the result.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// The left-hand side: element (i, k) is `data[i * row + k * column]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// Rows.
    pub rows: usize,
    /// Distance between rows.
    pub row: usize,
    /// Distance between neighbours of a row.
    pub column: usize,
}

impl<'a> Left<'a> {
    /// A contiguous `[rows, depth]` matrix.
    pub fn rows(data: &'a [f32], depth: usize) -> Self {
        Self { data, rows: data.len().checked_div(depth).unwrap_or(0), row: depth, column: 1 }
    }

    /// The transpose of a contiguous `[depth, rows]` matrix.
    pub fn transposed(data: &'a [f32], rows: usize) -> Self {
        Self { data, rows, row: 1, column: rows }
    }
}

#[derive(Clone, Copy)]
struct Out(*mut f32);
// SAFETY: tasks write disjoint elements.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// `out = a @ b`, all of `out` overwritten; `out` is `[a.rows, b.columns]`, contiguous. Uses all threads.
///
/// # Panics
/// When the sizes do not fit.
pub fn matmul(a: Left<'_>, b: &Packed, out: &mut [f32]) {
    assert_eq!(out.len(), a.rows * b.columns, "result of {} x {}", a.rows, b.columns);
    if out.is_empty() {
        return;
    }
    if b.depth == 0 {
        return out.fill(0.0);
    }
    let last = (a.rows - 1) * a.row + (b.depth - 1) * a.column;
    assert!(last < a.data.len(), "left side of {} x {} has {} numbers", a.rows, b.depth, a.data.len());
    let panels = b.columns.div_ceil(PANEL);
    let kernel = kernel();
    let target = Out(out.as_mut_ptr());
    let block = |rows: std::ops::Range<usize>, panels: std::ops::Range<usize>| {
        for p in panels {
            let panel = b.panels[p * b.depth * PANEL..].as_ptr();
            let width = PANEL.min(b.columns - p * PANEL);
            let mut i = rows.start;
            while i < rows.end {
                let count = (rows.end - i).min(MOST_ROWS);
                let left = a.data[i * a.row..].as_ptr();
                let place = target.at(i * b.columns + p * PANEL);
                // SAFETY: `last` above bounds every read of `left`, the panel holds depth * PANEL numbers, and the
                // written block lies inside `out` and belongs to this task alone.
                unsafe { kernel(count, b.depth, left, a.row, a.column, panel, place, b.columns, width) };
                i += count;
            }
        }
    };
    if a.rows * b.columns * b.depth < PARALLEL_FROM || rayon::current_num_threads() == 1 {
        let mut start = 0;
        while start < a.rows {
            let end = (start + ROWS).min(a.rows);
            block(start..end, 0..panels);
            start = end;
        }
        return;
    }
    // Enough tasks for every thread: blocks of rows, and blocks of panels where there are few rows.
    let row_blocks = a.rows.div_ceil(ROWS);
    let panel_blocks = (rayon::current_num_threads() * 4).div_ceil(row_blocks).clamp(1, panels);
    let per_block = panels.div_ceil(panel_blocks);
    (0..row_blocks * panel_blocks).into_par_iter().for_each(|task| {
        let (r, p) = (task / panel_blocks, task % panel_blocks);
        let rows = r * ROWS..((r + 1) * ROWS).min(a.rows);
        let panels = (p * per_block).min(panels)..((p + 1) * per_block).min(panels);
        block(rows, panels);
    });
}

/// As [`matmul`] on the calling thread only, into rows `stride` apart.
///
/// # Panics
/// When the sizes do not fit.
pub fn matmul_here(a: Left<'_>, b: &Packed, out: &mut [f32], stride: usize) {
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    assert!(stride >= b.columns && (a.rows - 1) * stride + b.columns <= out.len(), "result does not fit");
    if b.depth == 0 {
        for row in out.chunks_mut(stride).take(a.rows) {
            row[..b.columns].fill(0.0);
        }
        return;
    }
    assert!((a.rows - 1) * a.row + (b.depth - 1) * a.column < a.data.len(), "left side is too short");
    let kernel = kernel();
    for p in 0..b.columns.div_ceil(PANEL) {
        let panel = b.panels[p * b.depth * PANEL..].as_ptr();
        let width = PANEL.min(b.columns - p * PANEL);
        let mut i = 0;
        while i < a.rows {
            let count = (a.rows - i).min(MOST_ROWS);
            let left = a.data[i * a.row..].as_ptr();
            let place = out[i * stride + p * PANEL..].as_mut_ptr();
            // SAFETY: both assertions above bound what is read and written.
            unsafe { kernel(count, b.depth, left, a.row, a.column, panel, place, stride, width) };
            i += count;
        }
    }
}

/// Rows of one kernel call.
const MOST_ROWS: usize = 12;

/// `(rows, depth, left, row stride, column stride, panel, out, out stride, width)`.
type Kernel = unsafe fn(usize, usize, *const f32, usize, usize, *const f32, *mut f32, usize, usize);

/// The best kernel of this machine.
fn kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return x86::avx512;
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return x86::avx2;
        }
    }
    portable
}

/// Which kernel this machine uses, for the manifest of a run.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512f";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "avx2+fma";
        }
    }
    "portable"
}

/// # Safety
/// As in [`Kernel`]: every address that the sizes and strides name is readable, the result writable.
unsafe fn portable(
    rows: usize,
    depth: usize,
    a: *const f32,
    row: usize,
    column: usize,
    panel: *const f32,
    out: *mut f32,
    stride: usize,
    width: usize,
) {
    for i in 0..rows {
        let mut sums = [0.0f32; PANEL];
        for k in 0..depth {
            // SAFETY: the caller's promise.
            let (x, line) = unsafe {
                (*a.add(i * row + k * column), std::slice::from_raw_parts(panel.add(k * PANEL), PANEL))
            };
            for (sum, y) in sums.iter_mut().zip(line) {
                *sum = x.mul_add(*y, *sum);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(out.add(i * stride), width) }.copy_from_slice(&sums[..width]);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::PANEL;

    /// # Safety
    /// As in [`super::Kernel`], on a machine with AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(
        rows: usize,
        depth: usize,
        a: *const f32,
        row: usize,
        column: usize,
        panel: *const f32,
        out: *mut f32,
        stride: usize,
        width: usize,
    ) {
        // SAFETY: the caller's promise, passed on.
        unsafe {
            match rows {
                12 => rows512::<12>(depth, a, row, column, panel, out, stride, width),
                11 => rows512::<11>(depth, a, row, column, panel, out, stride, width),
                10 => rows512::<10>(depth, a, row, column, panel, out, stride, width),
                9 => rows512::<9>(depth, a, row, column, panel, out, stride, width),
                8 => rows512::<8>(depth, a, row, column, panel, out, stride, width),
                7 => rows512::<7>(depth, a, row, column, panel, out, stride, width),
                6 => rows512::<6>(depth, a, row, column, panel, out, stride, width),
                5 => rows512::<5>(depth, a, row, column, panel, out, stride, width),
                4 => rows512::<4>(depth, a, row, column, panel, out, stride, width),
                3 => rows512::<3>(depth, a, row, column, panel, out, stride, width),
                2 => rows512::<2>(depth, a, row, column, panel, out, stride, width),
                _ => rows512::<1>(depth, a, row, column, panel, out, stride, width),
            }
        }
    }

    /// # Safety
    /// As in [`super::Kernel`], on a machine with AVX-512F.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn rows512<const ROWS: usize>(
        depth: usize,
        a: *const f32,
        row: usize,
        column: usize,
        panel: *const f32,
        out: *mut f32,
        stride: usize,
        width: usize,
    ) {
        // SAFETY: the caller's promise; stores are masked to `width` columns.
        unsafe {
            let mut low = [_mm512_setzero_ps(); ROWS];
            let mut high = [_mm512_setzero_ps(); ROWS];
            for k in 0..depth {
                let left = a.add(k * column);
                let b0 = _mm512_loadu_ps(panel.add(k * PANEL));
                let b1 = _mm512_loadu_ps(panel.add(k * PANEL + 16));
                for i in 0..ROWS {
                    let x = _mm512_set1_ps(*left.add(i * row));
                    low[i] = _mm512_fmadd_ps(x, b0, low[i]);
                    high[i] = _mm512_fmadd_ps(x, b1, high[i]);
                }
            }
            let mask = |from: usize| -> u16 {
                let left = width.saturating_sub(from).min(16);
                ((1u32 << left) - 1) as u16
            };
            for i in 0..ROWS {
                _mm512_mask_storeu_ps(out.wrapping_add(i * stride), mask(0), low[i]);
                _mm512_mask_storeu_ps(out.wrapping_add(i * stride + 16), mask(16), high[i]);
            }
        }
    }

    /// # Safety
    /// As in [`super::Kernel`], on a machine with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(
        rows: usize,
        depth: usize,
        a: *const f32,
        row: usize,
        column: usize,
        panel: *const f32,
        out: *mut f32,
        stride: usize,
        width: usize,
    ) {
        let mut i = 0;
        while i < rows {
            let count = (rows - i).min(3);
            let (left, place) = (a.wrapping_add(i * row), out.wrapping_add(i * stride));
            // SAFETY: the caller's promise, for a part of the rows.
            unsafe {
                match count {
                    3 => rows256::<3>(depth, left, row, column, panel, place, stride, width),
                    2 => rows256::<2>(depth, left, row, column, panel, place, stride, width),
                    _ => rows256::<1>(depth, left, row, column, panel, place, stride, width),
                }
            }
            i += count;
        }
    }

    /// # Safety
    /// As in [`super::Kernel`], on a machine with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn rows256<const ROWS: usize>(
        depth: usize,
        a: *const f32,
        row: usize,
        column: usize,
        panel: *const f32,
        out: *mut f32,
        stride: usize,
        width: usize,
    ) {
        // SAFETY: the caller's promise; a whole line is staged and `width` columns of it are stored.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); 4]; ROWS];
            for k in 0..depth {
                let left = a.add(k * column);
                let b: [__m256; 4] = std::array::from_fn(|j| _mm256_loadu_ps(panel.add(k * PANEL + 8 * j)));
                for i in 0..ROWS {
                    let x = _mm256_set1_ps(*left.add(i * row));
                    for j in 0..4 {
                        sums[i][j] = _mm256_fmadd_ps(x, b[j], sums[i][j]);
                    }
                }
            }
            for i in 0..ROWS {
                let mut line = [0.0f32; PANEL];
                for j in 0..4 {
                    _mm256_storeu_ps(line.as_mut_ptr().add(8 * j), sums[i][j]);
                }
                std::slice::from_raw_parts_mut(out.add(i * stride), width).copy_from_slice(&line[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipf_plugin::random::Stream;

    fn noise(count: usize, key: u64) -> Vec<f32> {
        let mut stream = Stream::new(key);
        (0..count).map(|_| stream.normal()).collect()
    }

    fn chain(a: &[f32], w: &[f32], rows: usize, outputs: usize, inputs: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows * outputs];
        for i in 0..rows {
            for j in 0..outputs {
                out[i * outputs + j] =
                    (0..inputs).fold(0.0f32, |sum, k| a[i * inputs + k].mul_add(w[j * inputs + k], sum));
            }
        }
        out
    }

    #[test]
    fn every_element_is_the_same_chain_whatever_the_shape() {
        for (rows, outputs, inputs) in
            [(1, 1, 1), (2, 33, 7), (7, 32, 64), (13, 97, 50), (64, 70, 129), (200, 257, 96)]
        {
            let (a, w) = (noise(rows * inputs, 1), noise(outputs * inputs, 2));
            let packed = Packed::of_weight(&w, outputs, inputs);
            let mut out = vec![f32::NAN; rows * outputs];
            matmul(Left::rows(&a, inputs), &packed, &mut out);
            assert_eq!(out, chain(&a, &w, rows, outputs, inputs), "{rows} x {outputs} x {inputs}");
        }
    }

    #[test]
    fn all_kernels_agree_to_the_bit() {
        let (rows, outputs, inputs) = (12, 45, 77);
        let (a, w) = (noise(rows * inputs, 3), noise(outputs * inputs, 4));
        let packed = Packed::of_weight(&w, outputs, inputs);
        let mut expected = vec![0.0; rows * outputs];
        matmul(Left::rows(&a, inputs), &packed, &mut expected);
        let mut got = vec![0.0; rows * outputs];
        for p in 0..outputs.div_ceil(PANEL) {
            let width = PANEL.min(outputs - p * PANEL);
            // SAFETY: sizes as packed above.
            unsafe {
                portable(
                    rows,
                    inputs,
                    a.as_ptr(),
                    inputs,
                    1,
                    packed.panels[p * inputs * PANEL..].as_ptr(),
                    got[p * PANEL..].as_mut_ptr(),
                    outputs,
                    width,
                );
            }
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn transposed_left_sides_work() {
        let (rows, columns, depth) = (9, 40, 31);
        let (a, b) = (noise(depth * rows, 5), noise(depth * columns, 6));
        let packed = Packed::new(&b, depth, columns, columns, 1);
        let mut out = vec![0.0; rows * columns];
        matmul(Left::transposed(&a, rows), &packed, &mut out);
        for i in 0..rows {
            for j in 0..columns {
                let sum = (0..depth).fold(0.0f32, |sum, k| a[k * rows + i].mul_add(b[k * columns + j], sum));
                assert_eq!(out[i * columns + j], sum);
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (rows, outputs, inputs) = (150, 300, 200);
        let (a, w) = (noise(rows * inputs, 7), noise(outputs * inputs, 8));
        let packed = Packed::of_weight(&w, outputs, inputs);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; rows * outputs];
            pool.install(|| matmul(Left::rows(&a, inputs), &packed, &mut out));
            out
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(5));
    }
}
