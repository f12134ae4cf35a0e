//! What the flags say instead of the configuration.

use crate::audit::DecisionLogOutput;
use crate::cli::args::ServeOptions;
use crate::config::Overrides;

/// The flags that replace fields of the configuration.
pub(super) fn overrides(options: &ServeOptions) -> Overrides {
    Overrides {
        image_store: options.image_store.clone(),
        kubeconfig: options.kubeconfig.clone(),
        listen: options.listen,
        probes: options.probes,
        page: options.page,
        tls: options.tls_cert.clone().zip(options.tls_key.clone()),
        cert_dir: options.cert_dir.clone(),
        cert_names: options.cert_names.clone(),
        decision_log: options.decision_log.as_deref().map(log_output),
        ..Overrides::default()
    }
}

/// `-`, `off`, or a file; `none` is the former name of `off`.
fn log_output(flag: &str) -> DecisionLogOutput {
    match flag {
        "-" => DecisionLogOutput::Stdout,
        "off" | "none" => DecisionLogOutput::Off,
        path => DecisionLogOutput::File(path.into()),
    }
}
