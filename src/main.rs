//! The binary: parse, runtime, dispatch, exit code.

use std::process::ExitCode;

use kinseal::cli::{self, Cli};
use kinseal::source;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    cli::heap::give_back_large_buffers();
    let args: Vec<_> = std::env::args_os().collect();
    if cli::kpl::is_kpl(&args) {
        return cli::kpl::main(args);
    }
    let cli = match Cli::parse_args(args) {
        Ok(cli) => cli,
        Err(e) => return cli::usage(&e),
    };
    cli.init_log();
    // Still the only thread, and nothing is open.
    source::unix::inherited::take_over();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => return cli::failed(&anyhow::Error::new(e).context("cannot start threads")),
    };
    let ended = runtime.block_on(cli.run());
    // What still blocks, a read of a terminal say, must not hold up the exit.
    runtime.shutdown_background();
    ended.unwrap_or_else(|e| cli::failed(&e))
}
