use crate::domain::{Cloudlet, Origin};
use sinfonia_credentials::{BearerToken, TokenSource};

/// By what cloudlets know this tier1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pass {
    /// This tier1's token, if it has one.
    pub token: Option<TokenSource>,
    /// Whether anybody may report as a cloudlet.
    pub is_open: bool,
}

impl Pass {
    /// The token for a cloudlet; none for those that anybody may have made up, and none over a network where others can
    /// read it.
    pub(super) fn for_cloudlet(&self, cloudlet: &Cloudlet) -> Option<BearerToken> {
        let is_trusted = cloudlet.origin == Origin::Configured || !self.is_open;
        let is_secret = cloudlet.endpoint.url().scheme() == "https" || cloudlet.is_near;
        self.token.as_ref().filter(|_| is_trusted && is_secret)?.token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Registration, cloudlet::Moment};
    use sinfonia_wire::{CloudletId, CloudletInfo};

    #[test]
    fn the_token_goes_to_trusted_cloudlets_by_trusted_ways() {
        let pass = |is_open| Pass { token: Some("hush".parse::<BearerToken>().unwrap().into()), is_open };
        let cloudlet = |origin, url: &str, address: &str| {
            let mut info = CloudletInfo::new(format!("{url}/api/v1/deploy").parse().unwrap());
            info.uuid = Some(CloudletId::random());
            let addresses = vec![address.parse().unwrap()];
            Cloudlet::try_from(Registration { info, origin, addresses, places: vec![], heard: Moment::now() }).unwrap()
        };
        let (reported, configured) = (Origin::Reported, Origin::Configured);
        for (origin, url, address, closed, open) in [
            (reported, "https://edge.example", "8.8.8.8", true, false),
            (reported, "http://edge.example", "8.8.8.8", false, false),
            (reported, "http://tier2.sinfonia.svc:5000", "10.96.1.2", true, false),
            (configured, "https://edge.example", "8.8.8.8", true, true),
            (configured, "http://edge.example", "8.8.8.8", false, false),
            (configured, "http://127.0.0.1:5001", "127.0.0.1", true, true),
        ] {
            let cloudlet = cloudlet(origin, url, address);
            let sent = [false, true].map(|is_open| pass(is_open).for_cloudlet(&cloudlet).is_some());
            assert_eq!(sent, [closed, open], "{origin:?} {url}");
            assert!(Pass::default().for_cloudlet(&cloudlet).is_none());
        }
    }
}
