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
    Whole(i64),
    AtLeast(i64),
    AtMost(i64),
    Distance(i64),
    TakeFrom(i64),
    Square,
    // list to list
    KeepEven,
    KeepOdd,
    KeepAbove(i64),
    KeepBelow(i64),
    KeepMultiples(i64),
    AddToEach(i64),
    SubtractFromEach(i64),
    MultiplyEach(i64),
    RemainderOfEach(i64),
    SquareEach,
    FirstOf(i64),
    SkipFirst(i64),
    EverySecond,
    Append(i64),
    Reverse,
    Sort,
    SortDown,
    // list to number
    Sum,
    Largest,
    Smallest,
    Count,
    First,
    Last,
    Spread,
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
            let last = [
                Stage::Sum,
                Stage::Largest,
                Stage::Smallest,
                Stage::Count,
                Stage::First,
                Stage::Last,
                Stage::Spread,
            ];
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
    let n = 2 + i64::from(stream.below(14));
    match stream.below(12) {
        0 | 1 => Stage::Add(n),
        2 | 3 => Stage::Subtract(n),
        4 | 5 => Stage::Multiply(n),
        6 => Stage::Remainder(n),
        7 => Stage::Whole(n),
        8 => Stage::AtLeast(n),
        9 => Stage::AtMost(n + 5),
        10 => match stream.chance(0.5) {
            true => Stage::Distance(n),
            false => Stage::TakeFrom(n + 10),
        },
        _ => Stage::Square,
    }
}

