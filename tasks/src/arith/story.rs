//! The question families: sentences about people, goods and money, with the plan that they call for.

use sipf_plugin::random::Stream;

use super::plan::{Fact, Goal, Kind, LARGEST, Misreading, Operand, Operator, Plan, PlanStep};

const NAMES: [&str; 12] =
    ["Tom", "Ann", "Ben", "Mia", "Sam", "Eva", "Max", "Zoe", "Leo", "Amy", "Dan", "Kim"];
const ITEMS: [&str; 12] = [
    "apples", "books", "cards", "coins", "eggs", "pens", "toys", "cups", "shells", "stamps", "balls", "cakes",
];

/// Which questions are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Two to four steps, phrases seen in training.
    Seen,
    /// Longer plans; one sentence in four uses a phrase that never occurs in training.
    Unseen,
}

/// A story being told.
struct Story<'a> {
    stream: &'a mut Stream,
    style: Style,
    sentences: Vec<String>,
    steps: Vec<PlanStep>,
    facts: Vec<Fact>,
}

type Family = fn(&mut Story) -> Goal;

const NUMERIC: [(u32, Family); 5] =
    [(35, chain), (25, together), (15, shopping), (15, production), (10, order)];
const TWO_WAY: [(u32, Family); 6] =
    [(20, who_has_more), (20, who_is_ahead), (15, who_sells_more), (10, parity), (15, enough), (20, cheaper)];
const LONG_NUMERIC: [(u32, Family); 2] = [(60, chain), (40, together)];
const LONG_TWO_WAY: [(u32, Family); 3] = [(50, who_has_more), (25, who_is_ahead), (25, parity)];

/// Tells one story; its numbers may not work out.
pub(super) fn tell(stream: &mut Stream, style: Style, two_way: bool) -> Plan {
    let families: &[(u32, Family)] = match (style, two_way) {
        (Style::Seen, false) => &NUMERIC,
        (Style::Seen, true) => &TWO_WAY,
        (Style::Unseen, false) => &LONG_NUMERIC,
        (Style::Unseen, true) => &LONG_TWO_WAY,
    };
    let mut left = stream.below(families.iter().map(|(weight, _)| weight).sum());
    let mut family = families[0].1;
    for (weight, candidate) in families {
        family = *candidate;
        if left < *weight {
            break;
        }
        left -= weight;
    }
    let mut story = Story { stream, style, sentences: Vec::new(), steps: Vec::new(), facts: Vec::new() };
    let goal = family(&mut story);
    Plan { question: story.sentences.join(" "), steps: story.steps, goal, facts: story.facts }
}

