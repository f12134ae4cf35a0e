//! What a module may ask of the compiler, counted before it is compiled: nothing stops Cranelift once it has begun, and it takes time and memory
//! for each value that lives on at each branch, so that a function of a few kilobytes could fill the memory. The bounds are many times what
//! OPA's compiler writes.

use wasmparser::{
    CompositeInnerType, FuncValidator, FuncValidatorAllocations, FunctionBody, Operator, OperatorsReader,
    Parser, Payload, TypeSectionReader, ValType, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use super::Error;

/// Most functions. OPA's library has some 750, and each rule adds one or two.
const MOST_FUNCTIONS: u64 = 100_000;
/// Most bytes of all functions.
const MOST_CODE: u64 = 32 << 20;
/// Most bytes of one function. A set of texts in a rule takes some thirty for each.
const LONGEST: u64 = 2 << 20;
/// Most types: for each there is code that converts what it takes. OPA's compiler writes 27.
const MOST_TYPES: u64 = 1000;
/// Most parameters of a function. OPA's library has eleven.
const MOST_PARAMETERS: u64 = 100;
/// Most results of a function. With more, one instruction could make any number of values; OPA's compiler does without.
const MOST_RESULTS: u64 = 1;
/// Most values at the branches of one function: of its beginning and of each branch, the variables and what is on the stack. A module
/// with hundreds of entry points, of OPA's own tests, has a million.
const MOST_VALUES: u64 = 1 << 24;
/// Most values at the branches of all functions together.
const MOST_VALUES_OF_ALL: u64 = 1 << 27;

/// Refuses a module that would take too long to compile, or too much memory, and one that is not valid.
pub(super) fn check(bundle: &str, module: &[u8]) -> Result<(), Error> {
    match Count::of(module) {
        Ok(_) => Ok(()),
        Err(Refusal::Invalid(error)) => {
            Err(Error::CompileModule { bundle: bundle.to_owned(), reason: error.to_string() })
        }
        Err(Refusal::TooMuch { what, most }) => {
            Err(Error::BoundModule { bundle: bundle.to_owned(), what, most })
        }
    }
}

/// Why a module is not compiled.
#[derive(Debug)]
enum Refusal {
    Invalid(wasmparser::Error),
    TooMuch { what: &'static str, most: u64 },
}

impl From<wasmparser::Error> for Refusal {
    fn from(error: wasmparser::Error) -> Self {
        Self::Invalid(error)
    }
}

/// What a module has so far.
#[derive(Debug, Default)]
struct Count {
    functions: u64,
    code: u64,
    longest: u64,
    /// Values at the branches of the function that has most.
    values: u64,
    values_of_all: u64,
}

impl Count {
    fn of(module: &[u8]) -> Result<Self, Refusal> {
        let mut count = Self::default();
        let mut validator = Validator::new_with_features(WasmFeatures::WASM3);
        let mut allocations = FuncValidatorAllocations::default();
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            count.section(&payload)?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                let mut function = function.into_validator(allocations);
                count.function(&mut function, &body)?;
                allocations = function.into_allocations();
            }
        }
        Ok(count)
    }

    fn section(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(types) => check_types(types.clone()),
            Payload::FunctionSection(functions) => {
                self.functions = u64::from(functions.count());
                at_most("functions", self.functions, MOST_FUNCTIONS)
            }
            Payload::CodeSectionStart { size, .. } => {
                self.code = u64::from(*size);
                at_most("bytes of code", self.code, MOST_CODE)
            }
            _ => Ok(()),
        }
    }

    /// The height of the stack is known only of code that is valid, so this validates it.
    fn function(
        &mut self,
        function: &mut FuncValidator<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), Refusal> {
        let range = body.range();
        let length = range.end.saturating_sub(range.start);
        at_most("bytes in one function", length, LONGEST)?;
        let mut reader = body.get_binary_reader();
        function.read_locals(&mut reader)?;
        let mut operators = OperatorsReader::new(reader);
        // Each variable has a value from the beginning, also where nothing goes on elsewhere.
        let mut values = u64::from(function.len_locals()).saturating_add(1);
        while !operators.eof() {
            let (operator, place) = operators.read_with_offset()?;
            let (variables, stack) = (function.len_locals(), function.operand_stack_height());
            let alive = u64::from(variables).saturating_add(u64::from(stack)).saturating_add(1);
            values = values.saturating_add(alive.saturating_mul(branches(&operator)));
            function.op(place, &operator)?;
        }
        self.longest = self.longest.max(length);
        self.values = self.values.max(values);
        self.values_of_all = self.values_of_all.saturating_add(values);
        at_most("values at the branches of one function", values, MOST_VALUES)?;
        at_most("values at the branches of all functions", self.values_of_all, MOST_VALUES_OF_ALL)
    }
}

/// In how many ways an instruction goes on to, or begins, another part of its function.
fn branches(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::BrTable { targets } => u64::from(targets.len()).saturating_add(1),
        Operator::TryTable { try_table } => {
            u64::try_from(try_table.catches.len()).unwrap_or(u64::MAX).saturating_add(1)
        }
        Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::If { .. }
        | Operator::Else
        | Operator::Br { .. }
        | Operator::BrIf { .. }
        | Operator::BrOnNull { .. }
        | Operator::BrOnNonNull { .. }
        | Operator::BrOnCast { .. }
        | Operator::BrOnCastFail { .. } => 1,
        _ => 0,
    }
}

