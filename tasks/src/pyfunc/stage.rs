//! One stage of a small program: how it is told, written, computed and misread.

use std::fmt;

use sipf_plugin::random::Stream;

/// What a stage takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    List(Vec<i64>),
}

impl Value {
    pub(super) fn largest(&self) -> i64 {
        match self {
            Self::Number(number) => number.abs(),
            Self::List(numbers) => numbers.iter().map(|number| number.abs()).max().unwrap_or(0),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::List(numbers) => write!(f, "{numbers:?}"),
        }
    }
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    // number to number
    Add(i64),
    Subtract(i64),
    Multiply(i64),
    Remainder(i64),
    Square,
    // list to list
    KeepEven,
    KeepOdd,
    KeepAbove(i64),
    KeepBelow(i64),
    AddToEach(i64),
    MultiplyEach(i64),
    Reverse,
    Sort,
    // list to number
    Sum,
    Largest,
    Smallest,
    Count,
}

/// One to three stages that fit together.
pub(super) fn pipeline(stream: &mut Stream, of_list: bool) -> Vec<Stage> {
    let count = 1 + stream.below(3) as usize;
    let mut stages = Vec::new();
    if of_list {
        for _ in 0..count.min(2) {
            stages.push(on_list(stream));
        }
        if count > 1 && stream.chance(0.7) {
            let last = [Stage::Sum, Stage::Largest, Stage::Smallest, Stage::Count];
            stages.extend(stream.pick(&last).cloned());
        }
    } else {
        for _ in 0..count {
            stages.push(on_number(stream));
        }
    }
    stages
}

/// An input for a pipeline.
pub(super) fn input(stream: &mut Stream, of_list: bool) -> Value {
    let mut number = || i64::from(stream.below(20)) + 1;
    match of_list {
        false => Value::Number(number()),
        true => {
            let count = 3 + number() % 3;
            Value::List((0..count).map(|_| number()).collect())
        }
    }
}

fn on_number(stream: &mut Stream) -> Stage {
    let n = 2 + i64::from(stream.below(8));
    match stream.below(9) {
        0 | 1 => Stage::Add(n),
        2 | 3 => Stage::Subtract(n),
        4 | 5 => Stage::Multiply(n),
        6 | 7 => Stage::Remainder(n),
        _ => Stage::Square,
    }
}

fn on_list(stream: &mut Stream) -> Stage {
    let n = 2 + i64::from(stream.below(8));
    match stream.below(8) {
        0 => Stage::KeepEven,
        1 => Stage::KeepOdd,
        2 => Stage::KeepAbove(n),
        3 => Stage::KeepBelow(n + 5),
        4 => Stage::AddToEach(n),
        5 => Stage::MultiplyEach(n),
        6 => Stage::Reverse,
        _ => Stage::Sort,
    }
}

impl Stage {
    /// What the description says.
    pub(super) fn told(&self, stream: &mut Stream) -> String {
        let ways: [String; 2] = match self {
            Self::Add(n) => [format!("adds {n}"), format!("increases it by {n}")],
            Self::Subtract(n) => [format!("subtracts {n}"), format!("reduces it by {n}")],
            Self::Multiply(n) => [format!("multiplies it by {n}"), format!("makes it {n} times as large")],
            Self::Remainder(n) => {
                [format!("takes the remainder when divided by {n}"), format!("takes it modulo {n}")]
            }
            Self::Square => ["squares it".into(), "multiplies it by itself".into()],
            Self::KeepEven => ["keeps the even numbers".into(), "drops the odd numbers".into()],
            Self::KeepOdd => ["keeps the odd numbers".into(), "drops the even numbers".into()],
            Self::KeepAbove(n) => {
                [format!("keeps the numbers greater than {n}"), format!("keeps what is above {n}")]
            }
            Self::KeepBelow(n) => {
                [format!("keeps the numbers less than {n}"), format!("keeps what is below {n}")]
            }
            Self::AddToEach(n) => [format!("adds {n} to each"), format!("increases each by {n}")],
            Self::MultiplyEach(n) => {
                [format!("multiplies each by {n}"), format!("makes each {n} times as large")]
            }
            Self::Reverse => ["reverses the order".into(), "turns the list round".into()],
            Self::Sort => ["sorts them".into(), "puts them in ascending order".into()],
            Self::Sum => ["returns the sum".into(), "adds them all up".into()],
            Self::Largest => ["returns the largest".into(), "takes the maximum".into()],
            Self::Smallest => ["returns the smallest".into(), "takes the minimum".into()],
            Self::Count => ["returns how many are left".into(), "counts them".into()],
        };
        ways[usize::from(stream.chance(0.5))].clone()
    }

