//! The tasks that sipf has built in: one file each, linked in without any export.

pub mod arith;
pub mod code;
pub mod gsm8k;
pub mod humaneval;
pub mod math;
pub mod mbpp;
pub mod mmlu_math;
pub mod pyfunc;

use std::sync::Arc;

use sipf_plugin::Task;

pub use arith::{Arith, ArithDrill, ArithOod};
pub use gsm8k::Gsm8k;
pub use humaneval::HumanEval;
pub use mbpp::Mbpp;
pub use mmlu_math::MmluMath;
pub use pyfunc::PyFunc;

/// Every built-in task.
pub fn all() -> Vec<Arc<dyn Task>> {
    vec![
        Arc::new(Arith::default()),
        Arc::new(ArithOod::default()),
        Arc::new(ArithDrill),
        Arc::new(PyFunc),
        Arc::new(Gsm8k),
        Arc::new(MmluMath),
        Arc::new(Mbpp),
        Arc::new(HumanEval),
    ]
}
