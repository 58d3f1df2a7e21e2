//! A word problem as a symbolic plan: steps over numbers and earlier steps, and what is asked at the end.

/// Largest number anywhere in a problem or its solution.
pub(super) const LARGEST: i64 = 40;

/// One of the four operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operator {
    pub(super) fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }

    /// Whether the operands may change places.
    pub(super) fn commutes(self) -> bool {
        matches!(self, Self::Add | Self::Multiply)
    }

    /// The result, where it is a whole number.
    pub(super) fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Self::Add => Some(left + right),
            Self::Subtract => Some(left - right),
            Self::Multiply => Some(left * right),
            Self::Divide => (right != 0 && left % right == 0).then(|| left / right),
        }
    }
}

/// Where a step takes a number from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// The question states it.
    Given(i64),
    /// The result of the step with this place in the plan.
    Of(usize),
}

/// How somebody who misunderstands the question takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misreading {
    /// With another operation.
    As(Operator),
    /// From another source.
    From(Operand),
    /// Not at all.
    Skipped,
    /// Swapped with the next step.
    BeforeTheNext,
    /// A step that is not called for at all; the right plan leaves it out.
    Superfluous,
}

/// What kind of sentence states a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Holding,
    Cost,
    Total,
    Daily,
    Store,
}

/// One step.
#[derive(Debug, Clone)]
pub(super) struct PlanStep {
    pub(super) kind: Kind,
    pub(super) subject: String,
    pub(super) unit: String,
    pub(super) left: Operand,
    pub(super) operator: Operator,
    pub(super) right: Operand,
    pub(super) misreading: Option<Misreading>,
    /// Not taken: its first operand is passed on.
    pub(super) off: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum Goal {
    Number(Operand),
    EvenOrOdd(Operand),
    /// Whether so much money is enough for this cost.
    Enough(Operand, i64),
    /// Who or what has the most (or the least).
    Most(Vec<(String, Operand)>),
    Least(Vec<(String, Operand)>),
}

/// A number that the question gives somebody: (who, how many, of what).
pub(super) type Fact = (String, i64, String);

/// A word problem.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) question: String,
    pub(super) steps: Vec<PlanStep>,
    pub(super) goal: Goal,
    pub(super) facts: Vec<Fact>,
}

/// A step with its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worked {
    /// Its place in the plan.
    pub(super) step: usize,
    pub(super) left: i64,
    pub(super) right: i64,
    pub(super) result: i64,
}

/// A worked plan.
pub(super) struct Outcome {
    /// The steps taken, in plan order.
    pub(super) worked: Vec<Worked>,
    /// The value of every step, those passed over included.
    values: Vec<i64>,
}

impl Outcome {
    fn value(&self, operand: Operand) -> i64 {
        match operand {
            Operand::Given(number) => number,
            Operand::Of(step) => self.values[step],
        }
    }
}

impl Plan {
    /// Works the plan out; `slip(result)` may change a result. `None` where a number is not whole, below 1 or above
    /// [`LARGEST`].
    pub(super) fn work(&self, slip: &mut dyn FnMut(i64) -> i64) -> Option<Outcome> {
        let mut outcome = Outcome { worked: Vec::new(), values: Vec::new() };
        for (place, step) in self.steps.iter().enumerate() {
            let (left, right) = (outcome.value(step.left), outcome.value(step.right));
            if step.off {
                outcome.values.push(left);
                continue;
            }
            let result = slip(step.operator.apply(left, right)?);
            if !(1..=LARGEST).contains(&result) {
                return None;
            }
            outcome.values.push(result);
            outcome.worked.push(Worked { step: place, left, right, result });
        }
        Some(outcome)
    }

    /// For every step: the taken steps whose results it reads.
    pub(super) fn needs(&self) -> Vec<Vec<usize>> {
        // What reading a step's value means: the step itself, or what a passed-over step passes on.
        let mut sources: Vec<Vec<usize>> = Vec::new();
        let mut needs = Vec::new();
        for (place, step) in self.steps.iter().enumerate() {
            let read = |operand: Operand| match operand {
                Operand::Given(_) => Vec::new(),
                Operand::Of(step) => sources[step].clone(),
            };
            let mut mine = read(step.left);
            let passed_on = mine.clone();
            mine.extend(read(step.right));
            sources.push(if step.off { passed_on } else { vec![place] });
            needs.push(mine);
        }
        needs
    }

    /// The final answer. A tie between candidates is `None`, unless `tie(n)` picks one of n.
    pub(super) fn conclude(
        &self,
        outcome: &Outcome,
        tie: Option<&mut dyn FnMut(usize) -> usize>,
    ) -> Option<String> {
        let best = |candidates: &[(String, Operand)], sign: i64| {
            let score = |operand: Operand| sign * outcome.value(operand);
            let top = candidates.iter().map(|(_, operand)| score(*operand)).max()?;
            let first: Vec<&String> = candidates
                .iter()
                .filter(|(_, operand)| score(*operand) == top)
                .map(|(name, _)| name)
                .collect();
            match (first.as_slice(), tie) {
                ([one], _) => Some((*one).clone()),
                (several, Some(pick)) => Some(several[pick(several.len())].clone()),
                _ => None,
            }
        };
        match &self.goal {
            Goal::Number(operand) => Some(outcome.value(*operand).to_string()),
            Goal::EvenOrOdd(operand) => {
                Some(if outcome.value(*operand) % 2 == 0 { "even" } else { "odd" }.to_owned())
            }
            Goal::Enough(cost, money) => {
                Some(if outcome.value(*cost) <= *money { "yes" } else { "no" }.to_owned())
            }
            Goal::Most(candidates) => best(candidates, 1),
            Goal::Least(candidates) => best(candidates, -1),
        }
    }

    /// The two possible answers of a two-way question; empty where a number is asked.
    pub(super) fn choices(&self) -> Vec<String> {
        match &self.goal {
            Goal::Number(_) => Vec::new(),
            Goal::EvenOrOdd(_) => vec!["even".into(), "odd".into()],
            Goal::Enough(..) => vec!["yes".into(), "no".into()],
            Goal::Most(candidates) | Goal::Least(candidates) => {
                candidates.iter().map(|(name, _)| name.clone()).collect()
            }
        }
    }
}
