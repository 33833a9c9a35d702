//! The commands: one file each, listed here with their spellings. `container`, `image`, `system`, `volume` and
//! `network` hold the same commands under their noun.

mod absent;
mod attach;
mod bootstrap;
mod build;
mod check;
mod commit;
mod context;
mod cp;
mod create;
mod df;
mod diff;
mod events;
mod exec;
mod export;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logs;
mod manifest;
mod network;
mod network_create;
mod pause;
mod port;
mod ports;
mod prune;
mod ps;
mod pull;
mod push;
mod reach;
mod registry;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod update;
mod version;
mod volume;
mod wait;

use clap::Subcommand;
use hyper::Method;
use wharf_api::client::{Client, escape};

use crate::connect::Target;
use crate::error::{CliError, print, say};

pub(crate) use pull::messages;

/// What a command gives: the exit code.
pub(crate) type Outcome = Result<i32, CliError>;

/// Declares the command enums and their dispatch from one list.
macro_rules! commands {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident($kind:ty)),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Subcommand)]
        pub(crate) enum $name {
            $($(#[$variant_meta])* $variant(Box<$kind>),)*
        }

        impl $name {
            pub(crate) async fn run(self, target: &Target) -> Outcome {
                match self {
                    $(Self::$variant(command) => command.run(target).await,)*
                }
            }
        }
    };
}

