//! What an executable or a library asks of the dynamic loader.

use elf::ElfBytes;
use elf::ParseError;
use elf::abi::{DT_NEEDED, EM_AARCH64, EM_X86_64, PT_INTERP};
use elf::endian::AnyEndian;

/// What an executable or a library asks of the dynamic loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linkage {
    /// The processor that it is for.
    pub machine: Machine,
    /// The path of the loader, of an executable.
    pub interpreter: Option<String>,
    /// The names of the libraries that it needs (`DT_NEEDED`).
    pub needed: Vec<String>,
}

/// A processor that images are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit x86.
    X86_64,
}

impl Machine {
    /// As Debian and OCI write it.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::X86_64 => "amd64",
        }
    }

    /// As Rust writes it.
    pub fn target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::X86_64 => "x86_64-unknown-linux-gnu",
        }
    }
}

/// Why a file is nothing that Linux here can load.
#[derive(Debug, thiserror::Error)]
pub enum LinkageError {
    /// For another kind of machine.
    #[error("it is for a machine of ELF number {0}; images are built for x86-64 and 64-bit ARM")]
    Machine(u16),
    /// Not ELF, or broken.
    #[error("it is no sound ELF file")]
    Parse(#[from] ParseError),
}

/// Reads what a file asks of the dynamic loader; nothing if it is linked statically.
///
/// # Errors
///
/// If it is no ELF file, or one for another kind of machine.
pub fn linkage(bytes: &[u8]) -> Result<Linkage, LinkageError> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes)?;
    let machine = match file.ehdr.e_machine {
        EM_AARCH64 => Machine::Aarch64,
        EM_X86_64 => Machine::X86_64,
        other => return Err(LinkageError::Machine(other)),
    };
    Ok(Linkage { machine, interpreter: interpreter(&file)?, needed: needed(&file)? })
}

fn interpreter(file: &ElfBytes<'_, AnyEndian>) -> Result<Option<String>, ParseError> {
    let segments = file.segments();
    let mut segments = segments.iter().flat_map(|table| table.iter());
    let Some(segment) = segments.find(|segment| segment.p_type == PT_INTERP) else {
        return Ok(None);
    };
    let path = String::from_utf8_lossy(file.segment_data(&segment)?);
    Ok(Some(path.trim_end_matches('\0').to_owned()))
}

fn needed(file: &ElfBytes<'_, AnyEndian>) -> Result<Vec<String>, ParseError> {
    let (Some(dynamic), Some(strings)) = (file.dynamic()?, file.find_common_data()?.dynsyms_strs)
    else {
        return Ok(Vec::new());
    };
    let entries = dynamic.iter().filter(|entry| entry.d_tag == DT_NEEDED);
    entries.map(|entry| Ok(strings.get(entry.d_val() as usize)?.to_owned())).collect()
}
