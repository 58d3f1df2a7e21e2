//! The Hub's cache and variables, and the folders of plugins.

use std::path::Path;

use sipf_core::hub::Hub;
use sipf_plugin_host::discover::{self, Found};

use super::Check;
use crate::open::PluginFlags;

pub(super) fn checks(plugins: &PluginFlags) -> anyhow::Result<Vec<Check>> {
    let hub = Hub::from_environment();
    let mut checks = vec![cache(&hub), variables(&hub)];
    checks.extend(discover::folders(&plugins.plugin_dir).iter().map(|folder| plugin_folder(folder)));
    Ok(checks)
}

fn cache(hub: &Hub) -> Check {
    let folder = hub.cache();
    let shown = folder.display();
    if !folder.exists() {
        let above = folder.ancestors().find(|place| place.exists());
        return match above.is_none_or(|place| place.is_dir()) {
            true => Check::good("hub cache", format!("{shown} (not there yet)")),
            false => Check::broken("hub cache", format!("{shown}: cannot be made there; set HF_HOME")),
        };
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Check::broken("hub cache", format!("{shown}: is no folder that can be read; set HF_HOME"));
    };
    let kept = |kind: &str, names: &[String]| names.iter().filter(|name| name.starts_with(kind)).count();
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let writable = match tempfile::tempfile_in(folder) {
        Ok(_) => "",
        Err(_) => ", read-only: nothing new can be downloaded into it",
    };
    let (models, datasets) = (kept("models--", &names), kept("datasets--", &names));
    Check::good("hub cache", format!("{shown}: {models} models, {datasets} data sets{writable}"))
}

fn variables(hub: &Hub) -> Check {
    let how = match hub.is_offline() {
        true => "offline (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set): only what is cached".to_owned(),
        false => format!("downloads from {}", hub.endpoint()),
    };
    let token = if hub.has_token() { "with a token" } else { "without a token" };
    Check::good("hub", format!("{how}, {token}"))
}

fn plugin_folder(folder: &Path) -> Check {
    let found = discover::plugins_in(folder);
    let broken: Vec<String> = found.iter().filter_map(why_broken).collect();
    let shown = folder.display();
    match (broken.is_empty(), folder.is_dir()) {
        (false, _) => Check::broken("plugins", format!("{shown}: {}", broken.join("; "))),
        (true, true) => Check::good("plugins", format!("{shown}: {} installed", found.len())),
        (true, false) => Check::good("plugins", format!("{shown}: none (no such folder)")),
    }
}

fn why_broken(found: &Found) -> Option<String> {
    found.file().err().map(|error| error.to_string())
}