/// [`commands!`], of which each can be had without the others: who starts does not make them all.
macro_rules! single_commands {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident($kind:ty)),* $(,)? }) => {
        commands! { $(#[$meta])* $name { $($(#[$variant_meta])* $variant($kind)),* } }

        impl $name {
            /// `root` with the one command that goes by `word`; `None`: there is none.
            pub(crate) fn only(word: &str, root: clap::Command) -> Option<clap::Command> {
                $({
                    #[derive(Subcommand)]
                    enum One {
                        $(#[$variant_meta])*
                        $variant(Box<$kind>),
                    }
                    if One::has_subcommand(word) {
                        return Some(One::augment_subcommands(root));
                    }
                })*
                None
            }
        }
    };
}

single_commands! {
    /// Every command at the top level.
    Command {
        /// Attach local standard input, output, and error streams to a running container
        Attach(attach::Attach),
        /// Build an image from a Dockerfile
        Build(build::Build),
        /// Manage builds
        Builder(Group<BuilderCommand>),
        /// Manage builds, as Docker's plugin calls it
        #[command(hide = true)]
        Buildx(Group<BuildxCommand>),
        /// Manage checkpoints (not available)
        #[command(hide = true)]
        Checkpoint(absent::Absent<7>),
        /// Create a new image from a container's changes
        Commit(commit::Commit),
        /// Manage Swarm configs (not available)
        #[command(hide = true)]
        Config(absent::Absent<6>),
        /// Manage contexts
        Context(Group<context::ContextCommand>),
        /// Manage containers
        Container(Group<ContainerCommand>),
        /// Copy files/folders between a container and the local filesystem
        Cp(cp::Cp),
        /// Create a new container
        Create(create::Create),
        /// Inspect changes to files or directories on a container's filesystem
        Diff(diff::Diff),
        /// Get real time events from the server
        Events(events::Events),
        /// Execute a command in a running container
        Exec(exec::Exec),
        /// Export a container's filesystem as a tar archive
        Export(export::Export),
        /// Show the history of an image
        History(history::History),
        /// Manage images
        Image(Group<ImageCommand>),
        /// List images
        Images(images::Images),
        /// Import the contents from a tarball to create a filesystem image
        Import(import::Import),
        /// Display system-wide information
        Info(info::Info),
        /// Return low-level information on Wharf objects
        Inspect(inspect::Inspect),
        /// Kill one or more running containers
        Kill(kill::Kill),
        /// Load an image from a tar archive or STDIN
        Load(load::Load),
        /// Authenticate to a registry
        Login(login::Login),
        /// Log out from a registry
        Logout(login::Logout),
        /// Fetch the logs of a container
        Logs(logs::Logs),
        /// Manage image manifests and manifest lists
        Manifest(Group<manifest::ManifestCommand>),
        /// Manage Swarm nodes (not available)
        #[command(hide = true)]
        Node(absent::Absent<2>),
        /// Manage networks
        Network(Group<network::NetworkCommand>),
        /// Pause all processes within one or more containers
        Pause(pause::Pause),
        /// Manage plugins
        #[command(hide = true)]
        Plugin(Group<PluginCommand>),
        /// List port mappings or a specific mapping for the container
        Port(port::Port),
        /// List containers
        Ps(ps::Ps),
        /// Download an image from a registry
        Pull(pull::Pull),
        /// Upload an image to a registry
        Push(push::Push),
        /// Serve images to other machines
        Registry(Group<registry::RegistryCommand>),
        /// Rename a container
        Rename(rename::Rename),
        /// Restart one or more containers
        Restart(restart::Restart),
        /// Remove one or more containers
        Rm(rm::Rm),
        /// Remove one or more images
        Rmi(rmi::Rmi),
        /// Create and run a new container from an image
        Run(run::Run),
        /// Save one or more images to a tar archive (streamed to STDOUT by default)
        Save(save::Save),
        /// Search a registry for images
        Search(search::Search),
        /// Manage Swarm secrets (not available)
        #[command(hide = true)]
        Secret(absent::Absent<5>),
        /// Manage Swarm services (not available)
        #[command(hide = true)]
        Service(absent::Absent<3>),
        /// Manage Swarm stacks (not available)
        #[command(hide = true)]
        Stack(absent::Absent<4>),
        /// Start one or more stopped containers
        Start(start::Start),
        /// Display a live stream of container(s) resource usage statistics
        Stats(stats::Stats),
        /// Stop one or more running containers
        Stop(stop::Stop),
        /// Manage Swarm (not available)
        #[command(hide = true)]
        Swarm(absent::Absent<1>),
        /// Manage Wharf
        System(Group<SystemCommand>),
        /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
        Tag(tag::Tag),
        /// Display the running processes of a container
        Top(top::Top),
        /// Unpause all processes within one or more containers
        Unpause(pause::Unpause),
        /// Update configuration of one or more containers
        Update(update::Update),
        /// Show the version information
        Version(version::Version),
        /// Manage volumes
        Volume(Group<volume::VolumeCommand>),
        /// Block until one or more containers stop, then print their exit codes
        Wait(wait::Wait),
    }
}

commands! {
    /// `wharf container …`.
    ContainerCommand {
        /// Attach local standard input, output, and error streams to a running container
        Attach(attach::Attach),
        /// Create a new image from a container's changes
        Commit(commit::Commit),
        /// Copy files/folders between a container and the local filesystem
        Cp(cp::Cp),
        /// Create a new container
        Create(create::Create),
        /// Inspect changes to files or directories on a container's filesystem
        Diff(diff::Diff),
        /// Execute a command in a running container
        Exec(exec::Exec),
        /// Export a container's filesystem as a tar archive
        Export(export::Export),
        /// Display detailed information on one or more containers
        Inspect(inspect::InspectContainer),
        /// Kill one or more running containers
        Kill(kill::Kill),
        /// Fetch the logs of a container
        Logs(logs::Logs),
        /// List containers
        #[command(visible_aliases = ["list", "ps"])]
        Ls(ps::Ps),
        /// Pause all processes within one or more containers
        Pause(pause::Pause),
        /// List port mappings or a specific mapping for the container
        Port(port::Port),
        /// Remove all stopped containers
        Prune(prune::Containers),
        /// Rename a container
        Rename(rename::Rename),
        /// Restart one or more containers
        Restart(restart::Restart),
        /// Remove one or more containers
        #[command(visible_alias = "remove")]
        Rm(rm::Rm),
        /// Create and run a new container from an image
        Run(run::Run),
        /// Start one or more stopped containers
        Start(start::Start),
        /// Display a live stream of container(s) resource usage statistics
        Stats(stats::Stats),
        /// Stop one or more running containers
        Stop(stop::Stop),
        /// Display the running processes of a container
        Top(top::Top),
        /// Unpause all processes within one or more containers
        Unpause(pause::Unpause),
        /// Update configuration of one or more containers
        Update(update::Update),
        /// Block until one or more containers stop, then print their exit codes
        Wait(wait::Wait),
    }
}

commands! {
    /// `wharf image …`.
    ImageCommand {
        /// Make a minimal base image from a distribution's package archive
        Bootstrap(bootstrap::Bootstrap),
        /// Build an image from a Dockerfile
        Build(build::Build),
        /// Show the history of an image
        History(history::History),
        /// Import the contents from a tarball to create a filesystem image
        Import(import::Import),
        /// Display detailed information on one or more images
        Inspect(inspect::InspectImage),
        /// Load an image from a tar archive or STDIN
        Load(load::Load),
        /// List images
        #[command(visible_alias = "list")]
        Ls(images::Images),
        /// Remove unused images
        Prune(prune::Images),
        /// Download an image from a registry
        Pull(pull::Pull),
        /// Upload an image to a registry
        Push(push::Push),
        /// Remove one or more images
        #[command(visible_alias = "remove")]
        Rm(rmi::Rmi),
        /// Save one or more images to a tar archive (streamed to STDOUT by default)
        Save(save::Save),
        /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
        Tag(tag::Tag),
    }
}

commands! {
    /// `wharf builder …`.
    BuilderCommand {
        /// Build an image from a Dockerfile
        Build(build::Build),
        /// Remove build cache
        Prune(absent::BuilderPrune),
    }
}

commands! {
    /// `wharf buildx …`.
    BuildxCommand {
        /// Build an image from a Dockerfile
        #[command(visible_alias = "b")]
        Build(build::Build),
        /// Disk usage
        Du(build::usage::Du),
        /// Remove build cache
        Prune(absent::BuilderPrune),
    }
}

commands! {
    /// `wharf plugin …`.
    PluginCommand {
        /// List plugins
        #[command(visible_alias = "list")]
        Ls(absent::Plugins),
    }
}

commands! {
    /// `wharf system …`.
    SystemCommand {
        /// Verify all that is kept of images, and mend it
        Check(check::Check),
        /// Show disk usage
        Df(df::Df),
        /// Proxy the stdio stream to the daemon connection
        #[command(hide = true)]
        DialStdio(system::DialStdio),
        /// Get real time events from the server
        Events(events::Events),
        /// Display system-wide information
        Info(info::Info),
        /// Remove unused data
        Prune(prune::System),
    }
}

/// A noun with its verbs.
#[derive(Debug, clap::Args)]
pub(crate) struct Group<C: Subcommand> {
    #[command(subcommand)]
    command: C,
}

macro_rules! groups {
    ($($kind:ty),*) => { $(impl Group<$kind> {
        async fn run(self, target: &Target) -> Outcome {
            self.command.run(target).await
        }
    })* };
}
groups!(
    BuilderCommand,
    BuildxCommand,
    ContainerCommand,
    ImageCommand,
    manifest::ManifestCommand,
    PluginCommand,
    SystemCommand,
    context::ContextCommand,
    network::NetworkCommand,
    registry::RegistryCommand,
    volume::VolumeCommand
);
use commands;

/// Asks the same of each name; says each name that worked, each error, and fails if any did.
async fn each(client: &Client, method: Method, names: &[String], path: impl Fn(&str) -> String) -> Outcome {
    let mut code = 0;
    for name in names {
        match client.call(method.clone(), &path(&escape(name))).await {
            Ok(()) => print(name)?,
            Err(error) => {
                say(&error.to_string());
                code = 1;
            }
        }
    }
    Ok(code)
}
