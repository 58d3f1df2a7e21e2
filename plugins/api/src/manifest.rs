//! The handshake: what a plugin exports and what it was built against.
//!
//! Two numbers are kept apart: the ABI (four functions, expected never to change) and the API (the messages,
//! which only grow within a major version, and do not follow this crate's version).

use serde::{Deserialize, Serialize};

use crate::card::{RewardCard, TaskCard};

/// Version of the message schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Api {
    /// Changes when an old plugin could misunderstand a new host, or the other way round.
    pub major: u32,
    /// Grows with every added call or field.
    pub minor: u32,
}

/// The schema of this crate.
pub const API: Api = Api { major: 1, minor: 0 };

impl Default for Api {
    fn default() -> Self {
        API
    }
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The reply to the call `manifest`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Schema the plugin was built against.
    pub api: Api,
    /// Optional extras; unknown ones are ignored.
    #[serde(default)]
    pub features: Vec<String>,
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// The tasks it exports.
    #[serde(default)]
    pub tasks: Vec<TaskCard>,
    /// The reward models it exports.
    #[serde(default)]
    pub rewards: Vec<RewardCard>,
    /// `unwind` or `abort`: a native plugin that aborts on panic is refused, since one panic would end the run.
    #[serde(default)]
    pub panic: String,
    /// Compiler and target; shown, never compared.
    #[serde(default)]
    pub built_with: String,
}

impl Manifest {
    /// Whether this host can use the plugin: the API's major version, and names that are well formed and unique.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn check(&self) -> crate::Result<()> {
        if self.api.major != API.major {
            return Err(crate::Error::new(format!(
                "built against plugin API {}, this sipf speaks {API}: rebuild the plugin",
                self.api
            )));
        }
        let mut names: Vec<&str> = self
            .tasks
            .iter()
            .map(|t| t.name.as_str())
            .chain(self.rewards.iter().map(|r| r.name.as_str()))
            .collect();
        if names.is_empty() {
            return Err(crate::Error::new("exports neither a task nor a reward model"));
        }
        if let Some(bad) = names.iter().find(|name| !well_formed(name)) {
            return Err(crate::Error::new(format!(
                "name {bad:?}: use small letters, digits, dots and hyphens, beginning with a letter or digit"
            )));
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(crate::Error::new(format!("exports {:?} twice", pair[0]))),
            None => Ok(()),
        }
    }
}

/// Whether a plugin may be called this: `[a-z0-9][a-z0-9.-]*`.
pub fn well_formed(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.chars().next().is_some_and(plain) && name.chars().all(|c| plain(c) || c == '.' || c == '-')
}
