//! Sixteen f32 at a time, on AVX-512, AVX2 with FMA, or neither.
//!
//! A kernel is written once over [`Lanes`] and compiled three times by [`widest!`]. Every operation works lane by
//! lane in a fixed order, so the bits of a result depend on the instruction set at most, never on neighbours.
#![allow(unsafe_code, reason = "intrinsics behind one trait, so that the kernels above it stay readable")]

/// Lanes in a vector, and slots in a block of the cache.
pub(super) const WIDTH: usize = 16;

/// A vector of [`WIDTH`] numbers.
///
/// # Safety
/// Every method may only be called where the instruction set of the implementing type is there; `load` and `store`
/// need [`WIDTH`] valid numbers behind the pointer.
pub(super) unsafe trait Lanes: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// `self * by + plus`.
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
    /// 2^n, where `self` is n + 1.5 * 2^23 (so that n stands in the low bits of the mantissa).
    unsafe fn power_of_two(self) -> Self;
    /// Zero in every lane where `test` is below `limit`.
    unsafe fn zero_below(self, test: Self, limit: Self) -> Self;

    /// e^x to about 2 ulp for x <= 88; exactly zero below -87.3.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: as for every method; nothing here touches memory.
        unsafe {
            let low = Self::splat(-87.3);
            let x = self.max(low);
            let shifter = Self::splat(12_582_912.0);
            let shifted = x.fma(Self::splat(std::f32::consts::LOG2_E), shifter);
            let n = shifted.add(Self::splat(-12_582_912.0));
            // ln 2 in two parts, so that the remainder is exact.
            let r = n.fma(Self::splat(-0.693_359_4), x);
            let r = n.fma(Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
                p = p.fma(r, Self::splat(c));
            }
            let p = p.fma(r.mul(r), r).add(Self::splat(1.0));
            p.mul(shifted.power_of_two()).zero_below(self, low)
        }
    }
}

/// Plain Rust; the compiler vectorises what the target has.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; WIDTH]);

// SAFETY: no instruction set is needed; loads and stores are of WIDTH numbers.
unsafe impl Lanes for Plain {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; WIDTH])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for WIDTH numbers; the read needs no alignment beyond f32's.
        Self(unsafe { from.cast::<[f32; WIDTH]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for WIDTH numbers.
        unsafe { to.cast::<[f32; WIDTH]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        // Without the instruction a fused multiply-add is a library call; two roundings are the lesser evil.
        Self(std::array::from_fn(|i| self.0[i] * by.0[i] + plus.0[i]))
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Self(std::array::from_fn(|i| f32::from_bits((self.0[i].to_bits() << 23).wrapping_add(0x3f80_0000))))
    }
    #[inline(always)]
    unsafe fn zero_below(self, test: Self, limit: Self) -> Self {
        Self(std::array::from_fn(|i| if test.0[i] < limit.0[i] { 0.0 } else { self.0[i] }))
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "the comment at each impl holds for all of its methods")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub(in crate::generate) struct Avx512(__m512);

    // SAFETY: the methods are called inside functions with avx512f enabled; loads and stores are of 16 numbers.
    unsafe impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn fma(self, by: Self, plus: Self) -> Self {
            unsafe { Self(_mm512_fmadd_ps(self.0, by.0, plus.0)) }
        }
        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            unsafe {
                let bits = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
                Self(_mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x3f80_0000))))
            }
        }
        #[inline(always)]
        unsafe fn zero_below(self, test: Self, limit: Self) -> Self {
            unsafe {
                let keep = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(test.0, limit.0);
                Self(_mm512_maskz_mov_ps(keep, self.0))
            }
        }
    }

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub(in crate::generate) struct Avx2(__m256, __m256);

    // SAFETY: the methods are called inside functions with avx2 and fma enabled; loads and stores are of 16 numbers.
    unsafe impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn fma(self, by: Self, plus: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, by.0, plus.0), _mm256_fmadd_ps(self.1, by.1, plus.1)) }
        }
        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            unsafe {
                let one = _mm256_set1_epi32(0x3f80_0000);
                let half = |x| {
                    let bits = _mm256_slli_epi32::<23>(_mm256_castps_si256(x));
                    _mm256_castsi256_ps(_mm256_add_epi32(bits, one))
                };
                Self(half(self.0), half(self.1))
            }
        }
        #[inline(always)]
        unsafe fn zero_below(self, test: Self, limit: Self) -> Self {
            unsafe {
                let keep = |t, l, x| _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(t, l), x);
                Self(keep(test.0, limit.0, self.0), keep(test.1, limit.1, self.1))
            }
        }
    }
}

/// Compiles `unsafe fn body::<L: Lanes>(..)` for every instruction set and makes `name` call the widest one there is.
macro_rules! widest {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$doc])*
        pub(super) fn $name($($argument: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                unsafe fn avx512($($argument: $kind),*) $(-> $result)? {
                    // SAFETY: the feature is enabled here; the rest is the body's own contract with slices.
                    unsafe { $body::<$crate::generate::lanes::x86::Avx512>($($argument),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($argument: $kind),*) $(-> $result)? {
                    // SAFETY: as above.
                    unsafe { $body::<$crate::generate::lanes::x86::Avx2>($($argument),*) }
                }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: just detected.
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: just detected.
                    return unsafe { avx2($($argument),*) };
                }
            }
            // SAFETY: plain Rust needs no feature.
            unsafe { $body::<$crate::generate::lanes::Plain>($($argument),*) }
        }
    };
}
pub(super) use widest;

#[cfg(test)]
mod tests {
    use super::*;

    /// # Safety
    /// Slices are whole vectors.
    #[inline(always)]
    unsafe fn exponentials_body<L: Lanes>(values: &mut [f32]) {
        for chunk in values.chunks_exact_mut(WIDTH) {
            // SAFETY: a chunk is WIDTH numbers.
            unsafe { L::load(chunk.as_ptr()).exp().store(chunk.as_mut_ptr()) }
        }
    }
    widest! { fn exponentials(values: &mut [f32]) = exponentials_body }

    #[test]
    fn exp_is_close_everywhere_and_zero_far_below() {
        let inputs: Vec<f32> = (0..16 * 2000).map(|i| -87.0 + i as f32 * (170.0 / 32000.0)).collect();
        let mut outputs = inputs.clone();
        exponentials(&mut outputs);
        for (x, y) in inputs.iter().zip(&outputs) {
            let want = f64::from(*x).exp();
            assert!((f64::from(*y) - want).abs() <= 3e-7 * want, "exp({x}) gave {y}, not {want}");
        }
        let mut far = [f32::NEG_INFINITY, -88.0, -1e30, -87.4, 0.0, 0.0, 0.0, 0.0].repeat(2);
        exponentials(&mut far);
        assert_eq!(&far[..5], &[0.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
