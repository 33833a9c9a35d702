//! `wharf update`.

use wharf_api::client::escape;
use wharf_api::{PortBinding, PortMap, RestartPolicy, UpdateRequest, UpdateResponse};

use super::Outcome;
use crate::connect::Target;
use crate::container_flags::{bytes, publish};
use crate::error::{CliError, print, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "UINT16", default_value_t = 0)]
    blkio_weight: u16,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "INT", default_value_t = 0)]
    cpu_period: i64,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "INT", default_value_t = 0, allow_negative_numbers = true)]
    cpu_quota: i64,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "INT", default_value_t = 0)]
    cpu_rt_period: i64,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "INT", default_value_t = 0)]
    cpu_rt_runtime: i64,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "INT", default_value_t = 0)]
    cpu_shares: i64,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL", default_value_t = 0.0)]
    cpus: f64,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    cpuset_mems: String,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "BYTES", value_parser = swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "INT", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Publish a port more: [[ip:]host:]container[/protocol]
    #[arg(long, value_name = "LIST")]
    publish_add: Vec<String>,
    /// Publish a port no more: container[/protocol], or host:container[/protocol] for one of several
    #[arg(long, value_name = "LIST")]
    publish_rm: Vec<String>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    restart: String,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

impl Update {
    /// Whether anything is to be changed.
    fn says_something(&self) -> bool {
        let numbers = [
            self.cpu_period,
            self.cpu_quota,
            self.cpu_rt_period,
            self.cpu_rt_runtime,
            self.cpu_shares,
            i64::from(self.blkio_weight),
        ];
        let sizes = [self.memory, self.memory_reservation, self.memory_swap, self.pids_limit];
        let words = [&self.cpuset_cpus, &self.cpuset_mems, &self.restart];
        numbers.iter().any(|number| *number != 0)
            || sizes.iter().any(Option::is_some)
            || words.iter().any(|word| !word.is_empty())
            || self.cpus > 0.0
            || !(self.publish_add.is_empty() && self.publish_rm.is_empty())
    }

    pub(crate) async fn run(self, target: &Target) -> Outcome {
        if !self.says_something() {
            return Err(CliError::new("you must provide one or more flags when using this command"));
        }
        let ports = |list: &[String]| -> Result<Option<PortMap>, CliError> {
            let mut ports = PortMap::new();
            for text in list {
                for (port, binding) in publish(text).map_err(CliError::new)? {
                    let bindings: &mut Vec<_> = ports.entry(port).or_default().get_or_insert_default();
                    if binding != PortBinding::default() {
                        bindings.push(binding);
                    }
                }
            }
            Ok((!ports.is_empty()).then_some(ports))
        };
        let (publish_add, publish_remove) = (ports(&self.publish_add)?, ports(&self.publish_rm)?);
        let client = target.connect().await?;
        let (name, count) = self.restart.split_once(':').unwrap_or((&self.restart, "0"));
        #[expect(clippy::cast_possible_truncation, reason = "billionths of a few processors fit")]
        let request = UpdateRequest {
            blkio_weight: self.blkio_weight,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            cpu_realtime_period: self.cpu_rt_period,
            cpu_realtime_runtime: self.cpu_rt_runtime,
            nano_cpus: (self.cpus * 1e9).round() as i64,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            memory: self.memory.unwrap_or(0),
            memory_reservation: self.memory_reservation.unwrap_or(0),
            memory_swap: self.memory_swap.unwrap_or(0),
            pids_limit: self.pids_limit,
            restart_policy: RestartPolicy {
                name: name.to_owned(),
                maximum_retry_count: count.parse().unwrap_or(0),
            },
            publish_add: publish_add.clone(),
            publish_remove,
            ..UpdateRequest::default()
        };
        let mut code = 0;
        for container in &self.containers {
            match client
                .post::<UpdateResponse>(&format!("/containers/{}/update", escape(container)), &request)
                .await
            {
                Ok(answer) => {
                    print(container)?;
                    if publish_add.is_some() {
                        super::reach::tell(&client, container).await;
                    }
                    answer.warnings.iter().flatten().for_each(|warning| say(&format!("WARNING: {warning}")));
                }
                Err(error) => {
                    say(&error.to_string());
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