fn check_types(groups: TypeSectionReader<'_>) -> Result<(), Refusal> {
    let mut types = 0_u64;
    for group in groups {
        let group = group?;
        for ty in group.types() {
            types = types.saturating_add(1);
            at_most("types", types, MOST_TYPES)?;
            if let CompositeInnerType::Func(function) = &ty.composite_type.inner {
                at_most("parameters of one function", count_of(function.params()), MOST_PARAMETERS)?;
                at_most("result of one function", count_of(function.results()), MOST_RESULTS)?;
            }
        }
    }
    Ok(())
}

fn count_of(values: &[ValType]) -> u64 {
    u64::try_from(values.len()).unwrap_or(u64::MAX)
}

fn at_most(what: &'static str, found: u64, most: u64) -> Result<(), Refusal> {
    if found > most { Err(Refusal::TooMuch { what, most }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::Bundle;
    use super::*;

    /// An empty block.
    const BLOCK: [u8; 3] = [0x02, 0x40, 0x0b];

    /// A number as Wasm writes it.
    fn number(value: usize) -> Vec<u8> {
        let (mut bytes, mut left) = (Vec::new(), value);
        while left > 0x7f {
            bytes.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
            left >>= 7;
        }
        bytes.push(u8::try_from(left).unwrap());
        bytes
    }

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [vec![id], number(content.len()), content.to_vec()].concat()
    }

    /// A body with so many variables and this code.
    fn body(variables: usize, code: &[u8]) -> Vec<u8> {
        [vec![1], number(variables), vec![0x7f], code.to_vec(), vec![0x0b]].concat()
    }

    /// A module of functions without parameters and results.
    fn module(bodies: &[Vec<u8>]) -> Vec<u8> {
        let count = number(bodies.len());
        let mut code = count.clone();
        for body in bodies {
            code.extend(number(body.len()));
            code.extend_from_slice(body);
        }
        let types = section(1, &[1, 0x60, 0, 0]);
        let functions = section(3, &[count, vec![0; bodies.len()]].concat());
        [b"\0asm\x01\0\0\0".to_vec(), types, functions, section(10, &code)].concat()
    }

    fn refusal(module: &[u8]) -> String {
        check("shop", module).unwrap_err().to_string()
    }

    #[test]
    fn what_takes_the_compiler_too_long_is_refused_before_it_begins() {
        let of_one = "16777216 values at the branches of one function";
        let on_stack: Vec<u8> =
            [[0x41, 0].repeat(10_000), BLOCK.repeat(2_000), [0x1a].repeat(10_000)].concat();
        let table: Vec<u8> =
            [vec![0x02, 0x40, 0x41, 0, 0x0e], number(20_000), vec![0; 20_001], vec![0x0b]].concat();
        let back: Vec<u8> = [vec![0x03, 0x40], [0x41, 0, 0x0d, 0].repeat(5_000), vec![0x0b]].concat();
        for (bodies, expected) in [
            (vec![body(0, &[]); 100_001], "100000 functions"),
            (vec![body(0, &vec![0x01; 2 << 20])], "2097152 bytes in one function"),
            (vec![body(0, &vec![0x01; 1 << 20]); 32], "33554432 bytes of code"),
            (vec![body(40_000, &BLOCK.repeat(500))], of_one),
            (vec![body(0, &on_stack)], of_one),
            (vec![body(1_000, &table)], of_one),
            (vec![body(4_000, &back)], of_one),
            (vec![body(40_000, &BLOCK.repeat(400)); 9], "134217728 values at the branches of all functions"),
            // Some seven bytes for each function.
            (vec![body(45_000, &[]); 3_000], "134217728 values at the branches of all functions"),
        ] {
            let message = refusal(&module(&bodies));
            assert!(message.contains(&format!("`policy.wasm` has more than {expected}")), "{message}");
        }
    }

    #[test]
    fn types_for_which_much_code_is_made_are_refused() {
        for (types, expected) in [
            ("(type (func (result i32 i32)))".to_owned(), "1 result of one function"),
            (format!("(type (func (param {})))", "i32 ".repeat(101)), "100 parameters of one function"),
            ("(type (func))".repeat(1001), "1000 types"),
        ] {
            let module = wat::parse_str(format!("(module {types})")).unwrap();
            let message = refusal(&module);
            assert!(message.contains(&format!("has more than {expected}")), "{message}");
        }
    }

    #[test]
    fn what_is_within_the_bounds_is_compiled() {
        let bodies = [body(1_000, &BLOCK.repeat(10_000)), body(0, &vec![0x01; 1 << 20])];
        assert!(check("shop", &module(&bodies)).is_ok());
        assert!(check("shop", &module(&[])).is_ok());
    }

    #[test]
    fn what_is_not_valid_is_not_compiled() {
        // An addition of nothing.
        for bytes in [b"\0asm\x01\0\0\0\xff\xff".to_vec(), module(&[body(0, &[0x6a])])] {
            assert!(matches!(check("shop", &bytes), Err(Error::CompileModule { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn the_built_in_rules_are_far_within_the_bounds() {
        let own = Count::of(&Bundle::embedded().unwrap().module).unwrap();
        for (found, most) in [
            (own.functions, MOST_FUNCTIONS),
            (own.code, MOST_CODE),
            (own.longest, LONGEST),
            (own.values, MOST_VALUES),
            (own.values_of_all, MOST_VALUES_OF_ALL),
        ] {
            assert!(found > 0 && found < most / 16, "{own:?}");
        }
    }
}
