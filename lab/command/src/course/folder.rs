//! The learner's folder: his plugin, and how far he is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cln_lab::{Error, IoContext, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::progress::{self, Progress};
use super::{Language, STEPS, Step, TEST};

/// Locked by whoever works in the folder; it has his process id.
const LOCK: &str = ".lab-learn.lock";
/// All that passed in a check.
const WIRE: &str = "wire.txt";

/// A learner's folder.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    _lock: Flock<File>,
    language: Option<&'static Language>,
    /// The executable, if there is no language.
    plugin: PathBuf,
}

impl Folder {
    /// Opens the folder, and makes what is not there yet: the folder, the file one
    /// starts with, the progress file. Of a course that was started before, language and
    /// plugin are as they were.
    ///
    /// # Errors
    /// [`Error::Usage`] if it was started otherwise, or another process works in it; if
    /// something cannot be written.
    pub fn open(
        dir: &Path,
        language: Option<&'static Language>,
        plugin: Option<&Path>,
    ) -> Result<(Folder, Progress)> {
        std::fs::create_dir_all(dir).doing("create folder", dir)?;
        let dir = dir.canonicalize().doing("find", dir)?;
        let lock = lock(&dir)?;
        let plugin = match plugin {
            Some(plugin) => Some(plugin.canonicalize().doing("find", plugin)?),
            None => None,
        };
        let progress = match Progress::read(&dir)? {
            Some(progress) => progress,
            None => {
                let language = language.or(super::LANGUAGES.first());
                Progress {
                    language: language
                        .filter(|_| plugin.is_none())
                        .map(|language| language.name.to_owned()),
                    plugin: plugin.clone(),
                    step: STEPS[0].slug.to_owned(),
                    passed: Vec::new(),
                }
            }
        };
        let asked = language.map(|language| language.name.to_owned());
        if (asked.is_some() && asked != progress.language)
            || (plugin.is_some() && plugin != progress.plugin)
        {
            return Err(Error::usage(format!(
                "{} is a course in {}: choose another folder",
                dir.display(),
                progress.language.as_deref().unwrap_or("another executable")
            )));
        }
        let language = match &progress.language {
            None => None,
            Some(name) => Some(Language::named(name).ok_or_else(|| {
                let names: Vec<&str> = super::LANGUAGES.iter().map(|known| known.name).collect();
                let why = format!("there is no language `{name}`, but {}", names.join(", "));
                progress::unusable(&dir, &why)
            })?),
        };
        let plugin = progress.plugin.clone().unwrap_or_default();
        let folder = Folder {
            dir,
            _lock: lock,
            language,
            plugin,
        };
        folder.make()?;
        progress.write(&folder.dir)?;
        Ok((folder, progress))
    }

    /// What one starts with, unless it is there.
    fn make(&self) -> Result<()> {
        let Some(language) = self.language else {
            return Ok(());
        };
        let start = (language.source, language.start);
        for (name, text) in language.files.iter().chain([&start]) {
            let path = self.dir.join(name);
            create_parent(&path)?;
            if !path.exists() {
                write_new(&path, text).doing("write", &path)?;
            }
        }
        // It is watched before its file is there.
        create_parent(&self.dir.join(language.test))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The language; `None` for any executable.
    pub fn language(&self) -> Option<&'static Language> {
        self.language
    }

    /// What lightningd runs.
    pub fn program(&self) -> PathBuf {
        self.language.map_or(self.plugin.clone(), |language| {
            self.dir.join(language.program)
        })
    }

    /// What runs the learner's own test; as long as there is none, where it should be.
    pub fn test(&self) -> PathBuf {
        let Some(language) = self.language else {
            return self.dir.join("test");
        };
        let source = self.dir.join(language.test);
        // Of a source that was removed, the program may still be there.
        if source.exists() {
            self.dir.join(language.test_program)
        } else {
            source
        }
    }

    /// The file that is edited in this step.
    pub fn file(&self, step: &Step) -> PathBuf {
        match self.language {
            Some(language) if step.slug == TEST => self.dir.join(language.test),
            Some(language) => self.dir.join(language.source),
            None if step.slug == TEST => self.test(),
            None => self.plugin.clone(),
        }
    }