fn on_list(stream: &mut Stream) -> Stage {
    let n = 2 + i64::from(stream.below(14));
    match stream.below(16) {
        0 => Stage::KeepEven,
        1 => Stage::KeepOdd,
        2 => Stage::KeepAbove(n),
        3 => Stage::KeepBelow(n + 5),
        4 => Stage::KeepMultiples(2 + n % 4),
        5 | 6 => Stage::AddToEach(n),
        7 => Stage::SubtractFromEach(n),
        8 | 9 => Stage::MultiplyEach(n),
        10 => Stage::RemainderOfEach(n),
        11 => Stage::Append(n),
        12 => Stage::FirstOf(1 + n % 3),
        13 => Stage::SkipFirst(1 + n % 2),
        14 => match stream.chance(0.5) {
            true => Stage::EverySecond,
            false => Stage::SquareEach,
        },
        _ => match stream.below(3) {
            0 => Stage::Reverse,
            1 => Stage::Sort,
            _ => Stage::SortDown,
        },
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
            Self::Whole(n) => {
                [format!("divides it by {n} and rounds down"), format!("takes how often {n} goes into it")]
            }
            Self::AtLeast(n) => {
                [format!("raises it to {n} if it is less"), format!("takes {n} where that is larger")]
            }
            Self::AtMost(n) => {
                [format!("lowers it to {n} if it is more"), format!("takes {n} where that is smaller")]
            }
            Self::Distance(n) => {
                [format!("takes its distance from {n}"), format!("tells how far it is from {n}")]
            }
            Self::TakeFrom(n) => [format!("subtracts it from {n}"), format!("takes it away from {n}")],
            Self::Square => ["squares it".into(), "multiplies it by itself".into()],
            Self::KeepEven => ["keeps the even numbers".into(), "drops the odd numbers".into()],
            Self::KeepOdd => ["keeps the odd numbers".into(), "drops the even numbers".into()],
            Self::KeepAbove(n) => {
                [format!("keeps the numbers greater than {n}"), format!("keeps what is above {n}")]
            }
            Self::KeepBelow(n) => {
                [format!("keeps the numbers less than {n}"), format!("keeps what is below {n}")]
            }
            Self::KeepMultiples(n) => {
                [format!("keeps the multiples of {n}"), format!("keeps what can be divided by {n}")]
            }
            Self::SubtractFromEach(n) => [format!("subtracts {n} from each"), format!("reduces each by {n}")],
            Self::RemainderOfEach(n) => {
                [format!("takes each modulo {n}"), format!("takes the remainder of each divided by {n}")]
            }
            Self::SquareEach => ["squares each".into(), "multiplies each by itself".into()],
            Self::FirstOf(n) => [format!("keeps the first {n}"), format!("drops all but the first {n}")],
            Self::SkipFirst(n) => [format!("skips the first {n}"), format!("drops the first {n}")],
            Self::EverySecond => [
                "keeps every second one, the first included".into(),
                "keeps one and drops one in turn".into(),
            ],
            Self::Append(n) => [format!("adds {n} at the end"), format!("appends {n}")],
            Self::AddToEach(n) => [format!("adds {n} to each"), format!("increases each by {n}")],
            Self::MultiplyEach(n) => {
                [format!("multiplies each by {n}"), format!("makes each {n} times as large")]
            }
            Self::Reverse => ["reverses the order".into(), "turns the list round".into()],
            Self::Sort => ["sorts them".into(), "puts them in ascending order".into()],
            Self::SortDown => ["sorts them downwards".into(), "puts them in descending order".into()],
            Self::First => ["returns the first".into(), "takes the one in front".into()],
            Self::Last => ["returns the last".into(), "takes the one at the end".into()],
            Self::Spread => [
                "returns the largest less the smallest".into(),
                "takes the difference of the maximum and the minimum".into(),
            ],
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
            Self::Whole(n) => format!("{of} // {n}"),
            Self::AtLeast(n) => format!("max({of}, {n})"),
            Self::AtMost(n) => format!("min({of}, {n})"),
            Self::Distance(n) => format!("abs({of} - {n})"),
            Self::TakeFrom(n) => format!("{n} - {of}"),
            Self::Square => format!("{of} * {of}"),
            Self::KeepEven => format!("[v for v in {of} if v % 2 == 0]"),
            Self::KeepOdd => format!("[v for v in {of} if v % 2 == 1]"),
            Self::KeepAbove(n) => format!("[v for v in {of} if v > {n}]"),
            Self::KeepBelow(n) => format!("[v for v in {of} if v < {n}]"),
            Self::KeepMultiples(n) => format!("[v for v in {of} if v % {n} == 0]"),
            Self::SubtractFromEach(n) => format!("[v - {n} for v in {of}]"),
            Self::RemainderOfEach(n) => format!("[v % {n} for v in {of}]"),
            Self::SquareEach => format!("[v * v for v in {of}]"),
            Self::FirstOf(n) => format!("{of}[:{n}]"),
            Self::SkipFirst(n) => format!("{of}[{n}:]"),
            Self::EverySecond => format!("{of}[::2]"),
            Self::Append(n) => format!("{of} + [{n}]"),
            Self::SortDown => format!("sorted({of}, reverse=True)"),
            Self::First => format!("{of}[0]"),
            Self::Last => format!("{of}[-1]"),
            Self::Spread => format!("max({of}) - min({of})"),
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
        // From lists come lists, and from numbers numbers, but for what ends a list.
        self.apply(&Value::List(vec![1])).is_some_and(|value| matches!(value, Value::List(_)))
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
                Self::Whole(n) => x.div_euclid(*n),
                Self::AtLeast(n) => *x.max(n),
                Self::AtMost(n) => *x.min(n),
                Self::Distance(n) => (x - n).abs(),
                Self::TakeFrom(n) => n - x,
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
                    Self::KeepMultiples(n) => keep(&|x| x.rem_euclid(*n) == 0),
                    Self::AddToEach(n) => list(xs.iter().map(|x| x + n).collect()),
                    Self::SubtractFromEach(n) => list(xs.iter().map(|x| x - n).collect()),
                    Self::RemainderOfEach(n) => list(xs.iter().map(|x| x.rem_euclid(*n)).collect()),
                    Self::SquareEach => list(xs.iter().map(|x| x * x).collect()),
                    Self::FirstOf(n) => list(xs.iter().copied().take(*n as usize).collect()),
                    Self::SkipFirst(n) => list(xs.iter().copied().skip(*n as usize).collect()),
                    Self::EverySecond => list(xs.iter().copied().step_by(2).collect()),
                    Self::Append(n) => list(xs.iter().copied().chain([*n]).collect()),
                    Self::MultiplyEach(n) => list(xs.iter().map(|x| x * n).collect()),
                    Self::Reverse => list(xs.iter().rev().copied().collect()),
                    Self::Sort => {
                        let mut sorted = xs.clone();
                        sorted.sort_unstable();
                        list(sorted)
                    }
                    Self::SortDown => {
                        let mut sorted = xs.clone();
                        sorted.sort_unstable_by(|a, b| b.cmp(a));
                        list(sorted)
                    }
                    Self::First => xs.first().copied().map(Value::Number),
                    Self::Last => xs.last().copied().map(Value::Number),
                    Self::Spread => Some(Value::Number(xs.iter().max()? - xs.iter().min()?)),
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
        Some(match self {
            Self::Add(n) | Self::AtMost(n) => Self::Multiply(*n),
            Self::Subtract(n) | Self::Multiply(n) | Self::AtLeast(n) => Self::Add(*n),
            Self::Whole(n) => Self::Remainder(*n),
            Self::Distance(n) | Self::TakeFrom(n) => Self::Subtract(*n),
            Self::Square => Self::Multiply(2),
            Self::KeepEven => Self::KeepOdd,
            Self::KeepOdd => Self::KeepEven,
            Self::KeepAbove(n) | Self::KeepMultiples(n) => Self::KeepBelow(*n),
            Self::KeepBelow(n) => Self::KeepAbove(*n),
            Self::AddToEach(n) | Self::RemainderOfEach(n) => Self::MultiplyEach(*n),
            Self::SubtractFromEach(n) | Self::MultiplyEach(n) | Self::Append(n) => Self::AddToEach(*n),
            Self::SquareEach => Self::MultiplyEach(2),
            Self::FirstOf(n) => Self::SkipFirst(*n),
            Self::SkipFirst(n) => Self::FirstOf(*n),
            Self::SortDown => Self::Sort,
            Self::Sum => Self::Count,
            Self::Largest => Self::Smallest,
            Self::Smallest | Self::Spread => Self::Largest,
            Self::Count => Self::Sum,
            Self::First => Self::Last,
            Self::Last => Self::First,
            Self::Remainder(_) | Self::Reverse | Self::Sort | Self::EverySecond => return None,
        })
    }
}