impl Story<'_> {
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::from(self.stream.below((high - low + 1) as u32))
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.stream.below(items.len() as u32) as usize]
    }

    fn people<const N: usize>(&mut self) -> [&'static str; N] {
        let mut names = NAMES;
        self.stream.shuffle(&mut names);
        std::array::from_fn(|place| names[place])
    }

    fn goods(&mut self) -> [&'static str; 2] {
        let mut items = ITEMS;
        self.stream.shuffle(&mut items);
        [items[0], items[1]]
    }

    fn item(&mut self) -> &'static str {
        self.goods()[0]
    }

    fn say(&mut self, sentence: impl Into<String>) {
        self.sentences.push(sentence.into());
    }

    fn long(&self) -> bool {
        self.style == Style::Unseen
    }

    /// One of the usual phrases, or now and then, out of domain, an unseen one.
    fn phrase(&mut self, usual: &[String], unseen: String) -> String {
        if self.long() && self.stream.chance(0.25) {
            return unseen;
        }
        let place = self.stream.below(usual.len() as u32) as usize;
        usual[place].clone()
    }

    fn step(
        &mut self,
        kind: Kind,
        subject: impl Into<String>,
        unit: &str,
        equation: (Operand, Operator, Operand),
        misreading: Option<Misreading>,
    ) -> Operand {
        let (left, operator, right) = equation;
        let off = misreading == Some(Misreading::Superfluous);
        let (subject, unit) = (subject.into(), unit.to_owned());
        self.steps.push(PlanStep { kind, subject, unit, left, operator, right, misreading, off });
        Operand::Of(self.steps.len() - 1)
    }

    /// Somebody's belongings change a few times.
    fn changes(&mut self, who: &str, other: &str, item: &str, start: i64, times: usize) -> Operand {
        use Operator::{Add, Divide, Multiply, Subtract};
        self.say(format!("{who} has {start} {item}."));
        self.facts.push((who.into(), start, item.into()));
        let mut now = Operand::Given(start);
        let mut last = Add;
        for _ in 0..times {
            let operator = loop {
                let operator = self.one_of(&[Add, Subtract, Multiply, Multiply, Divide, Divide]);
                if operator != last || matches!(operator, Add | Subtract) {
                    break operator;
                }
            };
            last = operator;
            let (number, misreading) = match operator {
                Add | Subtract => (self.between(2, 15), None),
                Multiply => (self.one_of(&[2, 3]), Some(Misreading::As(Add))),
                Divide => (self.one_of(&[2, 3, 4, 5]), Some(Misreading::As(Subtract))),
            };
            let sentence = match operator {
                Add => self.phrase(
                    &[
                        format!("{who} buys {number} more."),
                        format!("{other} gives {who} {number} more."),
                        format!("{who} finds {number} more."),
                    ],
                    format!("{who} picks up another {number}."),
                ),
                Subtract => self.phrase(
                    &[
                        format!("{who} loses {number}."),
                        format!("{who} gives {number} to {other}."),
                        format!("{who} sells {number}."),
                    ],
                    format!("{number} of them break."),
                ),
                Multiply => {
                    let (verb, times) =
                        if number == 2 { ("doubles", "twice") } else { ("triples", "three times") };
                    self.phrase(
                        &[format!("Then the number of {item} {verb}.")],
                        format!("Soon {who} has {times} as many."),
                    )
                }
                Divide => self.phrase(
                    &[format!("{who} splits them into {number} equal parts and keeps one part.")],
                    format!("{who} shares them evenly in a group of {number}."),
                ),
            };
            self.say(sentence);
            now = self.step(Kind::Holding, who, item, (now, operator, Operand::Given(number)), misreading);
            if self.stream.chance(0.2) {
                let distractor = loop {
                    let candidate = self.item();
                    if candidate != item {
                        break candidate;
                    }
                };
                let number = self.between(2, 9);
                self.say(format!("{who} also has {number} {distractor}."));
                let equation = (now, Add, Operand::Given(number));
                now = self.step(Kind::Holding, who, item, equation, Some(Misreading::Superfluous));
            }
        }
        now
    }

    /// Somebody has more, fewer or times as many as somebody else.
    fn relation(
        &mut self,
        who: &str,
        reference: (&str, Operand),
        item: &str,
        instead: Option<i64>,
    ) -> Operand {
        let (name, source) = reference;
        let kind = self.one_of(&["more", "fewer", "fewer", "times"]);
        let number = if kind == "times" { self.one_of(&[2, 3]) } else { self.between(2, 15) };
        let sentence = match kind {
            "times" => self.phrase(
                &[format!("{who} has {number} times as many {item} as {name}.")],
                format!("For each of {name}'s {item}, {who} has {number}."),
            ),
            _ => self.phrase(
                &[format!("{who} has {number} {kind} {item} than {name}.")],
                format!(
                    "{who} is {number} {item} {} {name}.",
                    if kind == "more" { "ahead of" } else { "behind" }
                ),
            ),
        };
        self.say(sentence);
        let operator = match kind {
            "more" => Operator::Add,
            "fewer" => Operator::Subtract,
            _ => Operator::Multiply,
        };
        let misreading = match instead {
            Some(number) => Some(Misreading::From(Operand::Given(number))),
            None if kind == "more" => None,
            None => Some(Misreading::As(Operator::Add)),
        };
        self.step(Kind::Holding, who, item, (source, operator, Operand::Given(number)), misreading)
    }

    /// Two kinds of goods at two prices, and their total.
    fn basket(&mut self) -> (String, Operand) {
        let [first, second] = self.goods();
        let mut costs = Vec::new();
        let mut told = Vec::new();
        for item in [first, second] {
            let (count, price) = (self.between(2, 7), self.between(2, 5));
            told.push(format!("{count} {item} for ${price} each"));
            let equation = (Operand::Given(count), Operator::Multiply, Operand::Given(price));
            costs.push(self.step(Kind::Cost, item, "", equation, Some(Misreading::As(Operator::Add))));
        }
        let skipped = self.stream.chance(0.3).then_some(Misreading::Skipped);
        let total = self.step(Kind::Total, "both", "dollars", (costs[0], Operator::Add, costs[1]), skipped);
        (format!("{}.", told.join(" and ")), total)
    }

    /// So many made a day, some kept, for some days.
    fn production(&mut self, who: &str, item: &str) -> Operand {
        let (made, kept, days) = (self.between(4, 20), self.between(2, 12), self.between(2, 5));
        self.say(format!(
            "{who} makes {made} {item} a day, keeps {kept} of them each day and works {days} days."
        ));
        let each_day = (Operand::Given(made), Operator::Subtract, Operand::Given(kept));
        let left = self.step(Kind::Daily, who, item, each_day, Some(Misreading::BeforeTheNext));
        self.step(Kind::Daily, who, item, (left, Operator::Multiply, Operand::Given(days)), None)
    }

    /// A store's price and its delivery.
    fn store(&mut self, name: &str, count: i64) -> Operand {
        let (price, delivery) = (self.between(2, 6), self.between(2, 12));
        self.say(format!("Store {name} asks ${price} each and ${delivery} for delivery."));
        let goods = (Operand::Given(count), Operator::Multiply, Operand::Given(price));
        let cost = self.step(Kind::Store, name, "", goods, Some(Misreading::As(Operator::Add)));
        let all = (cost, Operator::Add, Operand::Given(delivery));
        self.step(Kind::Store, name, "", all, Some(Misreading::Skipped))
    }
}