    /// Whether the file of this step is there, with nothing in it, though there is
    /// something to start with.
    pub fn is_empty(&self, step: &Step) -> bool {
        let starts = self
            .language
            .is_some_and(|language| !language.before(step.slug).is_empty());
        let file = self.file(step).metadata();
        starts && file.is_ok_and(|file| file.is_file() && file.len() == 0)
    }

    /// Puts what a step starts with in place of its file, which is kept aside: where.
    ///
    /// # Errors
    /// If there is no language, so nothing to start with; if a file cannot be written.
    pub fn reset(&self, step: &Step) -> Result<Option<PathBuf>> {
        let Some(language) = self.language else {
            return Err(Error::usage("only you know what your plugin started with"));
        };
        let path = self.file(step);
        let mut kept = None;
        if path.exists() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let free = (1..)
                .map(|n| path.with_file_name(format!("{name}.kept-{n}")))
                .find(|path| !path.exists());
            let aside = free.unwrap_or_else(|| path.with_extension("kept"));
            std::fs::copy(&path, &aside).doing("keep aside", &path)?;
            kept = Some(aside);
        }
        let text = language.before(step.slug);
        if text.is_empty() {
            if path.exists() {
                std::fs::remove_file(&path).doing("remove", &path)?;
            }
        } else {
            // The same file: it keeps its permissions.
            std::fs::write(&path, text).doing("write", &path)?;
        }
        Ok(kept)
    }

    /// Writes what passed in a check into a file, which only its owner may read: a
    /// preimage may be in it. Where that is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_wire(&self, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(WIRE);
        let mut options = File::options();
        let options = options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).doing("create", &path)?;
        file.write_all(text.as_bytes()).doing("write", &path)?;
        Ok(path)
    }

    /// Makes ready what takes long: packages, a first build.
    ///
    /// # Errors
    /// What is missing.
    pub async fn prepare(&self) -> Result<()> {
        let Some(language) = self.language else {
            return Ok(());
        };
        for program in language.needs {
            if which::which(program).is_err() {
                return Err(Error::usage(format!("there is no `{program}` here")));
            }
        }
        if language.name == "python" {
            let dir = self.dir.clone();
            let installed = tokio::task::spawn_blocking(move || crate::pyln::install(&dir));
            return installed
                .await
                .map_err(std::io::Error::from)
                .doing("install", "pyln-client")?;
        }
        // What the compiler refuses is said at the first check.
        self.build().await.map(drop)
    }

    /// Makes the program of the source, where that has to be: what the compiler says, if
    /// it refuses.
    ///
    /// # Errors
    /// If the compiler cannot be run.
    pub async fn build(&self) -> Result<std::result::Result<(), String>> {
        let Some([program, args @ ..]) = self.language.map(|language| language.build) else {
            return Ok(Ok(()));
        };
        let mut command = tokio::process::Command::new(program);
        command.args(args).current_dir(&self.dir).kill_on_drop(true);
        command.stdin(std::process::Stdio::null());
        let output = command.output().await.doing("run", program)?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(String::from_utf8_lossy(&output.stderr)
            .trim_end()
            .to_owned()))
    }
}

/// One process at a time works in a folder: the records of two would mix.
fn lock(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join(LOCK);
    let mut options = File::options();
    let options = options.create(true).read(true).write(true).truncate(false);
    let file = options.open(&path).doing("open", &path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let mut write = || {
                lock.set_len(0)?;
                write!(lock, "{}", std::process::id())
            };
            write().doing("write", &path)?;
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).doing("read", &path)?;
            Err(Error::usage(format!(
                "`lab learn` runs in {} already, as process {pid}: it checks each save; end it there with `q`, or \
                 choose another folder",
                dir.display()
            )))
        }
        Err((_, errno)) => Err(errno).doing("lock", &path),
    }
}

/// Writes a file that is not there yet, all or nothing.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new()
        // As of any file: the umask takes from it.
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(path.parent().unwrap_or(path))?;
    file.write_all(text.as_bytes())?;
    file.persist_noclobber(path)?;
    Ok(())
}

fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).doing("create folder", parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).expect("read")
    }

    #[test]
    fn a_reset_loses_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, _) = Folder::open(dir.path(), None, None).expect("open");
        let step = Step::named("init").expect("a step");
        let file = folder.file(step);
        for n in 1..=2 {
            std::fs::write(&file, format!("mine {n}")).expect("write");
            let kept = folder.reset(step).expect("reset").expect("kept");
            assert_eq!(text(&kept), format!("mine {n}"));
            assert!(text(&file).contains("getmanifest") || text(&file).contains("request"));
        }
        assert_eq!(text(&dir.path().join("plugin.py.kept-1")), "mine 1");
    }

    #[test]
    fn an_empty_file_is_known_as_such() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, _) = Folder::open(dir.path(), None, None).expect("open");
        let (init, test) = (Step::named("init"), Step::named(TEST));
        let (init, test) = (init.expect("a step"), test.expect("a step"));
        assert!(!folder.is_empty(init));
        for step in [init, test] {
            std::fs::write(folder.file(step), "").expect("write");
        }
        assert!(folder.is_empty(init));
        assert!(!folder.is_empty(test), "nothing to start with");
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plugin.py");
        std::fs::write(&path, "mine").expect("write");
        write_new(&path, "other").expect_err("it is there");
        assert_eq!(text(&path), "mine");
        let new = dir.path().join("new");
        write_new(&new, "text").expect("write");
        assert_eq!(text(&new), "text");
        let modes = [&path, &new].map(|path| path.metadata().expect("there").permissions());
        assert_eq!(modes[0], modes[1]);
        // No other file is left.
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 2);
    }

    #[test]
    fn a_pipe_is_no_progress_and_no_text() {
        let dir = tempfile::tempdir().expect("a folder");
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&dir.path().join(progress::FILE), mode).expect("a pipe");
        let error = Folder::open(dir.path(), None, None).expect_err("a pipe");
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[test]
    fn a_test_that_was_removed_does_not_run() {
        let dir = tempfile::tempdir().expect("a folder");
        let rust = Language::named("rust").expect("a language");
        let (folder, _) = Folder::open(dir.path(), Some(rust), None).expect("open");
        let source = folder.file(Step::named(TEST).expect("a step"));
        std::fs::write(&source, "fn main() {}").expect("write");
        assert!(folder.test().ends_with(rust.test_program));
        std::fs::remove_file(&source).expect("remove");
        assert_eq!(folder.test(), source);
    }

    #[test]
    fn it_continues_where_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, mut progress) = Folder::open(dir.path(), None, None).expect("open");
        std::fs::write(folder.program(), "mine").expect("write");
        progress.pass(&STEPS[0]);
        progress.step = "init".to_owned();
        progress.write(dir.path()).expect("write");
        drop(folder);
        let (folder, again) = Folder::open(dir.path(), None, None).expect("open");
        assert_eq!(again, progress);
        assert_eq!(text(&folder.program()), "mine");
        drop(folder);
        let other = Folder::open(dir.path(), None, Some(Path::new("/bin/sh")));
        let error = other.expect_err("a course in python").to_string();
        assert!(error.contains("choose another folder"), "{error}");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let (first, _) = Folder::open(dir.path(), None, None).expect("open");
        let error = Folder::open(dir.path(), None, None).expect_err("it is open");
        let error = error.to_string();
        let ours = format!("as process {}:", std::process::id());
        assert!(error.contains(&ours), "{error}");
        drop(first);
        Folder::open(dir.path(), None, None).expect("open");
    }

    #[test]
    fn progress_that_makes_no_sense_is_an_error_and_stays() {
        let known = r#"{"language":"python","step":"init","passed":["lab"]}"#;
        for (file, says) in [
            ("{".to_owned(), "it is no progress of a course"),
            ("[]".to_owned(), "is no progress of a course"),
            (
                r#"["python",null,"init",[]]"#.to_owned(),
                "is no progress of a course",
            ),
            (known.replace("init", "sing"), "there is no step `sing`"),
            (
                known.replace("python", "cobol"),
                "there is no language `cobol`",
            ),
        ] {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join(progress::FILE);
            std::fs::write(&path, &file).expect("write");
            let error = Folder::open(dir.path(), None, None)
                .expect_err(&file)
                .to_string();
            assert!(
                error.contains(says) && error.contains("your plugin stays"),
                "{error}"
            );
            assert_eq!(text(&path), file);
        }
    }
}
