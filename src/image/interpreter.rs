//! Recognises the interpreter in a binary by what its bytes say: the toolchains that the `producers` section names
//! (`WebAssembly/tool-conventions:ProducersSection.md`), the functions that an engine exports to its own libraries, and
//! the names that a linker left. The interpreted program is data, so the imports show what the interpreter's library
//! can do, not what the program does.
//!
//! All of these can be stripped or forged. They inform people and rules, and grant nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasmparser::{CustomSectionReader, KnownCustom, Name, NameSectionReader, ProducersSectionReader};

use super::Evidence;
use super::malformed::short;
use crate::text;

/// An interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterpreterKind {
    /// CPython, as in componentize-py and the WASI builds of Python.
    Cpython,
    /// SpiderMonkey, as in StarlingMonkey, which ComponentizeJS uses.
    Spidermonkey,
    /// QuickJS, as in Javy.
    Quickjs,
    /// The reference interpreter of Ruby.
    Cruby,
    /// PHP's own engine.
    Php,
    /// The reference interpreter of Lua.
    Lua,
    /// Perl 5.
    Perl,
}

impl InterpreterKind {
    /// The name in its makers' spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpython => "CPython",
            Self::Spidermonkey => "SpiderMonkey",
            Self::Quickjs => "QuickJS",
            Self::Cruby => "CRuby",
            Self::Php => "PHP",
            Self::Lua => "Lua",
            Self::Perl => "Perl",
        }
    }

    /// The language that it runs.
    pub const fn language(self) -> &'static str {
        match self {
            Self::Cpython => "Python",
            Self::Spidermonkey | Self::Quickjs => "JavaScript",
            Self::Cruby => "Ruby",
            Self::Php => "PHP",
            Self::Lua => "Lua",
            Self::Perl => "Perl",
        }
    }
}

/// An interpreter in a binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interpreter {
    /// Which one.
    pub engine: InterpreterKind,
    /// Where it was found, at most one item for each sign; never empty.
    pub evidence: Vec<Evidence>,
}

/// Toolchains that build an interpreter into their output, as named under `processed-by`, in lower case.
const TOOLCHAINS: [(&str, InterpreterKind); 3] = [
    ("componentize-py", InterpreterKind::Cpython),
    ("componentizejs", InterpreterKind::Spidermonkey),
    ("javy", InterpreterKind::Quickjs),
];

/// Functions of the engines' own embedding interfaces, which no other program defines. Name sections have C++ names as
/// the linker demangled them, so a name also matches up to its list of parameters.
const FUNCTIONS: [(&str, InterpreterKind); 17] = [
    ("PyInit_componentize_py_runtime", InterpreterKind::Cpython),
    ("Py_GetBuildInfo", InterpreterKind::Cpython),
    ("Py_InitializeFromConfig", InterpreterKind::Cpython),
    ("_PyEval_EvalFrameDefault", InterpreterKind::Cpython),
    ("JS_NewContext(unsigned int, JSRuntime*)", InterpreterKind::Spidermonkey),
    ("_Z13JS_NewContextjP9JSRuntime", InterpreterKind::Spidermonkey),
    ("js::RunScript", InterpreterKind::Spidermonkey),
    ("JS_NewRuntime2", InterpreterKind::Quickjs),
    ("JS_CallInternal", InterpreterKind::Quickjs),
    ("ruby_init", InterpreterKind::Cruby),
    ("rb_eval_string_protect", InterpreterKind::Cruby),
    ("php_request_startup", InterpreterKind::Php),
    ("zend_execute_scripts", InterpreterKind::Php),
    ("lua_newstate", InterpreterKind::Lua),
    ("luaV_execute", InterpreterKind::Lua),
    ("perl_construct", InterpreterKind::Perl),
    ("Perl_runops_standard", InterpreterKind::Perl),
];

/// Modules from which a program imports its interpreter (`javy:README.md`, dynamic linking).
const PROVIDERS: [(&str, InterpreterKind); 2] =
    [("javy_quickjs_provider", InterpreterKind::Quickjs), ("javy-default-plugin", InterpreterKind::Quickjs)];

/// The signs found so far in all units of a binary.
#[derive(Debug, Default)]
pub(super) struct Signs(BTreeMap<InterpreterKind, Vec<Evidence>>);

impl Signs {
    /// A custom section. A malformed one is not an error, because runtimes ignore it too.
    pub(super) fn custom(&mut self, section: &CustomSectionReader<'_>) {
        match section.as_known() {
            KnownCustom::Producers(fields) => drop(self.producers(fields)),
            KnownCustom::Name(names) => drop(self.names(names)),
            _ => {}
        }
    }

    fn producers(&mut self, fields: ProducersSectionReader<'_>) -> wasmparser::Result<()> {
        for field in fields {
            let field = field?;
            if field.name != "processed-by" {
                continue;
            }
            for tool in field.values {
                let tool = tool?;
                let known = TOOLCHAINS.iter().find(|(name, _)| tool.name.eq_ignore_ascii_case(name));
                if let Some((_, engine)) = known {
                    let value = format!("{} {}", tool.name, tool.version);
                    self.saw(*engine, "producers section, processed-by", value.trim_end());
                }
            }
        }
        Ok(())
    }

