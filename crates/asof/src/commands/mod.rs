//! The commands: one file and one line each.

macro_rules! commands {
    ($($(#[$about:meta])* $variant:ident $module:ident $name:literal,)*) => {
        $(mod $module;)*

        /// What to do.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Command {
            $($(#[$about])* $variant($module::Args),)*
        }

        /// A command's name.
        pub(crate) fn name(command: &Command) -> &'static str {
            match command { $(Command::$variant(_) => $name,)* }
        }

        /// Runs a command.
        ///
        /// # Errors
        /// Whatever the command fails with.
        pub(crate) async fn run(
            command: Command,
            context: &crate::context::Context,
        ) -> Result<(), crate::problem::Problem> {
            match command { $(Command::$variant(args) => Box::pin($module::run(args, context)).await,)* }
        }
    };
}

commands! {
    /// Make the flights example, train on it, serve it and show what it did
    Demo demo "demo",
    /// Run the project's node: server, refresh and stores
    Up up "up",
    /// Show what applying the folder would change
    Plan plan "plan",
    /// Make the folder's definitions the ones that stand
    Apply apply "apply",
    /// Show the differences between the folder and what stands, as text
    Diff diff "diff",
    /// Copy files into the table of a stored source
    Load load "load",
    /// Push rows to a source, durable when it answers
    Push push "push",
    /// Bring views up to date in the online store
    Materialize materialize "materialize",
    /// Check that what was served is what training says
    Check check "check",
    /// Show how fresh every view is
    Status status "status",
    /// Make a training set: the spine's rows with the features known at each row's time
    Train train "train",
    /// Get the features of one or more entities from the online store
    Get get "get",
    /// Run a read-only query over sources, views and training sets
    Sql sql "sql",
    /// List what is defined
    List list "list",
    /// Show everything about one thing
    Show show "show",
    /// Search names, descriptions, tags, owners and columns
    Search search "search",
    /// Explain how a view answers, or what an error code means
    Explain explain "explain",
    /// Show the configuration, where each value comes from, and whether all is well
    Doctor doctor "doctor",
    /// Copy all stores of the node into a folder
    Backup backup "backup",
    /// Bring a backup's stores into a project that has none
    Restore restore "restore",
    /// Print the JSON Schema of definitions, for editors
    Schema schema "schema",
}

/// Whether a command runs a server, whose log is shown.
pub(crate) fn serves(command: &Command) -> bool {
    matches!(command, Command::Up(_))
}
