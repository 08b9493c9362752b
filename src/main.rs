//! The `serin` binary: allocator, crypto provider, parse, run, exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // One TLS provider for the whole process, before any client is built; a second installation is refused and harmless.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return serin::cli::internal_error("another TLS provider is already installed");
    }
    serin::cli::main()
}
