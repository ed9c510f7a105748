//! A plugin whose other end is this process.
//!
//! lightningd starts plugins as child processes. The shim is the smallest such
//! child: a shell script that relays its standard input and output over two named
//! pipes to the process of the test, where the plugin's handlers run. No executable
//! is needed, and a debugger that stops the test stops the plugin.
//!
//! When the test drops its side, the script's `cat` sees the end of its input and
//! ends, as a plugin that exits. When lightningd ends the script, the other `cat` sees
//! the end of lightningd's pipe, and the test the end of its own. Neither waits for
//! the other, so no `cat` is left.

use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;

use super::{Node, Plugin};
use crate::error::IoContext;
use crate::process::daemon::quoted;
use crate::process::files::write_executable;
use crate::{Error, Result};

/// What lightningd sends to the plugin.
pub type ShimReader = pipe::Receiver;
/// What the plugin sends to lightningd.
pub type ShimWriter = pipe::Sender;

/// The script and this process's ends of its pipes.
#[derive(Debug)]
pub(crate) struct Shim {
    pub plugin: Plugin,
    pub reader: ShimReader,
    pub writer: ShimWriter,
    /// Hold the script's ends of the pipes until it runs: a pipe without a reader
    /// cannot be opened, one without a writer is at its end. Drop them then.
    pub placeholders: (pipe::Receiver, pipe::Sender),
    pub dir: PathBuf,
}

impl Shim {
    /// Makes a plugin of this file name, in a new folder under `dir`.
    fn create(dir: &Path, name: &str) -> Result<Shim> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::usage(format!(
                "plugin name `{name}`: use letters, digits, -, _ and ."
            )));
        }
        std::fs::create_dir_all(dir).doing("create folder", dir)?;
        let dir = tempfile::Builder::new()
            .prefix("")
            .tempdir_in(dir)
            .doing("create a folder in", dir)?
            // It is removed with the lab's folder.
            .keep();
        let (input, output) = (dir.join("in"), dir.join("out"));
        for pipe in [&input, &output] {
            mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR).doing("make the named pipe", pipe)?;
        }
        let script = dir.join(name);
        write_executable(&script, &script_text(&input, &output))?;

        let options = pipe::OpenOptions::new();
        let reader = options.open_receiver(&input).doing("open", &input)?;
        let other_writer = options.open_sender(&input).doing("open", &input)?;
        let other_reader = options.open_receiver(&output).doing("open", &output)?;
        let writer = options.open_sender(&output).doing("open", &output)?;
        Ok(Shim {
            plugin: Plugin::path(script),
            reader,
            writer,
            placeholders: (other_reader, other_writer),
            dir,
        })
    }
}

/// One `cat` reads what the test writes and is the process that lightningd knows; a
/// second one writes what lightningd sends. Each holds one pipe only, or it would keep
/// the other from ending. A shell gives a background process an empty input, hence
/// descriptor 5.
fn script_text(input: &Path, output: &Path) -> String {
    let (input, output) = (input.display().to_string(), output.display().to_string());
    format!(
        "#!/bin/sh\n\
         # Relays lightningd's messages to a process of the lab, and its answers back.\n\
         exec 3<{} 4>{} 5<&0\n\
         cat <&5 >&4 3<&- 5<&- &\n\
         exec cat <&3 3<&- 4>&- 5<&-\n",
        quoted(&output),
        quoted(&input)
    )
}

/// Describes a plugin that runs in this process: see [`Node::inline_plugin`].
#[derive(Debug)]
#[must_use = "nothing happens until `start`"]
pub struct InlinePlugin<'a> {
    node: &'a Node,
    name: String,
    options: Vec<(String, String)>,
}

impl Node {
    /// A plugin whose handlers run in this process, where breakpoints, shared state and
    /// `dbg!` work, attached to a real node.
    ///
    /// `name` is its name in the node's log. See [`InlinePlugin::start`].
    pub fn inline_plugin(&self, name: impl Into<String>) -> InlinePlugin<'_> {
        InlinePlugin {
            node: self,
            name: name.into(),
            options: Vec::new(),
        }
    }
}

impl InlinePlugin<'_> {
    /// Sets an option that the plugin declares.
    pub fn option(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.options.push((name.into(), value.to_string()));
        self
    }

    /// Starts it: `plugin start`, while `serve` answers `getmanifest` and `init` on the
    /// two streams. Returns the result of `serve`; what `serve` spawned continues until
    /// lightningd ends the plugin (then the reader is at its end) or the writer is
    /// dropped.
    ///
    /// cln-plugin's `Builder` takes any streams. The plugin must be `dynamic`; its
    /// logging must be off, since it can be set up only once in a process; and its
    /// `join` must be awaited before the plugin ends, or it waits for ever.
    ///
    /// ```no_run
    /// # async fn f(l1: &cln_lab::Node) -> anyhow::Result<()> {
    /// use cln_plugin::Builder;
    /// use serde_json::{Value, json};
    ///
    /// let plugin = l1
    ///     .inline_plugin("greeter")
    ///     .start(|reader, writer| {
    ///         Builder::new(reader, writer)
    ///             .rpcmethod("greet", "Says hello", async |_, _| Ok(json!("hello")))
    ///             .dynamic()
    ///             .with_logging(false)
    ///             .start(())
    ///     })
    ///     .await??
    ///     .expect("not `--help`");
    /// let answer: Value = l1.call("greet", json!({})).await?;
    /// assert_eq!(answer, "hello");
    /// # drop(plugin); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// lightningd's, if it refuses the plugin; then `serve` is dropped.
    pub async fn start<T, F>(self, serve: impl FnOnce(ShimReader, ShimWriter) -> F) -> Result<T>
    where
        F: Future<Output = T>,
    {
        let shim = self.node.shim(&self.name)?;
        let plugin = self
            .options
            .into_iter()
            .fold(shim.plugin, |plugin, (name, value)| {
                plugin.option(name, value)
            });
        let serving = serve(shim.reader, shim.writer);
        let starting = self.node.plugin_start(&plugin);
        let (mut serving, mut starting) = (std::pin::pin!(serving), std::pin::pin!(starting));
        let served = tokio::select! {
            served = &mut serving => {
                starting.await?;
                served
            }
            started = &mut starting => {
                started?;
                serving.await
            }
        };
        drop(shim.placeholders);
        Ok(served)
    }
}

impl Node {
    /// One of the lab's own plugins, not started yet.
    pub(crate) fn shim(&self, name: &str) -> Result<Shim> {
        let shim = Shim::create(&self.dir().join("inline"), name)?;
        self.excused().add_ours(name);
        Ok(shim)
    }
}