fn chain(story: &mut Story) -> Goal {
    let ([who, other], item) = (story.people(), story.item());
    let (start, times) = match story.long() {
        true => (story.between(4, 36), story.one_of(&[4, 4, 5])),
        false => (story.between(4, 36), story.one_of(&[2, 2, 3])),
    };
    let now = story.changes(who, other, item, start, times);
    story.say(format!("How many {item} does {who} have now?"));
    Goal::Number(now)
}

fn together(story: &mut Story) -> Goal {
    let ([first, second, third, fourth], item) = (story.people(), story.item());
    let start = story.between(3, 20);
    story.say(format!("{first} has {start} {item}."));
    story.facts.push((first.into(), start, item.into()));
    let next = story.relation(second, (first, Operand::Given(start)), item, None);
    let far = story.long() || story.stream.chance(0.6);
    let (one, other) = match far {
        false => ((first, Operand::Given(start)), (second, next)),
        true => {
            let after = story.relation(third, (second, next), item, Some(start));
            match story.long() {
                false => ((second, next), (third, after)),
                true => ((third, after), (fourth, story.relation(fourth, (third, after), item, None))),
            }
        }
    };
    let subject = format!("{} and {}", one.0, other.0);
    let total = story.step(Kind::Total, &subject, item, (one.1, Operator::Add, other.1), None);
    story.say(format!("How many {item} do {subject} have together?"));
    Goal::Number(total)
}