    fn names(&mut self, names: NameSectionReader<'_>) -> wasmparser::Result<()> {
        for name in names {
            if let Name::Function(functions) = name? {
                for function in functions {
                    self.function("name section", function?.name);
                }
            }
        }
        Ok(())
    }

    /// A function that a unit exports.
    pub(super) fn export(&mut self, name: &str) {
        self.function("export", name);
    }

    /// A module that a unit imports from.
    pub(super) fn import(&mut self, module: &str) {
        if let Some((_, engine)) = PROVIDERS.iter().find(|(name, _)| module.starts_with(name)) {
            self.saw(*engine, "import", module);
        }
    }

    fn function(&mut self, seen: &str, name: &str) {
        let is = |known: &str| {
            name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('('))
        };
        if let Some((known, engine)) = FUNCTIONS.iter().find(|(known, _)| is(known)) {
            self.saw(*engine, seen, known);
        }
    }

    fn saw(&mut self, engine: InterpreterKind, seen: &str, value: &str) {
        let list = self.0.entry(engine).or_default();
        let evidence = Evidence { seen: seen.to_string(), value: text::visible(&short(value)).into_owned() };
        // A forged section may repeat itself; no engine has as many signs as the tables together.
        if list.len() < FUNCTIONS.len() && !list.contains(&evidence) {
            list.push(evidence);
        }
    }

    /// The interpreters, by engine.
    pub(super) fn found(self) -> Vec<Interpreter> {
        self.0.into_iter().map(|(engine, evidence)| Interpreter { engine, evidence }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::module;
    use super::*;

    fn found(text: &str) -> Vec<(InterpreterKind, Vec<(String, String)>)> {
        let facts = module::read(&wat::parse_str(text).unwrap(), "t").unwrap();
        let pairs =
            |found: &Interpreter| found.evidence.iter().map(|e| (e.seen.clone(), e.value.clone())).collect();
        facts.interpreters.iter().map(|found| (found.engine, pairs(found))).collect()
    }

    fn sign(seen: &str, value: &str) -> Vec<(String, String)> {
        vec![(seen.to_string(), value.to_string())]
    }

    #[test]
    fn a_toolchain_that_adds_an_interpreter_is_named_in_the_producers_section() {
        for (tool, engine) in [
            ("componentize-py", InterpreterKind::Cpython),
            ("ComponentizeJS", InterpreterKind::Spidermonkey),
            ("Javy", InterpreterKind::Quickjs),
        ] {
            let text = format!(r#"(module (@producers (language "C11" "") (processed-by "{tool}" "1.2")))"#);
            let seen = "producers section, processed-by";
            assert_eq!(found(&text), [(engine, sign(seen, &format!("{tool} 1.2")))]);
        }
        for other in
            [r#"(processed-by "rustc" "1")"#, r#"(language "Javy" "1")"#, r#"(processed-by "javyx" "")"#]
        {
            assert_eq!(found(&format!("(module (@producers {other}))")), [], "{other}");
        }
    }

    #[test]
    fn an_engine_is_recognised_by_functions_of_nested_modules_and_by_a_linkers_names() {
        let nested = r#"(component (core module (func (export "Py_GetBuildInfo"))))"#;
        assert_eq!(found(nested), [(InterpreterKind::Cpython, sign("export", "Py_GetBuildInfo"))]);
        let named =
            r#"(module (func (@name "js::RunScript(JSContext*, js::RunState&)")) (func $lua_newstate))"#;
        let expected = [
            (InterpreterKind::Spidermonkey, sign("name section", "js::RunScript")),
            (InterpreterKind::Lua, sign("name section", "lua_newstate")),
        ];
        assert_eq!(found(named), expected);
        let provided = r#"(module (import "javy_quickjs_provider_v3" "invoke" (func)))"#;
        assert_eq!(found(provided), [(InterpreterKind::Quickjs, sign("import", "javy_quickjs_provider_v3"))]);
        let alike =
            r#"(module (func $lua_newstate_of_mine) (func (export "my_ruby_init")) (func $Py_Initializer))"#;
        assert_eq!(found(alike), []);
    }

    #[test]
    fn a_malformed_custom_section_is_skipped() {
        let broken = |name: &str| {
            format!(r#"(module (@custom "{name}" "\ff\ff\ff\ff\ff") (func (export "ruby_init")))"#)
        };
        for name in ["producers", "name"] {
            assert_eq!(found(&broken(name)), [(InterpreterKind::Cruby, sign("export", "ruby_init"))]);
        }
        let mut many = String::new();
        for number in 0..100 {
            let _ = write!(many, r#"(processed-by "javy" "{number}\0a{}")"#, "x".repeat(500));
        }
        for one in found(&format!("(module (@producers {many}))")) {
            assert!(one.1.len() <= FUNCTIONS.len());
            assert!(one.1.iter().all(|(_, value)| value.len() < 200 && !value.contains('\n')), "{one:?}");
        }
    }
}
