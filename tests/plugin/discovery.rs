//! How plugins are found by name: nothing is loaded by being there, nothing is loaded twice or changed unseen.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sipf_tests::{run, run_well, sipf, workspace};

use super::native;

/// A `sipf` that sees only plugins of this folder: as the data home, and as the working folder.
fn at(folder: &Path) -> Command {
    let mut command = sipf();
    command.current_dir(folder).env("XDG_DATA_HOME", folder.join("home"));
    command
}

fn listed(folder: &Path) -> Vec<Value> {
    let text = run_well(at(folder).args(["plugin", "list", "--json"]));
    let list: Value = serde_json::from_str(&text).unwrap();
    list["plugins"].as_array().unwrap().iter().filter(|entry| entry["place"] != "builtin").cloned().collect()
}

fn install(folder: &Path) -> Command {
    let mut command = at(folder);
    command.args(["plugin", "install"]).arg(workspace().join("tests/fixtures/sums.py"));
    command
}

#[test]
fn an_installed_plugin_is_named_listed_and_guarded() {
    let folder = tempfile::tempdir().unwrap();
    assert!(listed(folder.path()).is_empty());
    let text = run_well(&mut install(folder.path()));
    let place = folder.path().join("home/sipf/plugins/sums");
    assert!(text.contains(&place.display().to_string()), "{text}");
    let list = listed(folder.path());
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0]["name"], &list[0]["kind"], &list[0]["broken"]),
        (&"sums".into(), &"python".into(), &Value::Null)
    );
    let verify =
        |folder: &Path| run(at(folder).args(["verify", "--task", "sums", "--reference", "--limit", "3"]));
    assert_eq!(verify(folder.path()).status, Some(0));
    // Installing again replaces it.
    run_well(&mut install(folder.path()));
    assert_eq!(listed(folder.path()).len(), 1);
    // A file that changed since is not run.
    let file = place.join("sums.py");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "\n# changed\n").unwrap();
    let ran = verify(folder.path());
    assert!(ran.status == Some(2) && ran.stderr.contains("changed since it was installed"), "{}", ran.stderr);
    assert!(listed(folder.path())[0]["broken"].as_str().unwrap().contains("sha256"));
    // Nor is one whose sidecar leads elsewhere.
    let sidecar = std::fs::read_to_string(place.join("plugin.toml")).unwrap();
    std::fs::write(place.join("plugin.toml"), sidecar.replace("sums.py", "../sums.py")).unwrap();
    assert!(listed(folder.path())[0]["broken"].as_str().unwrap().contains("leads out of the folder"));
}

#[test]
fn a_name_that_is_there_twice_asks_for_a_path() {
    let folder = tempfile::tempdir().unwrap();
    run_well(&mut install(folder.path()));
    run_well(install(folder.path()).args(["--into", "plugins"]));
    let show = |name: &str| run(at(folder.path()).args(["task", "show", name]));
    let ran = show("sums");
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("more than once") && ran.stderr.contains("home/sipf"), "{}", ran.stderr);
    assert_eq!(show("plugins/sums/sums.py").status, Some(0));
    // A plugin may not take a built-in's name unseen; the built-in can still be meant.
    let theirs = folder.path().join("arith.py");
    let source = std::fs::read_to_string(workspace().join("tests/fixtures/sums.py")).unwrap();
    std::fs::write(&theirs, source.replace("\"name\": \"sums\"", "\"name\": \"arith\"")).unwrap();
    run_well(at(folder.path()).args(["plugin", "install", "arith.py"]));
    let ran = show("arith");
    assert!(ran.status == Some(2) && ran.stderr.contains("builtin:arith"), "{}", ran.stderr);
    assert!(run_well(at(folder.path()).args(["task", "show", "builtin:arith"])).contains("noisy teacher"));
}

#[test]
fn nothing_in_a_plugins_folder_runs_by_being_there() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("plugins/trap");
    std::fs::create_dir_all(&place).unwrap();
    let library = native("aborts_at_load");
    let name = library.file_name().unwrap().to_string_lossy().into_owned();
    std::fs::copy(&library, place.join(&name)).unwrap();
    let sum = sipf_plugin_host::discover::sha256_of(&library).unwrap();
    let sidecar = format!(
        "name = \"trap\"\nversion = \"1\"\nkind = \"native\"\nfile = \"{name}\"\nsha256 = \"{sum}\"\n\
         tasks = [\"trap\"]\n[api]\nmajor = 1\nminor = 0\n"
    );
    std::fs::write(place.join("plugin.toml"), sidecar).unwrap();
    assert_eq!(listed(folder.path())[0]["name"], "trap");
    run_well(at(folder.path()).args(["task", "list"]));
    run_well(at(folder.path()).args(["task", "show", "arith"]));
    let ran = run(at(folder.path()).args(["task", "show", "trap"]));
    assert!(ran.status == Some(2) && ran.stderr.contains("crashed the process"), "{}", ran.stderr);
}

#[test]
fn a_plugin_file_lends_its_names_to_a_command() {
    let mut show = sipf();
    show.args(["task", "show", "every-call", "--plugin"]).arg(native("every_call"));
    assert!(run_well(&mut show).contains("answers every call"));
    let ran = run(sipf().args(["task", "show"]).arg(native("built_in")));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("exports several") && ran.stderr.contains("gsm8k"), "{}", ran.stderr);
}

#[test]
fn new_check_and_install_print_one_json_object_whatever_comes_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let one = |words: &[&str], status: i32| -> Value {
        let ran = run(at(folder.path()).args(words).arg("--json"));
        assert_eq!(ran.status, Some(status), "{words:?}: {}{}", ran.stdout, ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {}", ran.stdout))
    };
    std::fs::write(folder.path().join("broken.py"), "def task(:\n").unwrap();
    std::fs::write(folder.path().join("text.txt"), "x").unwrap();
    for file in ["./broken.py", "./text.txt"] {
        for command in ["check", "install"] {
            let told = one(&["plugin", command, file], 2);
            assert_eq!(told["passed"], false);
            assert!(told["error"].as_str().is_some_and(|why| why.contains(&file[2..])), "{told}");
        }
    }
    let sums = workspace().join("tests/fixtures/sums.py").display().to_string();
    assert_eq!(one(&["plugin", "check", &sums], 0)["passed"], true);
    let told = one(&["plugin", "install", &sums], 0);
    assert!(told["installed"].is_string() && told["exports"][0]["findings"].is_array(), "{told}");
    let told = one(&["plugin", "new", "word-sums"], 0);
    assert!(folder.path().join(told["folder"].as_str().unwrap()).is_dir(), "{told}");
}
