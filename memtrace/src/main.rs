//! The `memtrace` command.

fn main() -> std::process::ExitCode {
    memtrace::cli::main()
}
