use super::{Client, Inquiry, Matcher, Near, Verdict};
use crate::domain::{Cloudlet, Snapshot};

/// Leaves everyone; its place in the chain says whose favourites are spread.
#[derive(Debug)]
pub(super) struct Load;

impl Matcher for Load {
    fn judge(&self, _: &Cloudlet, _: &Inquiry<'_>) -> Verdict {
        Verdict::Leave
    }

    fn ranked<'a>(&'a self, _: &'a Snapshot, _: &'a Client) -> Box<dyn Iterator<Item = (u32, Near)> + 'a> {
        Box::new(std::iter::empty())
    }
}
