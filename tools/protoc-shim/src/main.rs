//! The part of protoc's command line that prost-build uses, over the pure-Rust compiler protox:
//! `protoc [--include_imports] [--include_source_info] -o OUT -I DIR... FILE...`.

use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Default)]
struct Request {
    includes: Vec<PathBuf>,
    files: Vec<PathBuf>,
    out: Option<PathBuf>,
    imports: bool,
    source_info: bool,
}

fn parse(mut args: impl Iterator<Item = std::ffi::OsString>) -> Request {
    let mut request = Request::default();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--include_imports") => request.imports = true,
            Some("--include_source_info") => request.source_info = true,
            Some("-o") => request.out = args.next().map(PathBuf::from),
            Some("-I") => request.includes.extend(args.next().map(PathBuf::from)),
            _ => request.files.push(arg.into()),
        }
    }
    request
}

fn compile(request: Request) -> Result<(), Box<dyn std::error::Error>> {
    let mut compiler = protox::Compiler::new(request.includes)?;
    compiler.include_imports(request.imports).include_source_info(request.source_info);
    compiler.open_files(request.files)?;
    let out = request.out.ok_or("protoc-shim: -o FILE is missing")?;
    Ok(std::fs::write(out, compiler.encode_file_descriptor_set())?)
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--version") {
        println!("libprotoc 29.0");
        return ExitCode::SUCCESS;
    }
    match compile(parse(std::env::args_os().skip(1))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
