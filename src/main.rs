//! The program: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    offhook::cli::main()
}
