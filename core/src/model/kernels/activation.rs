//! Activations and their derivatives, with an exponential that vectorises (relative error about 2e-7).

/// e^x for finite x; 0 below -87, saturating above 88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Cody-Waite reduction, then a polynomial of degree 6 (coefficients of Cephes expf).
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4_f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    (p * r * r + r + 1.0) * f32::from_bits((((n as i32) + 127) << 23) as u32)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh through the exponential.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // Near 0 the quotient loses digits; there a short series is exact enough.
    if x.abs() < 0.02 { x - x * x * x / 3.0 } else { 1.0 - 2.0 / (1.0 + exp(2.0 * x)) }
}

/// What stands between the two linear layers of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// The tanh form of GELU (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// The erf form of GELU.
    Gelu,
    /// max(x, 0).
    Relu,
}

const GELU: f32 = 0.797_884_6; // sqrt(2 / pi)
const CUBIC: f32 = 0.044_715;

impl Activation {
    /// The value.
    #[inline(always)]
    pub fn value(self, x: f32) -> f32 {
        match self {
            Self::Silu => x * sigmoid(x),
            Self::GeluTanh => 0.5 * x * (1.0 + tanh(GELU * (x + CUBIC * x * x * x))),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::Relu => x.max(0.0),
        }
    }

    /// The derivative.
    #[inline(always)]
    pub fn slope(self, x: f32) -> f32 {
        match self {
            Self::Silu => {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }
            Self::GeluTanh => {
                let t = tanh(GELU * (x + CUBIC * x * x * x));
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU * (1.0 + 3.0 * CUBIC * x * x)
            }
            Self::Gelu => {
                let density = exp(-0.5 * x * x) * 0.398_942_3;
                0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
            }
            Self::Relu => f32::from(x > 0.0),
        }
    }
}

/// The error function (Abramowitz and Stegun 7.1.26 in f64, error below 2e-7).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = f64::from(x.abs());
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = t
        * (0.254_829_592
            + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let y = 1.0 - p * (-a * a).exp();
    (if x < 0.0 { -y } else { y }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "{x}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn slopes_are_finite_differences() {
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
            for i in -60..60 {
                let x = i as f32 * 0.1 + 0.05;
                let h = 0.02;
                let slope = (activation.value(x + h) - activation.value(x - h)) / (2.0 * h);
                assert!((slope - activation.slope(x)).abs() < 2e-4, "{activation:?} at {x}");
            }
        }
    }
}
