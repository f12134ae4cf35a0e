//! Limits of an engine that takes the memories and tables of a program out of a pool, which it makes before it knows the program.

use crate::image::Defined;

/// The most that one core module may define. An engine that allocates on demand has no such limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Number of memories.
    pub memories: u32,
    /// Initial size of a memory, in bytes.
    pub memory_bytes: u64,
    /// Number of tables.
    pub tables: u32,
    /// Initial size of a table, in elements.
    pub table_elements: u64,
}

impl Pool {
    /// What of a binary is more than a part of the pool holds; it ends a sentence about one of its core modules.
    pub fn exceeded(&self, defined: &Defined) -> Option<String> {
        let counted = [
            (u64::from(defined.memories), u64::from(self.memories), "memories"),
            (defined.memory_bytes, self.memory_bytes, "bytes of initial memory"),
            (u64::from(defined.tables), u64::from(self.tables), "tables"),
            (defined.table_elements, self.table_elements, "initial elements of a table"),
        ];
        let (found, most, what) = counted.into_iter().find(|(found, most, _)| found > most)?;
        Some(format!("{found} {what}, and at most {most} fit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_a_part_holds_is_said_and_what_fills_it_is_not() {
        let pool = Pool { memories: 1, memory_bytes: 1 << 32, tables: 1, table_elements: 20_000 };
        let full = Defined { memories: 1, memory_bytes: 1 << 32, tables: 1, table_elements: 20_000 };
        assert_eq!(pool.exceeded(&full), None);
        assert_eq!(pool.exceeded(&Defined::default()), None);
        for (more, said) in [
            (Defined { memories: 2, ..full }, "2 memories, and at most 1 fit"),
            (
                Defined { memory_bytes: (1 << 32) + 1, ..full },
                "4294967297 bytes of initial memory, and at most 4294967296 fit",
            ),
            (Defined { tables: 3, ..full }, "3 tables, and at most 1 fit"),
            (
                Defined { table_elements: 20_001, ..full },
                "20001 initial elements of a table, and at most 20000 fit",
            ),
        ] {
            assert_eq!(pool.exceeded(&more).as_deref(), Some(said));
        }
    }
}
