//! Every built-in task and reward model, exported through the ABI.

use sipf_reward_models::{Orm, PrmDeepseek, PrmMathShepherd, PrmQwenMath, PrmRlhflow, PrmTiny, PrmTrl};
use sipf_tasks::{Arith, ArithDrill, ArithOod, Gsm8k, HumanEval, Mbpp, MmluMath, PyFunc};

sipf_plugin::export_plugin!(
    tasks: [Arith, ArithOod, ArithDrill, PyFunc, Gsm8k, MmluMath, Mbpp, HumanEval],
    rewards: [PrmTrl, PrmDeepseek, PrmMathShepherd, PrmRlhflow, PrmQwenMath, PrmTiny, Orm]
);
