//! Generates the contract's code from the .proto files, without protoc.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 6] = [
    "holdfast/v1/chat.proto",
    "holdfast/v1/intake.proto",
    "holdfast/v1/queue.proto",
    "holdfast/v1/triage.proto",
    "holdfast/v1/dispatch.proto",
    "holdfast/v1/supervision.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    // The descriptor is written from the compiler's own bytes: its parsed form would drop custom options.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("holdfast.v1.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