fn shopping(story: &mut Story) -> Goal {
    let [who] = story.people();
    let (goods, total) = story.basket();
    story.say(format!("{who} buys {goods}"));
    if story.stream.chance(0.6) {
        let money = story.between(20, LARGEST);
        story.say(format!("{who} had ${money}. How much money is left?"));
        let rest = (Operand::Given(money), Operator::Subtract, total);
        return Goal::Number(story.step(Kind::Holding, who, "dollars", rest, None));
    }
    story.say("How much does it cost in total?");
    Goal::Number(total)
}

fn production(story: &mut Story) -> Goal {
    let ([who], item) = (story.people(), story.item());
    let sold = story.production(who, item);
    story.say(format!("How many {item} can {who} sell?"));
    Goal::Number(sold)
}

fn order(story: &mut Story) -> Goal {
    let ([who], item) = (story.people(), story.item());
    let (count, name) = (story.between(2, 7), story.one_of(&["A", "B"]));
    story.say(format!("{who} needs {count} {item}."));
    let cost = story.store(name, count);
    story.say(format!("How much does {who} pay in store {name}?"));
    Goal::Number(cost)
}

fn who_has_more(story: &mut Story) -> Goal {
    let ([one, two, other], item) = (story.people(), story.item());
    let (first, second) = match story.long() {
        true => story.one_of(&[(2, 2), (2, 3), (3, 2)]),
        false => story.one_of(&[(1, 1), (1, 2), (2, 1)]),
    };
    let start = story.between(4, 30);
    let a = story.changes(one, other, item, start, first);
    let start = story.between(4, 30);
    let b = story.changes(two, other, item, start, second);
    story.say(format!("Who has more {item} now, {one} or {two}?"));
    Goal::Most(vec![(one.into(), a), (two.into(), b)])
}

fn who_is_ahead(story: &mut Story) -> Goal {
    let ([first, second, third, fourth], item) = (story.people(), story.item());
    let start = story.between(3, 20);
    story.say(format!("{first} has {start} {item}."));
    story.facts.push((first.into(), start, item.into()));
    let next = story.relation(second, (first, Operand::Given(start)), item, None);
    let mut last = (third, story.relation(third, (second, next), item, Some(start)));
    if story.long() {
        last = (fourth, story.relation(fourth, last, item, None));
    }
    let rival = story.one_of(&[(first, Operand::Given(start)), (second, next)]);
    story.say(format!("Who has more {item}, {} or {}?", last.0, rival.0));
    Goal::Most(vec![(last.0.into(), last.1), (rival.0.into(), rival.1)])
}

fn who_sells_more(story: &mut Story) -> Goal {
    let ([one, two], item) = (story.people(), story.item());
    let (a, b) = (story.production(one, item), story.production(two, item));
    story.say(format!("Who can sell more {item}, {one} or {two}?"));
    Goal::Most(vec![(one.into(), a), (two.into(), b)])
}

fn parity(story: &mut Story) -> Goal {
    let ([who, other], item) = (story.people(), story.item());
    let (start, times) = (story.between(4, 36), if story.long() { 4 } else { 2 });
    let now = story.changes(who, other, item, start, times);
    story.say(format!("Is the number of {item} that {who} has now even or odd?"));
    Goal::EvenOrOdd(now)
}

fn enough(story: &mut Story) -> Goal {
    let [who] = story.people();
    let (goods, total) = story.basket();
    let money = story.between(10, LARGEST);
    story.say(format!("{who} has ${money} and wants {goods}"));
    story.say(format!("Does {who} have enough money?"));
    Goal::Enough(total, money)
}

fn cheaper(story: &mut Story) -> Goal {
    let ([who], item) = (story.people(), story.item());
    let count = story.between(2, 6);
    story.say(format!("{who} needs {count} {item}."));
    let (a, b) = (story.store("A", count), story.store("B", count));
    story.say("Which store is cheaper, A or B?");
    Goal::Least(vec![("A".into(), a), ("B".into(), b)])
}
