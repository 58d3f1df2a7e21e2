//! `sipf plan`: what a run would cost, stage by stage.

use std::process::ExitCode;

use sipf_core::iterate::{self, WorkPlan};
use sipf_core::model::ModelFolder;
use sipf_core::{dataset, machine};
use sipf_plugin::{Problem, Split, Task};

use crate::exit::{self, print_line};
use crate::given::Given;
use crate::requirements;
use crate::settings::{self, Resolved, RunFlags};
use crate::training::{print_settings, settings_object};

/// Problems of an endless split that are looked at for lengths.
const LOOKED_AT: usize = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: RunFlags,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let resolved = args.flags.resolve(given, None)?;
    machine::use_threads(args.flags.threads)?;
    let plan = estimate(&args.flags, &resolved, true)?;
    match args.json {
        true => print_line(&serde_json::to_string(&plan)?)?,
        false => print(&plan)?,
    }
    Ok(exit::DONE)
}

/// Every setting and where it came from, then the plan: `--dry-run`.
pub(crate) fn show(
    given: &Given,
    flags: &RunFlags,
    resolved: &Resolved,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    machine::use_threads(flags.threads)?;
    let plan = estimate(flags, resolved, true)?;
    let shown = settings::shown(given, resolved);
    if as_json {
        let mut object = serde_json::to_value(&plan)?;
        object["settings"] = settings_object(&shown);
        print_line(&object.to_string())?;
        return Ok(exit::DONE);
    }
    print_settings(&shown)?;
    print_line("")?;
    print(&plan)?;
    Ok(exit::DONE)
}

/// The plan of a run on this machine.
///
/// Where the data set need not be at hand, middling lengths stand in for it.
pub(crate) fn estimate(
    flags: &RunFlags,
    resolved: &Resolved,
    must_have_data: bool,
) -> anyhow::Result<WorkPlan> {
    let config = &resolved.config;
    if must_have_data && ModelFolder::is_here(iterate::reward_base(config)) {
        iterate::check(config, &*resolved.task, &*resolved.reward, flags.data.as_deref())?;
    }
    let (device, _) = machine::device(&flags.device)?;
    let count = |task: &dyn Task, split: Split, wanted: usize| -> anyhow::Result<Vec<Problem>> {
        let limit = if wanted > 0 { Some(wanted) } else { None };
        let endless = matches!(task.source(split)?, sipf_plugin::Source::Generated);
        let limit = if endless { Some(limit.unwrap_or(LOOKED_AT).min(LOOKED_AT)) } else { limit };
        let options = dataset::DataOptions { data: flags.data.clone(), limit, skip_bad_rows: true };
        Ok(dataset::load(task, split, &options)?.problems)
    };
    let count = |task: &dyn Task, split: Split, wanted: usize| match must_have_data {
        true => count(task, split, wanted),
        false => Ok(count(task, split, wanted).unwrap_or_default()),
    };
    let wanted = config.limit.max(config.sft.rows);
    let train = count(&*resolved.task, Split::Train, if config.limit == 0 { 0 } else { wanted })?;
    let asked = |task: &dyn Task, wanted: usize| -> anyhow::Result<usize> {
        match matches!(task.source(Split::Test)?, sipf_plugin::Source::Generated) {
            true => Ok(wanted),
            false => Ok(count(task, Split::Test, wanted)?.len()),
        }
    };
    let test = asked(&*resolved.task, config.evaluate.problems)?;
    let mut transfer = 0;
    for task in &resolved.transfer {
        transfer += asked(&**task, config.evaluate.transfer_problems)?;
    }
    let bytes = if device.is_cpu() { 4.0 } else { 2.0 };
    let weights = requirements::weights(resolved, bytes);
    let rate = machine::flops_per_second(&device)?;
    Ok(iterate::plan(config, &*resolved.task, &train, test, transfer, weights, rate)?)
}

fn print(plan: &WorkPlan) -> anyhow::Result<()> {
    print_line(&format!(
        "{:<18} {:>9} {:>12} {:>10} {:>10} {:>9} {:>9}",
        "stage", "rows", "completions", "tokens", "FLOPs", "disk", "time"
    ))?;
    for stage in plan.stages.iter().chain([&plan.total]) {
        print_line(&format!(
            "{:<18} {:>9} {:>12} {:>10} {:>10} {:>9} {:>9}",
            stage.name,
            short(stage.rows),
            short(stage.completions),
            short(stage.tokens),
            short(stage.flops),
            format!("{}B", short(stage.disk_bytes)),
            duration(stage.seconds)
        ))?;
    }
    print_line(&format!(
        "memory at the worst moment {}B; {}FLOP/s measured now; completions are the most that the settings allow",
        short(plan.memory_bytes),
        short(plan.flops_per_second)
    ))
}

/// A number with three digits and a unit.
fn short(value: f64) -> String {
    let units = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => {
            format!("{:.3}", value / size)
                .chars()
                .take(4)
                .collect::<String>()
                .trim_end_matches('.')
                .to_owned()
                + unit
        }
        None => format!("{value:.0}"),
    }
}

/// Seconds as a person says them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.0, 999.0, 1500.0, 12_345.0, 2.5e12].map(short).to_vec();
        assert_eq!(shown, ["0", "999", "1.50k", "12.3k", "2.50T"]);
        assert_eq!(duration(45.0), "45 s");
        assert_eq!(duration(600.0), "10 min");
    }
}
