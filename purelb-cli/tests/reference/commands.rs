//! Command lines, out of what parses them.

use clap::{Arg, Command};

use super::row;

/// What is told of a program: its arguments, and those of its subcommands.
pub(crate) fn section(mut program: Command) -> String {
    program.build();
    let mut section = format!("## `{}`\n\n", program.get_name());
    describe(&program, &mut section);
    section
}

fn describe(command: &Command, section: &mut String) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    section.push_str(&format!("{}.\n\n", about.trim_end_matches('.')));
    let own: Vec<_> = command.get_arguments().filter(|argument| is_told(argument)).collect();
    if !own.is_empty() {
        section.push_str("| argument | environment | default | meaning |\n|---|---|---|---|\n");
        section.extend(own.into_iter().map(argument));
        section.push('\n');
    }
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        let usage = child.get_bin_name().unwrap_or_else(|| child.get_name()).to_owned();
        section.push_str(&format!("### `{usage}`\n\n"));
        describe(child, section);
    }
}

/// All but what every program has.
fn is_told(argument: &Arg) -> bool {
    !["help", "version"].contains(&argument.get_id().as_str()) && !argument.is_hide_set()
}

fn argument(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default();
    let values: Vec<_> = values.iter().map(|name| name.to_string()).collect();
    let takes_value = argument.get_action().takes_values();
    let name = match (argument.get_short(), argument.get_long()) {
        (_, None) => format!("`{}`", values.join(" ")),
        (None, Some(long)) => format!("`--{long}`"),
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}`"),
    };
    let environment = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
    let defaults = argument.get_default_values().iter().filter(|_| takes_value);
    let defaults: Vec<_> =
        defaults.map(|value| value.to_string_lossy()).filter(|it| !it.is_empty()).collect();
    let default =
        if defaults.is_empty() { String::new() } else { format!("`{}`", defaults.join(" ")) };
    let mut meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let choices: Vec<_> = argument.get_possible_values();
    let choices = choices.iter().filter(|_| takes_value).map(|it| format!("`{}`", it.get_name()));
    let choices = choices.collect::<Vec<_>>().join(", ");
    if !choices.is_empty() {
        meaning = format!("{meaning}: {choices}");
    }
    row(&[&name, &environment.unwrap_or_default(), &default, &meaning])
}
