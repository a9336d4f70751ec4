//! What expressions can see, read only where they look.

use cel::{
    Context, ExecutionError,
    common::{
        traits::{Container, Indexer},
        types::{CelDouble, CelString, Type},
        value::{CowVal, Val},
    },
};
use sinfonia_wire::{CloudletId, Location, Resources};
use std::{collections::BTreeMap, net::IpAddr};

/// Names of `cloudlet`'s and of `client`'s fields.
pub(super) const CLOUDLET: [&str; 6] = ["uuid", "name", "labels", "resources", "age", "distance"];
pub(super) const CLIENT: [&str; 3] = ["address", "lat", "lon"];

/// One cloudlet and one client, as far as known.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `cloudlet.uuid`.
    pub id: CloudletId,
    /// `cloudlet.name`.
    pub name: &'a str,
    /// `cloudlet.labels`.
    pub labels: &'a BTreeMap<String, String>,
    /// `cloudlet.resources`.
    pub resources: &'a Resources,
    /// `cloudlet.age`: seconds since it reported them.
    pub age: Option<f64>,
    /// `cloudlet.distance`: metres to the client.
    pub distance: Option<f64>,
    /// `client.address`.
    pub address: IpAddr,
    /// `client.lat` and `client.lon`, in degrees.
    pub location: Option<Location>,
}

impl<'a> Facts<'a> {
    pub(super) fn declare(&self, context: &mut Context<'_, 'a>) {
        context.add_variable_as_val("cloudlet", Box::new(Node::Cloudlet(*self)));
        context.add_variable_as_val("client", Box::new(Node::Client(*self)));
    }
}

static RECORD: Type = Type::new_unspecified_type("sinfonia.Record");

/// A value with fields.
#[derive(Clone, Debug)]
enum Node<'a> {
    Cloudlet(Facts<'a>),
    Client(Facts<'a>),
    Labels(&'a BTreeMap<String, String>),
    Resources(&'a Resources),
}

impl<'a> Node<'a> {
    fn field<'b, 'v>(&self, name: &str) -> Option<CowVal<'b, 'v>>
    where
        'a: 'v,
    {
        let number = |number: Option<f64>| number.map(|number| CowVal::owned(CelDouble::from(number)));
        match (self, name) {
            (Self::Cloudlet(facts), "uuid") => Some(CowVal::owned(CelString::from(facts.id.to_string()))),
            (Self::Cloudlet(facts), "name") => Some(CowVal::owned(CelString::from(facts.name))),
            (Self::Cloudlet(facts), "labels") => Some(CowVal::owned(Node::Labels(facts.labels))),
            (Self::Cloudlet(facts), "resources") => Some(CowVal::owned(Node::Resources(facts.resources))),
            (Self::Cloudlet(facts), "age") => number(facts.age),
            (Self::Cloudlet(facts), "distance") => number(facts.distance),
            (Self::Client(facts), "address") => {
                Some(CowVal::owned(CelString::from(facts.address.to_canonical().to_string())))
            }
            (Self::Client(facts), "lat") => number(facts.location.map(|place| place.lat())),
            (Self::Client(facts), "lon") => number(facts.location.map(|place| place.lon())),
            (Self::Labels(labels), _) => labels.get(name).map(|text| CowVal::owned(CelString::from(text.as_str()))),
            (Self::Resources(resources), _) => number(resources.get(name)),
            _ => None,
        }
    }
}

impl Val for Node<'_> {
    fn get_type(&self) -> &Type {
        &RECORD
    }

    fn cel_type() -> &'static Type {
        &RECORD
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

impl Indexer for Node<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = name(index)?;
        self.field(name).ok_or_else(|| ExecutionError::no_such_key(name))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for Node<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.field(name(value)?).is_some())
    }
}

fn name(index: &dyn Val) -> Result<&str, ExecutionError> {
    let text = index.downcast_ref::<CelString<'_>>().map(CelString::inner);
    text.ok_or_else(|| ExecutionError::UnexpectedType {
        got: index.get_type().name().to_owned(),
        want: "string".to_owned(),
    })
}
