//! Names to tasks and reward models. Nothing is loaded until it is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sipf_plugin::{RewardModel, Task};

use crate::discover::{self, Found};
use crate::error::{Error, Result};
use crate::foreign::Library;
use crate::open::open;
use crate::probe::Prober;
use crate::transport::Kind;

/// Puts a built-in before a plugin of the same name: `builtin:NAME`.
pub const BUILTIN: &str = "builtin:";

/// Everything that can be named.
pub struct Registry {
    tasks: Vec<Arc<dyn Task>>,
    rewards: Vec<Arc<dyn RewardModel>>,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    prober: Prober,
}

/// One line of `sipf plugin list`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    /// The export's name, or the folder's where it is broken.
    pub name: String,
    /// `task` or `reward`; empty where it is broken.
    pub exports: String,
    /// How it is loaded.
    pub kind: Option<Kind>,
    /// Message schema.
    pub api: String,
    /// Where it lies.
    pub place: String,
    /// Why it is broken.
    pub broken: Option<String>,
}

impl Registry {
    /// Built-ins, the folders searched for plugins, and how native ones are probed.
    pub fn new(
        tasks: Vec<Arc<dyn Task>>,
        rewards: Vec<Arc<dyn RewardModel>>,
        folders: Vec<PathBuf>,
        prober: Prober,
    ) -> Self {
        Self { tasks, rewards, folders, files: Vec::new(), prober }
    }

    /// Adds a plugin file: its exports can be named like built-ins.
    pub fn add_file(&mut self, path: impl Into<PathBuf>) {
        self.files.push(path.into());
    }

    /// The task of this name or file.
    ///
    /// # Errors
    /// When there is none, there are two, or the file exports several and none was named.
    pub fn task(&self, name: &str) -> Result<Arc<dyn Task>> {
        let builtin = |name: &str| self.tasks.iter().find(|task| task.card().name == name).cloned();
        let known = || self.tasks.iter().map(|task| task.card().name).collect();
        self.find("task", name, &builtin, &known, &|library| {
            library
                .manifest()
                .tasks
                .iter()
                .filter_map(|card| Some((card.name.clone(), library.task(&card.name)?)))
                .collect()
        })
    }

    /// The reward model of this name or file.
    ///
    /// # Errors
    /// When there is none, there are two, or the file exports several and none was named.
    pub fn reward(&self, name: &str) -> Result<Arc<dyn RewardModel>> {
        let builtin = |name: &str| self.rewards.iter().find(|reward| reward.card().name == name).cloned();
        let known = || self.rewards.iter().map(|reward| reward.card().name).collect();
        self.find("reward model", name, &builtin, &known, &|library| {
            let cards = library.manifest().rewards.iter();
            cards.filter_map(|card| Some((card.name.clone(), library.reward(&card.name)?))).collect()
        })
    }

    /// Opens a plugin file.
    ///
    /// # Errors
    /// When it is none, or refuses.
    pub fn open(&self, path: &Path) -> Result<Arc<Library>> {
        open(path, &self.prober)
    }

