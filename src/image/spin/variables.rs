//! The variables that an application reads, by their names in templates.

use crate::image::malformed::Malformed;

/// Most hosts, variables, stores, databases and models that an application hands to its components, each of which is judged for
/// every container that starts it. Applications have a few dozen.
pub(super) const MAX_HANDED: usize = 4096;

/// What the names of variables must not begin with. The shim gives each variable of an application its value under this prefix, one
/// after the other (`spinframework/containerd-shim-spin:containerd-shim-spin/src/utils.rs`,
/// `configure_application_variables_from_environment_variables`). So a variable of such a name takes the value that another one was
/// given, be it a secret.
const VARIABLE_PREFIX: &str = "spin_variable_";

/// Refuses a variable that may get the value of another one.
pub(super) fn check_variable(name: &str) -> Result<(), Malformed> {
    if name.to_ascii_lowercase().starts_with(VARIABLE_PREFIX) {
        return Err(Malformed::new(format!(
            "it reads the variable `{name}`, which may get the value of another one: rename it, so that it does not begin with `{VARIABLE_PREFIX}`"
        )));
    }
    Ok(())
}

/// Names between `{{` and `}}`; an unclosed one extends to the end.
pub(super) fn template_variables(text: &str) -> Vec<String> {
    let pieces = text.split("{{").skip(1);
    pieces.map(|piece| piece.split("}}").next().unwrap_or(piece).trim().to_string()).collect()
}
