//! `sipf completions`: shell completions and the man page, made from the flags themselves.

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};

use crate::exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to print
    shell: Target,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Zsh,
    /// The man page, in roff
    Man,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    use clap_complete::Shell;
    let mut command = super::Arguments::command();
    let mut text = Vec::new();
    let shell = match args.shell {
        Target::Bash => Shell::Bash,
        Target::Elvish => Shell::Elvish,
        Target::Fish => Shell::Fish,
        Target::PowerShell => Shell::PowerShell,
        Target::Zsh => Shell::Zsh,
        Target::Man => {
            clap_mangen::Man::new(command).render(&mut text)?;
            return written(&text);
        }
    };
    clap_complete::generate(shell, &mut command, "sipf", &mut text);
    written(&text)
}

fn written(text: &[u8]) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let done = out.write_all(text).and_then(|()| out.flush());
    done.map_err(|error| exit::unwritten(error, "standard output"))?;
    Ok(exit::DONE)
}