    fn find<T: Clone>(
        &self,
        what: &str,
        name: &str,
        builtin: &dyn Fn(&str) -> Option<T>,
        known: &dyn Fn() -> Vec<String>,
        exports: &dyn Fn(&Arc<Library>) -> Vec<(String, T)>,
    ) -> Result<T> {
        if is_path(name) {
            let mut found = exports(&self.open(Path::new(name))?);
            return match found.len() {
                1 => Ok(found.remove(0).1),
                0 => Err(Error::refused(name, format!("exports no {what}"))),
                _ => {
                    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
                    Err(Error::refused(
                        name,
                        format!(
                            "exports several: name one of {} and give the file with --plugin",
                            names.join(", ")
                        ),
                    ))
                }
            };
        }
        if let Some(name) = name.strip_prefix(BUILTIN) {
            return builtin(name).ok_or_else(|| Error::Unknown(format!("no built-in {what} {name:?}")));
        }
        for file in &self.files {
            if let Some((_, found)) =
                exports(&self.open(file)?).into_iter().find(|(export, _)| export == name)
            {
                return Ok(found);
            }
        }
        let installed: Vec<Found> =
            self.installed().into_iter().filter(|found| found.exports(name)).collect();
        let builtin = builtin(name);
        let mut places: Vec<String> =
            installed.iter().map(|found| found.folder.display().to_string()).collect();
        places.extend(builtin.as_ref().map(|_| format!("{BUILTIN}{name}")));
        match (builtin, installed.first(), places.len()) {
            (Some(builtin), None, _) => Ok(builtin),
            (None, Some(found), 1) => {
                let library = self.open(&found.file()?)?;
                let mut exports = exports(&library).into_iter().filter(|(export, _)| export == name);
                exports.next().map(|(_, found)| found).ok_or_else(|| {
                    Error::refused(
                        library.path(),
                        format!("exports no {what} {name:?}, though its sidecar says so"),
                    )
                })
            }
            (None, None, _) => {
                let mut names = known();
                names.sort();
                Err(Error::Unknown(format!(
                    "unknown {what} {name:?}; there are {}; a plugin file works too",
                    names.join(", ")
                )))
            }
            _ => Err(Error::Unknown(format!(
                "{what} {name:?} is there more than once, give a path: {}",
                places.join(", ")
            ))),
        }
    }

    fn installed(&self) -> Vec<Found> {
        self.folders.iter().flat_map(|folder| discover::plugins_in(folder)).collect()
    }

    /// Everything that can be named. Of plugins, only files that were added are loaded.
    pub fn list(&self) -> Vec<Listed> {
        let api = sipf_plugin::API.to_string();
        let builtin = |name: String, exports: &str| Listed {
            name,
            exports: exports.into(),
            kind: Some(Kind::Builtin),
            api: api.clone(),
            place: "builtin".into(),
            broken: None,
        };
        let mut list: Vec<Listed> = self.tasks.iter().map(|task| builtin(task.card().name, "task")).collect();
        list.extend(self.rewards.iter().map(|reward| builtin(reward.card().name, "reward")));
        for library in self.files.iter().filter_map(|file| self.open(file).ok()) {
            let manifest = library.manifest();
            let tasks = manifest.tasks.iter().map(|card| (&card.name, "task"));
            let rewards = manifest.rewards.iter().map(|card| (&card.name, "reward"));
            list.extend(tasks.chain(rewards).map(|(name, exports)| Listed {
                name: name.clone(),
                exports: exports.into(),
                kind: Some(library.kind()),
                api: manifest.api.to_string(),
                place: library.path().display().to_string(),
                broken: None,
            }));
        }
        for found in self.installed() {
            let place = found.folder.display().to_string();
            let broken = found.file().err().map(|error| error.to_string());
            match &found.sidecar {
                Err(why) => list.push(Listed {
                    name: found.folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    exports: String::new(),
                    kind: None,
                    api: String::new(),
                    place,
                    broken: Some(why.clone()),
                }),
                Ok(sidecar) => {
                    let tasks = sidecar.tasks.iter().map(|name| (name, "task"));
                    for (name, exports) in tasks.chain(sidecar.rewards.iter().map(|name| (name, "reward"))) {
                        list.push(Listed {
                            name: name.clone(),
                            exports: exports.into(),
                            kind: Some(sidecar.kind),
                            api: sidecar.api.to_string(),
                            place: place.clone(),
                            broken: broken.clone(),
                        });
                    }
                }
            }
        }
        list
    }

    /// The built-in tasks.
    pub fn builtin_tasks(&self) -> &[Arc<dyn Task>] {
        &self.tasks
    }
}

/// Whether a name is meant as a file.
pub fn is_path(name: &str) -> bool {
    name.contains(['/', '\\']) || Kind::of(Path::new(name)).is_some()
}