    /// Python, applied to the variable `of`.
    pub(super) fn expression(&self, of: &str) -> String {
        match self {
            Self::Add(n) => format!("{of} + {n}"),
            Self::Subtract(n) => format!("{of} - {n}"),
            Self::Multiply(n) => format!("{of} * {n}"),
            Self::Remainder(n) => format!("{of} % {n}"),
            Self::Square => format!("{of} * {of}"),
            Self::KeepEven => format!("[v for v in {of} if v % 2 == 0]"),
            Self::KeepOdd => format!("[v for v in {of} if v % 2 == 1]"),
            Self::KeepAbove(n) => format!("[v for v in {of} if v > {n}]"),
            Self::KeepBelow(n) => format!("[v for v in {of} if v < {n}]"),
            Self::AddToEach(n) => format!("[v + {n} for v in {of}]"),
            Self::MultiplyEach(n) => format!("[v * {n} for v in {of}]"),
            Self::Reverse => format!("{of}[::-1]"),
            Self::Sort => format!("sorted({of})"),
            Self::Sum => format!("sum({of})"),
            Self::Largest => format!("max({of})"),
            Self::Smallest => format!("min({of})"),
            Self::Count => format!("len({of})"),
        }
    }

    pub(super) fn gives_list(&self) -> bool {
        use Stage::{AddToEach, KeepAbove, KeepBelow, KeepEven, KeepOdd, MultiplyEach, Reverse, Sort};
        matches!(
            self,
            KeepEven
                | KeepOdd
                | KeepAbove(_)
                | KeepBelow(_)
                | AddToEach(_)
                | MultiplyEach(_)
                | Reverse
                | Sort
        )
    }

    /// What Python would compute; `None` where it would fail.
    pub(super) fn apply(&self, value: &Value) -> Option<Value> {
        let list = |numbers: Vec<i64>| Some(Value::List(numbers));
        match value {
            Value::Number(x) => Some(Value::Number(match self {
                Self::Add(n) => x + n,
                Self::Subtract(n) => x - n,
                Self::Multiply(n) => x * n,
                Self::Remainder(n) => x.rem_euclid(*n),
                Self::Square => x * x,
                _ => return None,
            })),
            Value::List(xs) => {
                let keep =
                    |wanted: &dyn Fn(i64) -> bool| list(xs.iter().copied().filter(|x| wanted(*x)).collect());
                match self {
                    Self::KeepEven => keep(&|x| x.rem_euclid(2) == 0),
                    Self::KeepOdd => keep(&|x| x.rem_euclid(2) == 1),
                    Self::KeepAbove(n) => keep(&|x| x > *n),
                    Self::KeepBelow(n) => keep(&|x| x < *n),
                    Self::AddToEach(n) => list(xs.iter().map(|x| x + n).collect()),
                    Self::MultiplyEach(n) => list(xs.iter().map(|x| x * n).collect()),
                    Self::Reverse => list(xs.iter().rev().copied().collect()),
                    Self::Sort => {
                        let mut sorted = xs.clone();
                        sorted.sort_unstable();
                        list(sorted)
                    }
                    Self::Sum => Some(Value::Number(xs.iter().sum())),
                    Self::Largest => xs.iter().max().copied().map(Value::Number),
                    Self::Smallest => xs.iter().min().copied().map(Value::Number),
                    Self::Count => Some(Value::Number(xs.len() as i64)),
                    _ => None,
                }
            }
        }
    }

    /// What somebody who misreads the stage writes instead; `None`: nothing.
    pub(super) fn misread(&self) -> Option<Self> {
        match self {
            Self::Add(n) => Some(Self::Multiply(*n)),
            Self::Subtract(n) | Self::Multiply(n) => Some(Self::Add(*n)),
            Self::Remainder(_) | Self::Reverse => None,
            Self::Square => Some(Self::Multiply(2)),
            Self::KeepEven => Some(Self::KeepOdd),
            Self::KeepOdd => Some(Self::KeepEven),
            Self::KeepAbove(n) => Some(Self::KeepBelow(*n)),
            Self::KeepBelow(n) => Some(Self::KeepAbove(*n)),
            Self::AddToEach(n) => Some(Self::MultiplyEach(*n)),
            Self::MultiplyEach(n) => Some(Self::AddToEach(*n)),
            Self::Sort => None,
            Self::Sum => Some(Self::Count),
            Self::Largest => Some(Self::Smallest),
            Self::Smallest => Some(Self::Largest),
            Self::Count => Some(Self::Sum),
        }
    }
}
