//! The languages in which one can take the course: for each the files of
//! `course/LANGUAGE/`, which are the solutions of the steps whose code changes.

/// A language, with its solutions.
#[derive(Debug)]
pub struct Language {
    /// Its name on the command line.
    pub name: &'static str,
    /// How code blocks in it are marked in Markdown.
    pub markdown: &'static str,
    /// The learner's file, relative to his folder.
    pub source: &'static str,
    /// What lightningd runs, relative to the folder.
    pub program: &'static str,
    /// The file of the step `test`, relative to the folder.
    pub test: &'static str,
    /// What runs the test, relative to the folder.
    pub test_program: &'static str,
    /// Files that are written beside them, with their text.
    pub files: &'static [(&'static str, &'static str)],
    /// What makes the program of the source, run in the folder; empty if nothing has to.
    pub build: &'static [&'static str],
    /// Programs that have to be on the PATH.
    pub needs: &'static [&'static str],
    /// The text that one starts with.
    pub start: &'static str,
    /// By step. A step without one needs no other code than the step before it.
    pub solutions: &'static [(&'static str, &'static str)],
}

/// The solutions in `course/FOLDER/`, by step.
macro_rules! solutions {
    ($folder:literal, $ending:literal) => {
        solutions!($folder, $ending:
            "getmanifest" "init" "dynamic" "connect" "disconnect" "stream" "silence" "log"
            "library" "invoice" "error" "method" "restart"
            "all" "order" "topic" "hook" "test" "releases")
    };
    ($folder:literal, $ending:literal: $($step:literal)*) => {
        &[$(($step, include_str!(concat!("../../course/", $folder, "/", $step, $ending)))),*]
    };
}

/// All of them; the first is the default.
pub static LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        markdown: "python",
        source: "plugin.py",
        program: "plugin.py",
        test: "test.py",
        test_program: "test.py",
        files: &[],
        build: &[],
        needs: &["python3"],
        start: include_str!("../../course/python/start.py"),
        solutions: solutions!("python", ".py"),
    },
    Language {
        name: "rust",
        markdown: "rust",
        source: "src/main.rs",
        program: "target/debug/myplugin",
        test: "src/bin/test.rs",
        test_program: "target/debug/test",
        files: &[(
            "Cargo.toml",
            include_str!("../../course/rust/Cargo.toml.in"),
        )],
        // Wherever cargo is configured to put what it builds.
        build: &[
            "cargo",
            "build",
            "--quiet",
            "--message-format=short",
            "--target-dir=target",
        ],
        needs: &["cargo"],
        start: include_str!("../../course/rust/start.rs"),
        solutions: solutions!("rust", ".rs"),
    },
    Language {
        name: "sh",
        markdown: "sh",
        source: "plugin.sh",
        program: "plugin.sh",
        test: "test.sh",
        test_program: "test.sh",
        files: &[],
        build: &[],
        // From part two on.
        needs: &["jq"],
        start: include_str!("../../course/sh/start.sh"),
        solutions: solutions!("sh", ".sh"),
    },
];

impl Language {
    /// The language of this name.
    pub fn named(name: &str) -> Option<&'static Language> {
        LANGUAGES.iter().find(|language| language.name == name)
    }

    /// The code that passes this step.
    pub fn solution(&self, step: &str) -> &'static str {
        self.until(step, true)
    }

    /// The code with which the step starts: what passes the step before it.
    pub fn before(&self, step: &str) -> &'static str {
        self.until(step, false)
    }

    /// The step whose solution this one starts with; `None` if it starts with what the
    /// course does, or with no file.
    pub fn passes(&self, step: &super::Step) -> Option<&'static super::Step> {
        let has_solution =
            |step: &&super::Step| self.solutions.iter().any(|(name, _)| *name == step.slug);
        let mut before = super::STEPS.iter().take(step.number() - 1);
        before.rfind(has_solution)
    }

    /// The last text up to this step, which counts or not. The test's file is another.
    fn until(&self, step: &str, included: bool) -> &'static str {
        let of = |wanted: &str| {
            let found = self.solutions.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, text)| *text)
        };
        if step == super::TEST {
            return if included {
                of(step).unwrap_or_default()
            } else {
                ""
            };
        }
        let steps = super::STEPS.iter().map(|step| step.slug);
        let plugin = steps.filter(|slug| *slug != super::TEST);
        let before = plugin.take_while(|slug| *slug != step);
        let last = before.chain(included.then_some(step)).filter_map(of).last();
        last.unwrap_or(self.start)
    }
}
