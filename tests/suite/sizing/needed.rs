//! The rule `under-floor` goes by the whole file of a program that its container compiles, and by the processors that it has for that.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmgate::image::{ImageFacts, ImageKind, ModuleFacts, Packaging, Program, module};
use wasmgate::inspection::LookupResult;
use wasmgate::runtime::Runtimes;

use crate::support::case::input_under;
use crate::support::oci::fixtures;
use crate::support::{facts, policies};

fn lookup(module: ModuleFacts, packaging: Packaging) -> LookupResult {
    let facts = ImageFacts { modules: vec![module], ..facts::image("program", ImageKind::Module) };
    let program = Program::Wasm { kind: ImageKind::Module, packaging, modules: vec![0] };
    LookupResult::Known { facts: Arc::new(facts), program }
}

/// What the rule says of a program under these limits.
async fn said(module: &ModuleFacts, packaging: Packaging, limits: &Value) -> Vec<String> {
    let rules = policies::baseline().await;
    let container =
        json!({ "name": "app", "image": "registry.test/app:1", "resources": { "limits": limits } });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "orders" },
        "spec": { "runtimeClassName": "wasmtime", "containers": [container] } });
    let lookups = vec![lookup(module.clone(), packaging)];
    let input = input_under(&Runtimes::default(), &pod, lookups, Vec::new(), &BTreeMap::default());
    let evaluation = rules.evaluate(&input).await;
    assert_eq!(evaluation.failures, []);
    let found = evaluation.violations.into_iter().filter(|violation| violation.rule == "under-floor");
    found.map(|violation| violation.message).collect()
}

/// A command with so many bytes of debug information.
fn with_debug_information(bytes: u32) -> ModuleFacts {
    let name = b".debug_info";
    let mut command = fixtures::command();
    command.push(0);
    // The size in the five bytes that a number of 32 bits may take.
    let mut size = bytes + 1 + u32::try_from(name.len()).unwrap();
    for _ in 0..4 {
        command.push(u8::try_from(size & 0x7f).unwrap() | 0x80);
        size >>= 7;
    }
    command.push(u8::try_from(size).unwrap());
    command.push(u8::try_from(name.len()).unwrap());
    command.extend(name);
    command.resize(command.len() + usize::try_from(bytes).unwrap(), 0);
    module::read(&command, "/app.wasm").unwrap()
}

#[tokio::test]
async fn debug_information_counts_where_the_container_compiles() {
    let large = with_debug_information(45 << 20);
    assert!(large.size_bytes > 45 << 20 && large.code_bytes < 100, "{large:?}");
    let (file, layer) = (Packaging::RootFilesystem, Packaging::Layers);
    let limits = |memory: &str| json!({ "memory": memory, "cpu": "1" });
    let warned = said(&large, file, &limits("32Mi")).await;
    assert!(
        matches!(&warned[..], [only] if only.contains("32Mi") && only.contains("about 63Mi")),
        "{warned:?}"
    );
    assert_eq!(said(&large, file, &limits("63Mi")).await, [""; 0]);
    assert_eq!(said(&large, layer, &limits("32Mi")).await, [""; 0], "a layer is compiled without it");
    assert_eq!(said(&with_debug_information(1 << 20), file, &limits("32Mi")).await, [""; 0]);
}

/// A Go program: it needs 100Mi with two processors, and 4Mi more with each further one, up to sixteen.
#[tokio::test]
async fn further_processors_count_where_the_container_compiles() {
    let go = ModuleFacts { code_bytes: 1_681_331, memory_bytes: 2_555_904, ..facts::module() };
    let file = Packaging::RootFilesystem;
    for (cpu, needed) in [
        (Some("200m"), 100),
        (Some("2"), 100),
        (Some("2500m"), 104),
        (Some("16"), 156),
        (Some("64"), 156),
        (None, 156),
    ] {
        let limits = |memory: u32| {
            let mut limits = json!({ "memory": format!("{memory}Mi") });
            if let Some(cpu) = cpu {
                limits["cpu"] = json!(cpu);
            }
            limits
        };
        let warned = said(&go, file, &limits(needed - 1)).await;
        assert!(
            matches!(&warned[..], [only] if only.contains(&format!("about {needed}Mi"))),
            "{cpu:?}: {warned:?}"
        );
        assert_eq!(said(&go, file, &limits(needed)).await, [""; 0], "{cpu:?}");
    }
}
