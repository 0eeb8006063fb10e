//! The program: arguments in, exit code out.

/// Records and requests are many small pieces that live for a moment: with the C library's own allocator the write-back takes a seventh longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    offhook::cli::main()
}
