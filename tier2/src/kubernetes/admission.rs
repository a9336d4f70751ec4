//! How many deployments there may be: in total, and of one client.

use std::{net::IpAddr, sync::Arc};

use super::{
    crd::{CloudletDeployment, Phase},
    failure::Failure,
};
use crate::deployment::client_network;

/// The limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    /// The most deployments at once.
    pub(super) total: usize,
    /// The most of one client's address; none for no limit.
    pub(super) per_client: Option<usize>,
}

/// How many there are beside the one that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    total: usize,
    of_client: usize,
}

impl Load {
    /// Counts the deployments that are not over, except the object named `but`.
    pub(super) fn of(all: &[Arc<CloudletDeployment>], but: &str, client: Option<IpAddr>) -> Self {
        Self::count(all, but, client, |object| object.phase() != Some(Phase::Expired))
    }

    /// Counts those that were let in. Those that only ask do not count, or many that ask at once would keep each other
    /// out. `given` tells by name which objects got a place that their status may not show yet.
    pub(super) fn let_in(
        all: &[Arc<CloudletDeployment>],
        but: &str,
        client: Option<IpAddr>,
        given: impl Fn(&str) -> bool,
    ) -> Self {
        Self::count(all, but, client, |object| {
            let in_place = object.deployment_name().is_some() && object.phase() != Some(Phase::Expired);
            in_place || object.metadata.name.as_deref().is_some_and(&given)
        })
    }

    fn count(
        all: &[Arc<CloudletDeployment>],
        but: &str,
        client: Option<IpAddr>,
        counts: impl Fn(&CloudletDeployment) -> bool,
    ) -> Self {
        let client = client.map(client_network);
        let others = all
            .iter()
            .filter(|object| object.metadata.name.as_deref() != Some(but) && !object.is_leaving() && counts(object));
        others.fold(Self { total: 0, of_client: 0 }, |load, object| Self {
            total: load.total + 1,
            of_client: load.of_client
                + usize::from(client.is_some() && object.spec.client_address.map(client_network) == client),
        })
    }
}

impl Admission {
    /// Whether there is room for one more.
    pub(super) fn check(&self, load: &Load) -> Result<(), Failure> {
        if load.total >= self.total {
            let message =
                format!("this cloudlet has all the {} deployments it may hold (--max-deployments)", self.total);
            return Err(Failure::new("too-many-deployments", message));
        }
        match self.per_client {
            Some(most) if load.of_client >= most => {
                let message = format!(
                    "this client's address has all the {most} deployments it may have here \
                     (--max-deployments-per-client): release one, or wait until one expires"
                );
                Err(Failure::new("too-many-deployments-of-client", message))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::crd;

    fn object(n: u8, client: &str, phase: Phase) -> Arc<CloudletDeployment> {
        let mut object = crd::tests::object(n, Some(phase));
        object.spec.client_address = Some(client.parse().unwrap());
        Arc::new(object)
    }

    #[test]
    fn what_is_over_and_the_one_asked_for_do_not_count() {
        let client = Some("192.0.2.1".parse().unwrap());
        let all = [
            object(1, "192.0.2.1", Phase::Deployed),
            object(2, "192.0.2.1", Phase::Expired),
            object(3, "192.0.2.2", Phase::Initializing),
            object(4, "192.0.2.1", Phase::Withdrawn),
        ];
        let but = all[3].metadata.name.clone().unwrap();
        assert_eq!(Load::of(&all, &but, client), Load { total: 2, of_client: 1 });
        assert_eq!(Load::of(&all, "", client), Load { total: 3, of_client: 2 });
    }

    #[test]
    fn with_ipv6_a_network_is_one_client() {
        let all = [object(1, "2001:db8::1", Phase::Deployed), object(2, "2001:db8:0:1::1", Phase::Deployed)];
        let of_client = |client: &str| Load::of(&all, "", Some(client.parse().unwrap())).of_client;
        assert_eq!(of_client("2001:db8::2:3:4:5"), 1);
        assert_eq!(of_client("2001:db8:0:2::1"), 0);
        let all = [object(1, "::ffff:192.0.2.1", Phase::Deployed), object(2, "192.0.2.2", Phase::Deployed)];
        assert_eq!(Load::of(&all, "", Some("192.0.2.1".parse().unwrap())).of_client, 1);
    }

    #[test]
    fn those_that_only_ask_do_not_keep_each_other_out() {
        let named = |n, phase| {
            let mut object = Arc::unwrap_or_clone(object(n, "192.0.2.1", phase));
            object.status.as_mut().unwrap().deployment_name = Some("helloworld-abcde".parse().unwrap());
            Arc::new(object)
        };
        let all = [
            object(1, "192.0.2.1", Phase::Initializing),
            object(2, "192.0.2.1", Phase::Initializing),
            named(3, Phase::Deployed),
            named(4, Phase::Expired),
        ];
        let client = Some("192.0.2.1".parse().unwrap());
        let given = all[1].metadata.name.clone().unwrap();
        let let_in = |given: &str| Load::let_in(&all, "", client, |name| name == given);
        assert_eq!(let_in(""), Load { total: 1, of_client: 1 });
        assert_eq!(let_in(&given), Load { total: 2, of_client: 2 });
    }

    #[test]
    fn limits_are_told_apart() {
        let admission = Admission { total: 3, per_client: Some(2) };
        let code = |total, of_client| admission.check(&Load { total, of_client }).map_err(|failure| failure.code);
        assert_eq!(code(2, 1), Ok(()));
        assert_eq!(code(3, 0), Err("too-many-deployments".into()));
        assert_eq!(code(2, 2), Err("too-many-deployments-of-client".into()));
        let unlimited = Admission { total: 3, per_client: None };
        assert!(unlimited.check(&Load { total: 2, of_client: 2 }).is_ok());
    }
}
