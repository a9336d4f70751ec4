//! The steps that make a backend usable.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use ipnet::IpNet;
use sinfonia_tunnel::{
    BoxOptions, Command, DEFAULT_MTU, Exit, Namespace, NamespaceError, NamespaceOptions, NetworkPlan, Peer, Stdio, Step,
};
use sinfonia_wire::LocalRecipe;
use tokio::sync::oneshot;
use tracing::{Instrument as _, info_span};

use super::{Local, SERVICE_V4, SERVICE_V6, addresses, instance::Instance, output, readiness, resolver};
use crate::{
    deployment::{Plan, Progress, quoted_output},
    dns::Zone,
    driver::{InstallError, Installed},
};

/// How long the last output of a command that has ended is waited for.
const OUTPUT_LIMIT: Duration = Duration::from_millis(200);

/// How long a client that was here before is called when its deployment is made again.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Makes a namespace, runs the command in it, and lets the client in once the command answers.
pub(super) async fn install(local: Arc<Local>, plan: Arc<Plan>, progress: Progress) -> Result<Installed, InstallError> {
    let recipe = plan
        .recipe
        .local
        .as_ref()
        .ok_or_else(|| InstallError::Command("the recipe has no `local:` section".to_owned()))?;
    progress.step("making a network namespace");
    let instance = make_namespace(&local, &plan).instrument(info_span!("make namespace")).await?;
    let namespace = &instance.namespace;
    let network = network_plan(&local, &plan);
    namespace.configure(&network).instrument(info_span!("configure network")).await.map_err(platform)?;

    let service = addresses(&local.pool, SERVICE_V4, SERVICE_V6);
    let zone = Zone::new(recipe.service(), &plan.name, &service);
    resolver::start(&instance, zone, &local.tunnel.resolvers).await?;

    let (follower, output_ended) = oneshot::channel::<()>();
    if let Some(pipe) = namespace.take_output() {
        let following = output::follow(pipe, plan.name.clone(), progress.clone());
        instance.spawn(async move {
            following.await;
            drop(follower);
        });
    }
    progress.step("starting the command");
    namespace.spawn(command(&local, recipe)).instrument(info_span!("start command")).await.map_err(not_started)?;
    let address = service.first().map(|address| SocketAddr::new(*address, recipe.port()));
    if let Some(address) = address {
        let answers = readiness::answers(namespace, address, &progress, local.start_limit);
        let exited = namespace.exited().map(describe);
        tokio::select! {
            biased;
            result = answers.instrument(info_span!("wait for backend")) => result?,
            status = exited => {
                // What it wrote last may still be in the pipe.
                let _ = tokio::time::timeout(OUTPUT_LIMIT, output_ended).await;
                return Err(InstallError::Exited { status, output: quoted_output(&progress) });
            }
        }
    }
    progress.step("connecting the tunnel");
    connect(&local, &plan, &instance)?;
    let namespace = Arc::clone(namespace);
    let exited = async move { describe(namespace.exited().await) + &quoted_output(&progress) };
    Ok(Installed { exited: exited.boxed() })
}

/// The instance is known to the driver from here on, so that a withdrawal finds it however far it came.
async fn make_namespace(local: &Local, plan: &Plan) -> Result<Arc<Instance>, InstallError> {
    let options = NamespaceOptions {
        helper: None,
        stdio: Stdio::Capture,
        boxed: Some(BoxOptions { visible: local.recipes.iter().cloned().collect(), hidden: local.hidden.clone() }),
        unprivileged_ports: true,
        present: false,
    };
    let namespace = Namespace::create(options).await.map_err(platform)?;
    let instance = Arc::new(Instance::new(namespace));
    local.instances().insert(plan.id, Arc::clone(&instance));
    Ok(instance)
}

fn network_plan(local: &Local, plan: &Plan) -> NetworkPlan {
    let resolvers = &local.tunnel.resolvers;
    let service = addresses(&local.pool, SERVICE_V4, SERVICE_V6);
    let own = resolvers.iter().chain(&service).map(|address| Step::Address(IpNet::from(*address)));
    let mut steps = vec![Step::LoopbackUp, Step::Mtu(DEFAULT_MTU)];
    steps.extend(own);
    steps.push(Step::LinkUp);
    steps.extend(local.pool.networks().map(Step::Route));
    let nameservers: String = resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
    steps.push(Step::ResolvConf(format!(
        "{nameservers}search {}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        plan.name
    )));
    NetworkPlan { steps }
}

/// The command gets the recipe's environment only: what tier2 was started with may hold secrets.
fn command(local: &Local, recipe: &LocalRecipe) -> Command {
    let mut words = recipe.command().iter().map(Into::into);
    let basic = [
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ];
    let basic = basic.into_iter().map(|(name, value)| (name.into(), value.into()));
    let own = recipe.environment().iter().map(|(name, value)| (name.into(), value.into()));
    Command {
        program: words.next().unwrap_or_default(),
        args: words.collect(),
        env: basic.chain(own).collect(),
        clear_env: true,
        current_dir: local.recipes.clone().or_else(|| Some("/".into())),
        foreground: false,
    }
}

fn connect(local: &Arc<Local>, plan: &Plan, instance: &Instance) -> Result<(), InstallError> {
    let missing = || InstallError::Platform("the namespace has no tunnel interface".to_owned());
    let tun = instance.namespace.take_tun().ok_or_else(missing)?;
    let link = local.device.add_link(tun, DEFAULT_MTU).map_err(|error| InstallError::Platform(error.to_string()))?;
    instance.set_link(link);
    let endpoint = local.endpoints().get(&plan.id).copied();
    local.device.add_peer(Peer {
        public_key: plan.id.key,
        link,
        allowed_ips: plan.addresses.iter().map(|address| IpNet::from(*address)).collect(),
        endpoint,
        keepalive: None,
    });
    if endpoint.is_some() {
        // Its session went with the earlier backend; it would notice only after some seconds.
        let (local, key) = (Arc::downgrade(local), plan.id.key);
        instance.spawn(async move {
            if let Some(local) = local.upgrade() {
                // A client that has left does not answer.
                let _ = local.device.handshake(&key, CALL_LIMIT).await;
            }
        });
    }
    Ok(())
}

fn platform(error: NamespaceError) -> InstallError {
    InstallError::Platform(error.to_string())
}

fn not_started(error: NamespaceError) -> InstallError {
    match error {
        NamespaceError::CommandNotFound { .. } | NamespaceError::CommandNotExecutable { .. } => {
            InstallError::Command(error.to_string())
        }
        other => platform(other),
    }
}

fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("killed by signal {signal}"),
        Exit::HelperLost => "its namespace was killed".to_owned(),
    }
}
